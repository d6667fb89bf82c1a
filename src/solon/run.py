"""The run folder: what was asked, what was done, and records that survive a kill at any moment."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from solon.errors import SolonError


class RecordFile:
    """An append-only JSON Lines file of records with an ``id`` each.

    Every record is on disk before ``append`` returns. A last line torn by a kill is dropped when the file is
    next opened, so a resumed stage sees whole records only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Any]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # torn by a kill; recover() drops it before anything is appended
                try:
                    yield json.loads(line)
                except ValueError:
                    raise SolonError(
                        f"{self.path} line {number}: not a JSON record; restore the line or delete the file "
                        "to have its stage done again"
                    ) from None

    def read(self) -> list[Any]:
        return list(self)

    def ids(self) -> set[str]:
        return {record["id"] for record in self}

    def recover(self) -> "RecordFile":
        """Drop a torn last line. Call before appending."""
        if self.path.exists():
            with self.path.open("rb+") as file:
                content = file.read()
                whole = content.rfind(b"\n") + 1
                if whole < len(content):
                    file.truncate(whole)
                    os.fsync(file.fileno())
        return self

    def append(self, *records: Mapping[str, Any]) -> None:
        """Write the records and wait until they are on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(map(as_line, records))
        with self.path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def put_in_order(self, ids: Sequence[str]) -> None:
        """Sort the records like ``ids``, so that the file does not depend on which record finished first."""
        place = {name: number for number, name in enumerate(ids)}
        records = self.read()
        ordered = sorted(records, key=lambda record: place[record["id"]])
        if ordered != records:
            write_atomically(self.path, "".join(map(as_line, ordered)))


def as_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def complete(
    file: RecordFile,
    wanted: Sequence[Any],
    make: Callable[[list[Any]], Iterable[Mapping[str, Any]]],
    progress: Callable[[int, int], None],
) -> list[Any]:
    """One record for each of ``wanted``, with its id: what the file lacks is made and appended as it comes.

    ``make`` gets those of ``wanted`` that have no record yet. ``progress`` is told how many of how many are
    there. Called again after a kill it goes on where it was. The records come in the order of ``wanted``.
    """
    done = file.recover().ids()
    if other := done - {each["id"] for each in wanted}:
        raise SolonError(
            f"{file.path} holds a record '{min(other)}' of other input; give another file or delete this one"
        )
    missing = [each for each in wanted if each["id"] not in done]
    count = len(wanted) - len(missing)
    progress(count, len(wanted))
    for record in make(missing) if missing else ():
        file.append(record)
        count += 1
        progress(count, len(wanted))
    file.put_in_order([each["id"] for each in wanted])
    return file.read()


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step: a reader or a kill sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def file_hash(path: Path) -> str:
    """SHA-256 of the file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
