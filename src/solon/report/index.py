"""Where a run's transcripts are in its record files, to page, search and sort any number of them."""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from solon.errors import SolonError
from solon.prompts.dialogue import turns
from solon.records import KINDS
from solon.report.transcripts import SET_OF, Transcripts, principles, spread, words
from solon.store.record_file import RecordFile, whole
from solon.store.run_folder import TRANSCRIBED, Json, manifest_of

PAGE = 50  # transcripts on one page, as in the report

# A line is a record's place: the offset of its first byte in its file.
TABLES = """
CREATE TABLE transcript (number INTEGER PRIMARY KEY, dialogue BLOB UNIQUE, id TEXT, "set" TEXT, kind TEXT,
                         evaluation TEXT, spread REAL);
CREATE INDEX by_id ON transcript (id);
CREATE INDEX by_evaluation ON transcript (evaluation);
CREATE TABLE line (file TEXT, start INTEGER, transcript INTEGER, PRIMARY KEY (file, start)) WITHOUT ROWID;
CREATE INDEX by_transcript ON line (transcript);
CREATE TABLE used (principle TEXT, transcript INTEGER, PRIMARY KEY (principle, transcript)) WITHOUT ROWID;
CREATE TABLE hit (words TEXT, transcript INTEGER, PRIMARY KEY (words, transcript)) WITHOUT ROWID;
"""


class Wanted(NamedTuple):
    """Which transcripts, in what order; an empty string asks for all."""

    search: str = ""  # words, in either case, in any of a transcript's texts
    set: str = ""
    kind: str = ""
    principle: str = ""
    order: str = ""  # "spread": those on which judgements disagree most first


class Read(NamedTuple):
    """How far a file was read."""

    inode: int = 0
    end: int = 0  # in bytes
    lines: int = 0


class Index:
    """The transcripts of a run folder, by their places in its record files.

    The places are in a temporary database, which SQLite keeps on disk where it is large; records are read
    from their files when a page shows them. Files that grew are read on, those written anew are read anew.
    Any thread may ask.

    Raises:
        SolonError: the folder is no run folder, a record does not fit, or a record file is a link that leads
            out of the folder; ``page`` raises it too, for files that changed.
    """

    def __init__(self, folder: Path) -> None:
        manifest_of(folder)
        self.files = {
            name: RecordFile(folder / path, KINDS[Path(path).stem]) for name, path in TRANSCRIBED.items()
        }
        self._folder = folder
        self._lock = threading.Lock()
        self._empty()
        with self._lock:
            self._catch_up()

    def page(self, wanted: Wanted, number: int = 1, name: str = "") -> Json | None:
        """A page of the transcripts wanted, in the report's form, with how many there are.

        With a ``name``, the page that holds the transcript with this id; None where none does.
        """
        with self._lock:
            self._catch_up()
            if wanted.search:
                wanted = wanted._replace(search=wanted.search.lower())
                self._search(wanted.search)
            where, order = _query(wanted)
            ask = f"FROM transcript WHERE {where}"
            [count] = self._database.execute(f"SELECT count(*) {ask}", wanted._asdict()).fetchone()
            if name:
                place = self._database.execute(
                    f"SELECT place FROM (SELECT id, row_number() OVER (ORDER BY {order}) AS place {ask})"
                    " WHERE id = :name",
                    {**wanted._asdict(), "name": name},
                ).fetchone()
                if place is None:
                    return None
                number = 1 + (place[0] - 1) // PAGE
            pages = max(1, -(-count // PAGE))
            number = min(max(number, 1), pages)
            shown = self._database.execute(
                f"SELECT number {ask} ORDER BY {order} LIMIT {PAGE} OFFSET :skipped",
                {**wanted._asdict(), "skipped": PAGE * (number - 1)},
            ).fetchall()
            [total] = self._database.execute("SELECT count(*) FROM transcript").fetchone()
            joined = Transcripts()
            transcripts = [
                transcript for [which] in shown for transcript in joined.join(self._records(which))
            ]
            return {
                "total": total,
                "found": count,
                "page": number,
                "pages": pages,
                "choices": self._choices(),
                **joined.as_json(transcripts),
            }

    def _choices(self) -> dict[str, list[str]]:
        columns = {"set": "transcript", "kind": "transcript", "principle": "used"}
        return {
            column: [
                value
                for [value] in self._database.execute(
                    f'SELECT DISTINCT "{column}" AS value FROM {table} WHERE value <> "" ORDER BY value'
                )
            ]
            for column, table in columns.items()
        }

    def _records(self, transcript: int) -> dict[str, list[Any]]:
        records: dict[str, list[Any]] = {name: [] for name in TRANSCRIBED}
        for name, start in self._database.execute(
            "SELECT file, start FROM line WHERE transcript = ? ORDER BY start", [transcript]
        ):
            with self.files[name].path.open("rb") as file:
                file.seek(start)
                records[name].append(json.loads(file.readline()))
        return records

    # Reading the files

    def _empty(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(TABLES)
        self._read = dict.fromkeys(TRANSCRIBED, Read())

    def _catch_up(self) -> None:
        """Read what the files have more than they had."""
        # Asked from the last stage back: a record is known here only if those that it goes back to are.
        there = {name: self._status(name) for name in reversed(list(TRANSCRIBED))}
        if any(
            read.end and (there[name].st_ino != read.inode or there[name].st_size < read.end)
            for name, read in self._read.items()
        ):
            self._empty()
        grown = {name for name, read in self._read.items() if there[name].st_size > read.end}
        if not grown:
            return
        read = dict(self._read)
        with self._database:  # all of it, or nothing where a record does not fit
            self._database.execute("DELETE FROM hit")
            for name in TRANSCRIBED:
                if name in grown:
                    read[name] = self._read_on(name, there[name])
        self._read = read

    def _status(self, name: str) -> os.stat_result:
        path = self.files[name].path
        inside(self._folder, path)
        try:
            return path.stat()
        except FileNotFoundError:
            return os.stat_result([0] * 10)

    def _read_on(self, name: str, there: os.stat_result) -> Read:
        records, (_, end, number) = self.files[name], self._read[name]
        with records.path.open("rb") as file:
            file.seek(end)
            while end < there.st_size:
                start, line = end, file.readline()
                if line == b"\n" and number:  # the end of a last line that had none
                    end += 1
                    continue
                if not line.endswith(b"\n") and not whole(line):
                    break  # being written, or torn by a kill
                number += 1
                self._add(name, start, records.parsed(line, f"{records.path} line {number}"))
                end += len(line)
        return Read(there.st_ino, end, number)

    def _add(self, name: str, start: int, record: Any) -> None:
        transcript = self._transcript(name, record)
        if transcript is None:
            return
        self._database.execute("INSERT INTO line VALUES (?, ?, ?)", [name, start, transcript])
        if name == "answers":
            self._database.execute(
                "UPDATE transcript SET evaluation = ? WHERE number = ?", [record["id"], transcript]
            )
        self._database.executemany(
            "INSERT OR IGNORE INTO used VALUES (?, ?)",
            [(principle, transcript) for principle in principles(record)],
        )
        disagreement = spread(record.get("votes", []))
        if disagreement is not None:
            self._database.execute(
                "UPDATE transcript SET spread = max(ifnull(spread, 0), ?) WHERE number = ?",
                [disagreement, transcript],
            )

    def _transcript(self, name: str, record: Any) -> int | None:
        """The number of the transcript that the record belongs to, made where the record begins one."""
        if name == "judgements":
            ask, key = "SELECT number FROM transcript WHERE evaluation = ?", record["prompt_id"]
        else:
            ask = "SELECT number FROM transcript WHERE dialogue = ?"
            key = hashlib.sha256(json.dumps(turns(record["prompt"])).encode()).digest()
            if name != "preferences":
                self._database.execute(
                    'INSERT OR IGNORE INTO transcript (dialogue, id, "set", kind) VALUES (?, ?, ?, ?)',
                    [key, record["id"], record.get("set") or SET_OF.get(name, ""), record.get("kind", "")],
                )
        row = self._database.execute(ask, [key]).fetchone()
        return row[0] if row else None

    # Searching

    def _search(self, wanted: str) -> None:
        """Note in the table of hits which transcripts have the words, unless that was found before."""
        marked = {"words": wanted}
        if self._database.execute("SELECT 1 FROM hit WHERE words = :words", marked).fetchone():
            return
        with self._database:
            self._database.execute(
                "INSERT INTO hit VALUES (:words, 0)", marked
            )  # no transcript: it was sought
            for name in TRANSCRIBED:
                self._database.executemany(
                    "INSERT OR IGNORE INTO hit"
                    " SELECT :words, transcript FROM line WHERE file = :file AND start = :start",
                    ({**marked, "file": name, "start": start} for start in self._starts(name, wanted)),
                )

    def _starts(self, name: str, wanted: str) -> Iterator[int]:
        """Where in a file the records with the words begin."""
        quoted = json.dumps(wanted, ensure_ascii=False)[1:-1]
        end = self._read[name].end
        if name == "judgements" or not end:  # a judgement has no text of its own
            return
        with self.files[name].path.open("rb") as file:
            start = 0
            while start < end:
                line = file.readline()
                text = line.decode(errors="replace").lower()
                # Read as JSON only if the words may be there: as they are, or with characters by number.
                maybe = quoted in text or "\\u" in text or "\\/" in text
                if maybe and any(wanted in passage.lower() for passage in words(json.loads(line))):
                    yield start
                start += len(line)


def _query(wanted: Wanted) -> tuple[str, str]:
    """SQL for which transcripts are wanted and in what order; its parameters are called as the fields."""
    conditions = {
        "search": "number IN (SELECT transcript FROM hit WHERE words = :search)",
        "set": '"set" = :set',
        "kind": "kind = :kind",
        "principle": "number IN (SELECT transcript FROM used WHERE principle = :principle)",
    }
    where = [condition for field, condition in conditions.items() if getattr(wanted, field)]
    order = ["spread DESC NULLS LAST"] if wanted.order else []
    return " AND ".join(where) or "TRUE", ", ".join([*order, "evaluation IS NULL", "number"])


def inside(folder: Path, path: Path) -> None:
    """Raises SolonError for a path that leads out of the folder by a link."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise SolonError(f"{path} is a link that leads out of the run folder; put the file itself there")
