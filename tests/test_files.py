"""Hashes of files."""

import hashlib
import os
from pathlib import Path

import pytest

from solon.store import files


@pytest.mark.parametrize("size", [10, files.LARGE + 1])
def test_a_hash_is_of_what_the_file_has_now(size: int, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for number, byte in enumerate((b"a", b"b")):
        path.write_bytes(byte * size)
        os.utime(path, ns=(number, number))
        assert files.file_hash(path) == hashlib.sha256(byte * size).hexdigest()


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "weights", []
    path.write_bytes(bytes(files.LARGE))
    once = files._read_hash
    monkeypatch.setattr(files, "_read_hash", lambda path: read.append(path) or once(path))
    (tmp_path / "link").symlink_to(path)
    assert files.file_hash(path) == files.file_hash(path) == files.file_hash(tmp_path / "link")
    assert len(read) == 1
