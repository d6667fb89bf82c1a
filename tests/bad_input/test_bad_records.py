"""Record files that must be refused: those given to a stage, those to be completed, those of a run folder."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from refusals import Case, case, named, place, refused

import run_folder

TURN = [{"role": "user", "content": "Tea?"}]
PAIR = {
    "id": "a",
    "prompt": TURN,
    "set": "red-team",
    "kind": "",
    "split": "train",
    "responses": ["Gladly.", "No."],
    "problem": "",
}
GOOD = json.dumps(PAIR) + "\n"


def pair(**changes: Any) -> str:
    return json.dumps({name: value for name, value in (PAIR | changes).items() if value is not ...}) + "\n"


PAIRS = [
    case("empty", "", "holds no records", "name the file that the stage before wrote"),
    case("only a torn line", GOOD[:-20], "holds no records", "name the file"),
    case("no JSON", GOOD + "Tea?\n", "line 2: not a JSON record", "restore the line"),
    case("a torn line inside", GOOD[:-9] + "\n" + GOOD, "line 1: not a JSON record", "restore the line"),
    case("a blank line", GOOD + "\n" + GOOD, "line 2: not a JSON record", "restore the line"),
    case("a list", "[1]\n", "line 1: not a record", "restore the line"),
    case("a text", '"a"\n', "line 1: not a record", "restore the line"),
    case("bad UTF-8", GOOD.encode().replace(b"Tea", b"caf\xe9"), "line 1: not a JSON record", "restore the line"),
    case("a byte order mark", b"\xef\xbb\xbf" + GOOD.encode(), "line 1: not a JSON record", "restore the line"),
    case("UTF-16", GOOD.encode("utf-16"), "line 1: not a JSON record", "restore the line"),
    case("NUL bytes", GOOD.encode() + bytes(40) + b"\n", "line 2: not a JSON record", "restore the line"),
    case("too deep", GOOD + "[" * 100_000 + "\n", "line 2: not a JSON record", "restore the line"),
    case("a huge number", pair(id=10**4000), "line 1: not a record", "restore the line"),
    case("half a character", pair(id="\ud800"), "line 1: not a JSON record", "restore the line"),
    case("a huge broken line", GOOD + '{"id": "' + "a" * 5_000_000 + "\n", "line 2: not a JSON record", "restore"),
    case("ids twice", GOOD + GOOD, "line 2: id 'a' is that of line 1", "remove one of the two"),
    case("no id", pair(id=...), "line 1: id is missing", "add it"),
    case("a number as id", pair(id=3), "line 1: not a record", "restore the line"),
    case("no prompt", pair(prompt=...), "line 1: prompt is missing", "add it"),
    case("an empty prompt", pair(prompt=[]), "line 1: prompt is []", "change it"),
    case("a text as prompt", pair(prompt="Tea?"), "line 1: prompt is 'Tea?'", "list", "change it"),
    case("an unknown role", pair(prompt=[{"role": "bot", "content": "a"}]), "prompt[0].role is 'bot'", "change it"),
    case("no content", pair(prompt=[{"role": "user"}]), "line 1: prompt[0].content is missing", "add it"),
    case("no content at all", pair(prompt=[{"role": "user", "content": None}]), "prompt[0].content is None", "change"),
    case("one response", pair(responses=["a"]), "line 1: responses is ['a']", "change it"),
    case("three responses", pair(responses=["a", "b", "c"]), "line 1: responses is ['a', 'b', 'c']", "change it"),
    case("responses as numbers", pair(responses=[1, 2]), "line 1: responses[0] is 1", "change it"),
    case("no problem", pair(problem=...), "line 1: problem is missing", "add it"),
    case("problem null", pair(problem=None), "line 1: problem is None", "change it"),
    case("an unknown split", pair(split="test"), "line 1: split is 'test'", "'train'", "change it"),
    case("an unknown set", pair(set="blue"), "line 1: set is 'blue'", "'red-team'", "change it"),
    case("prompts instead", json.dumps({"id": "a", "prompt": TURN}) + "\n", "line 1: set is missing", "add it"),
    case("a folder", Path.mkdir, "cannot be read as a record file", "name another"),
    case("missing", lambda _: None, "does not exist", "check the path"),
]  # fmt: skip


@named(PAIRS)
def test_pairs_are_refused(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    path = place(broken.content, tmp_path / "pairs.jsonl")
    out = tmp_path / "out" / "labels.jsonl"
    refused(capsys, tmp_path, (f"{path}", *broken.says), "feedback", path, out, "--model", tiny_model)


@pytest.mark.parametrize("probability", [1.5, -0.1, None, "0.7", float("nan")])
def test_a_label_that_is_no_probability_is_refused(
    probability: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    label = {
        "id": "a", "prompt": TURN, "chosen": [{"role": "assistant", "content": "a"}], "probability": probability,
        "rejected": [{"role": "assistant", "content": "b"}], "aspect": "helpfulness", "kind": "", "split": "train",
        "label_source": "ai", "labeller": "smollm2", "votes": [],
    }  # fmt: skip
    path = place(json.dumps(label) + "\n", tmp_path / "labels.jsonl")
    command = ["preference-model", path, "--out", tmp_path / "out", "--model", tiny_model]
    refused(capsys, tmp_path, (f"{path} line 1: probability is", "change it"), *command)


# What is there where a stage is to write: nothing of it may be lost.
OUT = [
    case("notes", "Buy tea\nand milk", "line 1: not a JSON record", "restore the line"),
    case("one line of notes", "Buy tea", "does not end like a record file", "name another"),
    case("other records", GOOD, "line 1: source is missing", "add it"),
    case("a folder", Path.mkdir, "cannot be read as a record file", "name another"),
    case("other input", json.dumps({"id": "b", "prompt": TURN, "kind": "", "messages": TURN, "problem": ""}) + "\n",
         "holds a record 'b' of other input", "give another file or delete this one"),
]  # fmt: skip


@named(OUT[:2] + OUT[3:])
def test_what_is_there_already_is_kept(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    prompts = place('{"prompt": "Tea?"}\n' * 2, tmp_path / "prompts.jsonl")
    out = place(broken.content, tmp_path / "answers.jsonl")
    refused(capsys, tmp_path, (f"{out}", *broken.says), "answer", prompts, out, "--model", tiny_model)


def test_other_prompts_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path) -> None:
    out = place(OUT[2].content, tmp_path / "prompts.jsonl")
    command = ["red-team", out, "--count", "2", "--model", tiny_model]
    refused(capsys, tmp_path, (f"{out}", *OUT[2].says), *command)
    prompt = {
        "id": "b",
        "prompt": TURN,
        "set": "red-team",
        "kind": "",
        "split": "train",
        "source": "packaged",
    }
    place(json.dumps(prompt) + "\n", out)
    refused(capsys, tmp_path, (f"{out}", "'b'", "give another file or delete this one"), *command)


def changed(line: int, **changes: Any) -> Callable[[Path], None]:
    """A record file with one record of it changed."""

    def change(path: Path) -> None:
        records = [json.loads(each) for each in path.read_text().splitlines()]
        records[line - 1] = {k: v for k, v in (records[line - 1] | changes).items() if v is not ...}
        path.write_text("".join(json.dumps(each) + "\n" for each in records))

    return change


def added(text: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes() + text) and None  # type: ignore[func-returns-value]


RUN: list[tuple[str, str | bytes | Callable[[Path], None], Iterable[str]]] = [
    ("manifest.json", "", ("manifest.json", "restore it")),
    ("manifest.json", "[]", ("manifest.json", "restore it")),
    ("manifest.json", '{"stages": ', ("manifest.json", "restore it")),
    ("manifest.json", '{"stages": [1]}', ("manifest.json: stages is [1]", "restore it")),
    ("manifest.json", b"\xff", ("manifest.json", "restore it")),
    ("manifest.json", "[" * 100_000, ("manifest.json", "restore it")),
    ("config.yaml", "seed: [\n", ("config.yaml", "mend it")),
    ("config.yaml", b"seed: \xff\n", ("config.yaml", "UTF-8")),
    ("evaluation/summary.json", "{", ("summary.json", "restore it")),
    ("evaluation/summary.json", '{"elo": 3}', ("summary.json", "restore it")),
    ("01-red-team/prompts.jsonl", changed(2, prompt=...), ("prompts.jsonl line 2: prompt is missing", "add it")),
    ("02-critique/revisions.jsonl", changed(1, rounds=3), ("revisions.jsonl line 1: rounds is 3", "change it")),
    ("02-critique/helpful.jsonl", changed(1, messages=[]), ("helpful.jsonl line 1: messages is []", "change it")),
    ("04-comparison/pairs.jsonl", added(b"{}\n"), ("pairs.jsonl line", "id is missing", "add it")),
    ("05-feedback/preferences.jsonl", changed(3, votes=[{}]), ("line 3: votes[0].principle is missing", "add it")),
    ("05-feedback/preferences.jsonl", changed(3, probability=7), ("line 3: probability is 7", "change it")),
    ("06-preference-model/metrics.jsonl", added(b"[]\n"), ("metrics.jsonl line", "not a record", "restore")),
    ("07-rl-cai/metrics.jsonl", added(b"\xff\n"), ("metrics.jsonl line", "not a JSON record", "restore")),
    ("evaluation/answers.jsonl", changed(1, answers=[3]), ("answers.jsonl line 1: answers[0] is 3", "write them")),
    ("evaluation/judgements.jsonl", changed(1, probability="x"), ("line 1: probability is 'x'", "change it")),
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder.build(tmp_path_factory.mktemp("finished") / "run")


@pytest.mark.parametrize(
    ("name", "damage", "says"), RUN, ids=[f"{n} {number}" for number, (n, _, _) in enumerate(RUN)]
)
def test_a_damaged_run_folder_is_refused_by_report(
    name: str,
    damage: str | bytes | Callable[[Path], None],
    says: Iterable[str],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    place(damage, folder / name)
    refused(capsys, tmp_path, says, "report", folder)
