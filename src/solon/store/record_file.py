"""Files of records that survive a kill at any moment."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from solon.errors import SolonError
from solon.misfits import misfits
from solon.store.files import write_atomically


class RecordFile:
    """An append-only JSON Lines file of records with an ``id`` each.

    Every record is on disk before ``append`` returns. A last line torn by a kill is dropped when the file is
    next opened, so a resumed stage sees whole records only. ``kind`` is the type in ``records`` that every
    record must fit, each with an id of its own; without one any JSON object does.
    """

    def __init__(self, path: Path, kind: Any = None) -> None:
        self.path = path
        self.kind = TypeAdapter(kind) if kind else None

    def __iter__(self) -> Iterator[Any]:
        """The records. Raises SolonError, naming the line, for one that cannot be read or does not fit."""
        if not self.path.exists():
            return
        lines: dict[str, int] = {}
        with self._opened("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and not whole(line):
                    return  # torn by a kill; recover() drops it before anything is appended
                record = self.parsed(line, f"{self.path} line {number}")
                if self.kind and (earlier := lines.setdefault(record["id"], number)) != number:
                    twice = f"id {record['id']!r:.60} is that of line {earlier}"
                    raise SolonError(f"{self.path} line {number}: {twice}; remove one of the two")
                yield record

    def parsed(self, line: bytes, place: str) -> Any:
        """The record in a line. Raises SolonError, naming the ``place``, where there is none that fits."""
        try:
            record = json.loads(line.decode())
            if rb"\ud" in line.lower():  # half a character, unless the other half follows
                json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            mend = "restore the line or delete the file to have its stage done again"
            raise SolonError(f"{place}: not a JSON record; {mend}") from None
        if not isinstance(record, dict) or not isinstance(record.get("id", ""), str):
            raise SolonError(f'{place}: not a record such as {{"id": "..."}}; restore the line')
        if self.kind:
            try:
                self.kind.validate_python(record, strict=True)
            except ValidationError as error:
                raise SolonError(f"{place}: {next(misfits(error))}") from None
        return record

    def read(self) -> list[Any]:
        return list(self)

    def ids(self) -> set[str]:
        """Raises SolonError where a record has none."""
        try:
            return {record["id"] for record in self}
        except KeyError:
            raise SolonError(f"{self.path} has a record without an id; name a record file") from None

    def recover(self) -> "RecordFile":
        """Drop a torn last line. Call before appending.

        Raises SolonError where the file holds something else than records, and leaves it as it is.
        """
        if not self.path.exists():
            return self
        for _ in self:
            pass
        with self._opened("rb+") as file:
            content = file.read()
            end = content.rfind(b"\n") + 1
            torn = content[end:]
            if torn.strip(b"\0") and not torn.startswith(b"{"):
                raise SolonError(f"{self.path} does not end like a record file; name another")
            if whole(torn):
                file.write(b"\n")
            elif torn:
                file.truncate(end)
            os.fsync(file.fileno())
        return self

    def _opened(self, mode: str) -> Any:
        try:
            return self.path.open(mode)
        except OSError as error:
            raise SolonError(
                f"{self.path} cannot be read as a record file ({error.strerror}); name another"
            ) from None

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
            write(self.path, ordered)


def whole(line: bytes) -> bool:
    """Whether a line lacks no more than its end: no part of an object is an object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def as_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Put the records in the file's place, all at once."""
    write_atomically(path, "".join(map(as_line, records)))


def complete(
    file: RecordFile,
    wanted: Sequence[Any],
    make: Callable[[list[Any]], Iterable[Mapping[str, Any]]],
    progress: Callable[[int, int], None],
    block: int = 1,
    aside: RecordFile | None = None,
) -> list[Any]:
    """One record for each of ``wanted``, with its id: what the file lacks is made and appended as it comes.

    ``make`` gets those of ``wanted`` that have no record yet, and with them the rest of their block: each
    ``block`` of ``wanted`` is made as a whole or not at all. What the file has stays. ``progress`` is told
    how many of how many are there. Called again after a kill it goes on where it was. The records come in
    the order of ``wanted``. Those made with a ``problem`` go to the file ``aside`` where there is one.
    """
    files = [file, aside] if aside else [file]
    done = {name for each in files for name in each.recover().ids()}
    if other := done - {item["id"] for item in wanted}:
        raise SolonError(
            f"{file.path} holds a record '{min(other)}' of other input; give another file or delete this one"
        )
    blocks = [wanted[start : start + block] for start in range(0, len(wanted), block)]
    missing = [item for block in blocks if any(one["id"] not in done for one in block) for item in block]
    progress(len(done), len(wanted))
    for record in make(missing) if missing else ():
        if record["id"] not in done:
            (aside if aside and record.get("problem") else file).append(record)
            done.add(record["id"])
            progress(len(done), len(wanted))
    for each in files:
        each.put_in_order([item["id"] for item in wanted])
    return file.read()
