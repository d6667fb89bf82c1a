"""Record files: durable, resumable, in a fixed order; and what is said of damaged ones."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from solon.errors import SolonError
from solon.store.files import write_atomically
from solon.store.record_file import RecordFile, complete

WANTED = [{"id": name} for name in "abcd"]


def ignore(done: int, total: int) -> None:
    pass


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.append({"id": "a"}, {"id": "é"})
    with file.path.open("ab") as raw:
        raw.write(b'{"id": "to')
    assert [each["id"] for each in file] == ["a", "é"]
    file.recover().append({"id": "c"})
    assert [each["id"] for each in file] == ["a", "é", "c"]
    assert file.path.read_bytes().count(b"\n") == 3


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"id": "a"}\n{"id": \n{"id": "c"}\n')
    with pytest.raises(SolonError, match=r"records.jsonl line 2: not a JSON record"):
        RecordFile(path).read()


def test_complete_makes_what_is_missing_in_the_order_wanted(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.append({"id": "c", "n": 0})
    asked: list[str] = []
    told: list[tuple[int, int]] = []

    def make(missing: list[dict[str, str]]) -> list[dict[str, object]]:
        asked.extend(each["id"] for each in missing)
        return [{"id": each["id"], "n": 1} for each in reversed(missing)]

    records = complete(file, WANTED, make, lambda done, total: told.append((done, total)))
    assert asked == ["a", "b", "d"]
    assert [(each["id"], each["n"]) for each in records] == [("a", 1), ("b", 1), ("c", 0), ("d", 1)]
    assert file.read() == records
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert complete(file, WANTED, lambda missing: pytest.fail("nothing is missing"), ignore) == records


def test_complete_keeps_what_was_made_before_it_was_stopped(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")

    def stopped(missing: list[dict[str, str]]) -> Iterator[dict[str, str]]:
        yield missing[1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(file, WANTED, stopped, ignore)
    assert [json.loads(line)["id"] for line in file.path.read_text().splitlines()] == ["b"]


def test_a_block_is_made_as_a_whole_and_what_is_there_stays(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.append({"id": "a", "n": 0}, {"id": "b", "n": 0}, {"id": "d", "n": 0})
    asked: list[str] = []

    def make(missing: list[dict[str, str]]) -> list[dict[str, object]]:
        asked.extend(each["id"] for each in missing)
        return [{"id": each["id"], "n": 1} for each in missing]

    records = complete(file, [*WANTED, {"id": "e"}], make, ignore, block=2)
    assert asked == ["c", "d", "e"]
    assert [(each["id"], each["n"]) for each in records] == [
        ("a", 0),
        ("b", 0),
        ("c", 1),
        ("d", 0),
        ("e", 1),
    ]


def test_records_of_other_input_are_refused(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl")
    file.append({"id": "z"})
    with pytest.raises(SolonError, match=r"records.jsonl holds a record 'z' of other input"):
        complete(file, WANTED, lambda missing: missing, ignore)
    assert [each["id"] for each in file] == ["z"]


def test_an_atomic_write_leaves_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert [each.name for each in path.parent.iterdir()] == ["file.txt"]
