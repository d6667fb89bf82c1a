"""Reads rows from a file or from ``datasets``; what is wrong is said with the row's place."""

import csv
import gzip
import io
import json
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from solon.errors import SolonError, first_line

T = TypeVar("T")

csv.field_size_limit(2**31 - 1)  # a dialogue may well have more than the 131,072 characters that it is

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".csv", ".csv.gz", ".parquet")
HUB = "datasets:"
SHORTER = "write it flat, and long numbers as text"  # the mend for JSON that Python will not read


@dataclass(frozen=True)
class Row:
    values: dict[str, Any]
    place: str  # "FILE line 3", for messages


def rows(source: str) -> Iterator[Row]:
    """The rows of a file with one of ``ENDINGS``, or of "datasets:NAME" or "datasets:NAME:SPLIT".

    NAME is what ``datasets.load_dataset`` takes; a folder inside a hub dataset may follow its name
    ("datasets:OWNER/NAME/FOLDER"). Raises SolonError for a source that cannot be read or holds no row.
    """
    if source.startswith(HUB):
        table = hub_rows(source)
    elif source.endswith(".parquet"):
        table = parquet_rows(Path(source))
    elif source.endswith((".csv", ".csv.gz")):
        table = csv_rows(Path(source))
    elif source.endswith(".json"):
        table = json_rows(Path(source))
    elif source.endswith((".jsonl", ".jsonl.gz")):
        table = jsonl_rows(Path(source))
    else:
        raise SolonError(
            f"{source}: unknown kind of source; give 'datasets:NAME' or a {', '.join(ENDINGS)} file"
        )
    empty = True
    for row in table:
        empty = False
        yield row
    if empty:
        raise SolonError(f"{source} holds no rows; add some or name another source")


def usable(source: str, table: Iterable[Row], read: Callable[[Row], T]) -> Iterator[tuple[Row, T]]:
    """Each row with what ``read`` makes of it.

    Rows of "datasets:NAME" that it raises SolonError for, and nobody here can mend, are left out and counted
    in a warning; all others raise. So does a data set of which no row is any use.
    """
    wrong, sound = [], 0
    for row in table:
        try:
            found = read(row)
        except SolonError as error:
            if not source.startswith(HUB):
                raise
            wrong.append(error)
        else:
            sound += 1
            yield row, found
    if wrong and not sound:
        raise wrong[0]
    if wrong:
        tell(f"{len(wrong)} of {len(wrong) + sound} rows of {source} are left out, such as {wrong[0]}.")


@cache
def tell(note: str) -> None:
    """Once: sources are read several times."""
    logging.getLogger("solon").warning(note)


def label(source: str) -> str:
    """What records call the source: the name of the file, without its folder, or "datasets:NAME"."""
    if source.startswith(HUB):
        name, _ = name_and_split(source)
        return HUB + (Path(name).name if Path(name).exists() else name)
    return Path(source).name


def source_name(source: str | None) -> str | None:
    """What a stage's inputs call a source: a file by its name, since it may be moved; others as they are."""
    return Path(source).name if source and not source.startswith(HUB) else source


def jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(re.split(r"\r\n?|\n", text_of(path)), 1):
        if line.strip():
            place = f"{path} line {number}"
            yield json_row(parse(line, place), place)


def json_rows(path: Path) -> Iterator[Row]:
    text = text_of(path)
    if not text.strip():
        return
    try:
        items = json.loads(text, object_pairs_hook=without_repeats)
    except SolonError as error:
        raise SolonError(f"{path}: {error}") from None
    except json.JSONDecodeError as error:
        more = "; name a file of one object a line .jsonl" if error.msg == "Extra data" else "; mend it there"
        raise SolonError(f"{path} line {error.lineno}: not valid JSON: {error.msg}{more}") from None
    except (ValueError, RecursionError):
        raise SolonError(f"{path}: it is nested too deep, or a number is too long; {SHORTER}") from None
    if not isinstance(items, list):
        raise SolonError(
            f"{path} line 1: expected a list of objects, found a {type(items).__name__}; put it in [ ]"
        )
    for number, item in enumerate(items, 1):
        place = f"{path} item {number}"
        yield json_row(item, place)


def json_row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise SolonError(
            f'{place}: expected an object such as {{"prompt": "..."}}, found {value!r:.60}; mend it'
        )
    return Row(value, place)


def csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    line = 1
    try:
        columns = next(reader, [])
        if twice := [name for name, count in Counter(columns).items() if count > 1]:
            raise SolonError(
                f"{path} line 1: the column {twice[0]!r:.60} is given twice; rename one of the two"
            )
        line = reader.line_num + 1
        for cells in reader:
            line = reader.line_num - sum(cell.count("\n") for cell in cells)  # where the row begins
            place = f"{path} line {line}"
            if cells and len(cells) != len(columns):
                raise SolonError(
                    f"{place}: has {len(cells)} cells where line 1 has {len(columns)}; quote commas"
                )
            if cells:
                yield Row(dict(zip(columns, cells, strict=True)), place)
            line = reader.line_num + 1
    except csv.Error as error:
        raise SolonError(f"{path} line {line}: not valid CSV: {error}; mend it there") from None


def parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    missing(path)
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise SolonError(f"{path} cannot be read as Parquet: {first_line(error)}; write it anew") from None
    for number, values in enumerate(table.to_pylist(), 1):
        yield Row(values, f"{path} row {number}")


def hub_rows(source: str) -> Iterator[Row]:
    import datasets

    name, split = name_and_split(source)
    folder = None
    if not Path(name).exists() and name.count("/") > 1:
        owner, dataset, folder = name.split("/", 2)
        name = f"{owner}/{dataset}"
    try:
        loaded = datasets.load_dataset(name, data_dir=folder, split=split)
    except Exception as error:  # loaders run all sorts of code, and raise all sorts of errors
        raise SolonError(
            f"{source} cannot be loaded: {first_line(error)}; check name and split (datasets:NAME:SPLIT)"
        ) from None
    for number, values in enumerate(loaded, 1):
        yield Row(values, f"{source} row {number}")


def name_and_split(source: str) -> tuple[str, str]:
    name, _, split = source.removeprefix(HUB).partition(":")
    return name, split or "train"


def text_of(path: Path) -> str:
    """The file's text, unpacked where its name ends in ``.gz``."""
    missing(path)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise SolonError(f"{path} cannot be read: {first_line(error)}; write the file anew") from None
    try:
        return content.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SolonError(f"{path} line {line}: not UTF-8 text; save the file as UTF-8") from None


def missing(path: Path) -> None:
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise SolonError(f"{path} {what}; check the path")


def parse(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except SolonError as error:
        raise SolonError(f"{place}: {error}") from None
    except json.JSONDecodeError as error:
        raise SolonError(
            f"{place}: not valid JSON: {error.msg} at column {error.colno}; mend it there"
        ) from None
    except (ValueError, RecursionError):
        raise SolonError(f"{place}: it is nested too deep, or a number is too long; {SHORTER}") from None


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless a field is there twice (the parser would keep the last one and say nothing)."""
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise SolonError(f"'{key}' is given a second time; remove one of the two")
        fields[key] = value
    return fields
