"""The viewer: it pages every record from the files, shows the run folder alone, and only shows."""

import hashlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import run_folder
from command import fails
from solon.errors import SolonError
from solon.report import transcripts
from solon.report.index import PAGE, Index, Wanted
from solon.report.viewer import Viewer
from solon.store.record_file import RecordFile, as_line
from solon.store.run_folder import read

ALL = Wanted()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder.build(tmp_path_factory.mktemp("runs") / "kind-model", prompts=48)


@contextmanager
def served(run: Path) -> Iterator[Viewer]:
    with Viewer(run, 0) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield viewer
        finally:
            viewer.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def viewer(finished: Path) -> Iterator[Viewer]:
    with served(finished) as viewer:
        yield viewer


def ask(viewer: Viewer, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, str]:
    """The status, headers and body of an answer; the path goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.server_port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


def every(index: Index, wanted: Wanted = ALL) -> list[Any]:
    """All transcripts wanted, page by page."""
    found: list[Any] = []
    for number in range(1, 1000):
        page = index.page(wanted, number)
        assert page is not None
        found += page["transcripts"]
        if number == page["pages"]:
            assert len(found) == page["found"]
            return found
    raise AssertionError("pages without end")


def test_pages_hold_what_the_report_holds(finished: Path) -> None:
    gathered = transcripts.gather(read(finished))
    index = Index(finished)
    first = index.page(ALL)
    assert first is not None
    assert (first["total"], first["found"], first["pages"]) == (72, 72, 2)
    assert len(first["transcripts"]) == PAGE
    for mine, its in zip(every(index), gathered["transcripts"], strict=True):
        plain = {"rounds", "pairs"}  # these refer to texts by number
        assert {key: mine[key] for key in mine if key not in plain} == {
            key: its[key] for key in its if key not in plain
        }
        assert [each["revision"] for each in mine.get("rounds", [])] == [
            each["revision"] for each in its.get("rounds", [])
        ]
        assert [each["responses"] for each in mine.get("pairs", [])] == [
            each["responses"] for each in its.get("pairs", [])
        ]
    shown = next(each for each in first["transcripts"] if each.get("pairs") and each["pairs"][0]["labels"])
    vote = shown["pairs"][0]["labels"][0]["votes"][0]
    principle, instruction = first["instructions"][vote["instruction"]]
    assert instruction == run_folder.INSTRUCTION.format(principle)


def test_the_page_of_a_transcript_is_found(finished: Path) -> None:
    index = Index(finished)
    wanted = Wanted(order="spread")
    for each in every(index, wanted)[::7]:
        page = index.page(wanted, name=each["id"])
        assert page is not None
        assert each["id"] in [one["id"] for one in page["transcripts"]]
    assert index.page(Wanted(), name="nobody") is None
    last = index.page(Wanted(), 10**8)
    assert last is not None
    assert last["page"] == 2


def rewrite(path: Path, *records: Any) -> None:
    path.unlink()
    RecordFile(path).append(*records)


def test_searches_are_literal_and_find_escaped_text(tmp_path: Path) -> None:
    run = run_folder.build(tmp_path / "run", prompts=6)
    path = run / "01-red-team/prompts.jsonl"
    records = RecordFile(path).read()
    told = 'A "quoted" back\\slash/and\ttab, 100% of a_b, Ärger und ÉTÉ, 日本語, \U0001f600'
    records[4]["prompt"] = [{"role": "user", "content": told}]
    path.write_text("".join(map(as_line, records[:4])) + json.dumps(records[4]).replace("/", "\\/") + "\n")
    index = Index(run)
    for words in (
        '"QUOTED"',
        "back\\slash/and",
        "and\ttab",
        "100%",
        "a_b",
        "ärger",
        "été",
        "日本",
        "\U0001f600",
    ):
        [found] = every(index, Wanted(search=words))
        assert found["prompt"][0]["content"] == told, words
    for words in ("\\u", "a%b", "quoted%", "axb", '"role"', "content", "' OR 1=1 --", "critique_request"):
        assert every(index, Wanted(search=words)) == [], words


def test_new_lines_are_read_on_and_new_files_anew(tmp_path: Path) -> None:
    run = run_folder.build(tmp_path / "run", prompts=6)
    path = run / "01-red-team/prompts.jsonl"
    first = RecordFile(path).read()[0]
    index = Index(run)
    assert len(every(index)) == 9

    def new(name: str) -> Any:
        return {**first, "id": name, "kind": "new", "prompt": [{"role": "user", "content": f"Ask {name}?"}]}

    with path.open("a") as file:
        file.write(as_line(new("one"))[:-9])
    assert len(every(index)) == 9  # torn
    with path.open("a") as file:
        file.write(as_line(new("one"))[-9:-1])
    assert len(every(index)) == 10  # whole, but for its end
    with path.open("a") as file:
        file.write("\n" + as_line(new("two")))
    assert [each["id"] for each in every(index, Wanted(kind="new"))] == ["one", "two"]
    assert len(every(index, Wanted(search="ask t"))) == 1
    RecordFile(path).append(new("three"))
    assert len(every(index, Wanted(search="ask t"))) == 2  # not what was found before
    RecordFile(path).put_in_order([each["id"] for each in reversed(RecordFile(path).read())])
    assert [each["id"] for each in every(index, Wanted(kind="new"))] == ["three", "two", "one"]
    (run / "evaluation/answers.jsonl").unlink()
    assert not any("answers" in each for each in every(index))


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    run = run_folder.build(tmp_path / "run", prompts=6)
    index = Index(run)
    path = run / "04-comparison/pairs.jsonl"
    with path.open("a") as file:
        file.write('{"id": "x", "prompt": 3}\n')
    lines = len(path.read_text().splitlines())
    for _ in range(2):
        with pytest.raises(SolonError, match=f"pairs.jsonl line {lines}: "):
            index.page(ALL)
    with pytest.raises(SolonError, match=f"pairs.jsonl line {lines}: "):
        Index(run)


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """SQLite's memory is not Python's; it is bounded by its page cache."""
    path = tmp_path / "01-red-team/prompts.jsonl"
    path.parent.mkdir()
    (tmp_path / "config.yaml").write_text("seed: 0\n")

    def peak(count: int) -> int:
        with path.open("w") as file:
            for number in range(count):
                words = f"Question {number}? " + "Please answer at length. " * 40
                record = {
                    "id": f"p{number}",
                    "prompt": [{"role": "user", "content": words}],
                    "set": "red-team",
                }
                file.write(as_line({**record, "kind": "", "split": "train", "source": "packaged"}))
        tracemalloc.start()
        index = Index(tmp_path)
        page = index.page(Wanted(search=f"question {count - 1}?"))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert page is not None
        assert page["found"] == 1
        return most

    few, many = peak(300), peak(6000)
    assert many < few + 1_000_000 < path.stat().st_size


def test_it_answers_with_a_strict_policy(viewer: Viewer) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/transcripts", "text/html"),
        ("/transcripts.json", "application/json"),
    ):
        status, headers, _ = ask(viewer, path)
        assert status == 200
        assert headers.get_content_type() == kind
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in policy.get("script-src", "")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Python" not in headers["Server"]


def test_a_page_of_json_is_asked_by_address(viewer: Viewer) -> None:
    _, _, body = ask(viewer, "/transcripts.json?set=helpful&page=1&search=tides")
    found = json.loads(body)
    assert found["found"] == 8
    assert all(each["set"] == "helpful" for each in found["transcripts"])
    assert ask(viewer, "/transcripts.json?id=nobody")[2] == "null"
    for query in ("page=x", "page=-1", "page=1e9", "page=" + "9" * 40, "page=%C2%B2"):
        assert ask(viewer, f"/transcripts.json?{query}")[0] == 400, query
    assert ask(viewer, "/transcripts.json?" + "a=1&" * 100)[0] == 400
    assert ask(viewer, "/transcripts.json?search=%FF%00")[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{}",
        "127.0.0.1.evil.example:{}",
        "127.0.0.1@evil.example",
        "0.0.0.0:{}",
        "",
        "localhost.:{}",
        "[::1]:{}",
        "127.1:{}",
        "2130706433:{}",
        "evil.example#127.0.0.1",
        "localhost/x:{}",
        "[",
        "a]",
    ],
)
def test_foreign_hosts_are_refused(viewer: Viewer, host: str) -> None:
    status, _, body = ask(viewer, "/", Host=host.format(viewer.server_port))
    assert status == 403
    assert "kind-model" not in body


def test_own_names_are_answered(viewer: Viewer) -> None:
    for host in ("localhost:{}", "127.0.0.1:{}", "LOCALHOST:{}", "localhost:9999", "localhost"):
        assert ask(viewer, "/transcripts", Host=host.format(viewer.server_port))[0] == 200, host


def raw(viewer: Viewer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", viewer.server_port), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_requests_without_one_host_are_refused(viewer: Viewer) -> None:
    here = f"127.0.0.1:{viewer.server_port}".encode()
    for lines in (b"", b"Host: " + here + b"\r\nHost: evil.example\r\n"):
        assert b" 403 " in raw(viewer, b"GET / HTTP/1.1\r\n" + lines + b"\r\n").split(b"\r\n")[0]
    proxied = b"GET http://evil.example/ HTTP/1.1\r\nHost: " + here + b"\r\n\r\n"
    assert b" 404 " in raw(viewer, proxied).split(b"\r\n")[0]
    assert b"kind-model" not in raw(viewer, b"GET /\r\n\r\n")  # HTTP/0.9 has no Host
    assert b"kind-model" not in raw(viewer, b"nonsense\x00 / x\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_it_only_shows(viewer: Viewer, finished: Path, method: str) -> None:
    def state() -> dict[Path, str]:
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in finished.rglob("*")
            if path.is_file()
        }

    before = state()
    for path in ("/", "/transcripts.json", "/config.yaml"):
        status, headers, _ = ask(viewer, path, method)
        assert status == 405
        assert headers["Allow"] == "GET, HEAD"
        ask(viewer, path)
    assert state() == before


def test_head_has_no_body(viewer: Viewer) -> None:
    status, headers, body = ask(viewer, "/transcripts", "HEAD")
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) == len(ask(viewer, "/transcripts")[2].encode())


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/etc/passwd",
        "/config.yaml",
        "/transcripts/../config.yaml",
        "/transcripts/",
        "/..\\..\\etc\\passwd",
        "/%00",
        "file:///etc/passwd",
        "//evil.example/",
        "/transcripts.json/..%2f",
        "/report.html",
        "/.",
        "*",
        "/%252e%252e/etc/passwd",
    ],
)
def test_there_are_no_paths_of_files(viewer: Viewer, path: str) -> None:
    status, _, body = ask(viewer, path)
    assert status == 404
    assert "root:" not in body
    assert "seed" not in body


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    run = run_folder.build(tmp_path / "run", prompts=6)
    path = run / "02-critique/helpful.jsonl"
    with served(run) as viewer:
        assert ask(viewer, "/transcripts.json")[0] == 200
        path.rename(tmp_path / "elsewhere.jsonl")
        path.symlink_to(tmp_path / "elsewhere.jsonl")
        for address in ("/", "/transcripts.json"):
            status, _, body = ask(viewer, address)
            assert (status, "leads out of the run folder" in body) == (500, True), address
        path.unlink()
        (run / "config.yaml").unlink()
        (run / "config.yaml").symlink_to("/etc/hostname")
        assert ask(viewer, "/")[0] == 500
    with pytest.raises(SolonError, match="leads out"):
        (run / "01-red-team").rename(tmp_path / "01")
        (run / "01-red-team").symlink_to(tmp_path / "01")
        Index(run)
    (run / "01-red-team").unlink()
    (run / "kept").mkdir()
    (tmp_path / "01/prompts.jsonl").replace(run / "kept/prompts.jsonl")
    (run / "01-red-team").symlink_to("kept")  # a link within the folder is as good as a file
    assert len(every(Index(run))) == 9


def test_many_ask_at_once(viewer: Viewer) -> None:
    answers: list[tuple[int, int]] = []

    def read(number: int) -> None:
        status, _, body = ask(
            viewer, f"/transcripts.json?search=case {number}&order=spread".replace(" ", "%20")
        )
        answers.append((status, json.loads(body)["found"]))

    threads = [threading.Thread(target=read, args=[number]) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 24
    assert {status for status, _ in answers} == {200}
    assert min(found for _, found in answers) >= 1


def test_the_command_names_what_to_mend(finished: Path, viewer: Viewer, tmp_path: Path, capsys: Any) -> None:
    assert "is not a run folder" in fails(capsys, "view", tmp_path)
    said = fails(capsys, "view", finished, "--port", str(viewer.server_port))
    assert "cannot be had (Address already in use); give another with --port" in said


def test_the_command_serves_until_it_is_stopped(finished: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from solon import cli; cli.main()",
        "view",
        str(finished),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}transcripts.json", timeout=20) as answer:
            assert json.load(answer)["total"] == 72
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in said
