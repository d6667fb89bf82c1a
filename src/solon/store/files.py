"""Files that are on disk when it is said so: whole, or as they were."""

import hashlib
import os
from functools import cache
from pathlib import Path

LARGE = 2**24  # bytes: a model asks for its weights' hash in every role and stage


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step: a reader or a kill sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def flush(path: Path) -> None:
    """Wait until the file, or every file in the folder, is on disk."""
    for entry in [path, *path.rglob("*")] if path.is_dir() else [path]:
        number = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def file_hash(path: Path) -> str:
    """SHA-256 of the file, hexadecimal. A large one is read again only where it has changed."""
    state = path.stat()
    if state.st_size < LARGE:
        return _read_hash(path)
    return _known_hash(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)


@cache
def _known_hash(path: Path, *state: int) -> str:
    return _read_hash(path)


def _read_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local(place: str) -> Path | None:
    """The file or folder at ``place``, where there is one."""
    try:
        path = Path(place).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # a name too long for any file, or the home of nobody
        return None


SEAL = "\n<!-- SHA-256 of the page above: {} -->\n"


def sealed(page: str) -> str:
    """The page with its own hash at its end, so that it shows whether it was changed."""
    return page + SEAL.format(hashlib.sha256(page.encode()).hexdigest())


def unsealed(page: str) -> str | None:
    """The page that was sealed; None where it has no seal. Raises ValueError where it was changed since."""
    before, after = SEAL.split("{}")
    text, mark, digest = page.rpartition(before)
    if not mark:
        return None
    if hashlib.sha256(text.encode()).hexdigest() != digest.removesuffix(after):
        raise ValueError("the page is not the one that was sealed")
    return text
