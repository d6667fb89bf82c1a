"""A disk that is full, or that may not be written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from killing import CONTEXT, finish, results

from solon import cli
from solon.config import Config


def mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not (sys.platform == "linux" and mount(folder, "size=1m")):
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def command(arguments: list[str], said: str) -> None:
    """``solon`` with its standard error in the file ``said``."""
    number = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 2)
    sys.stderr = os.fdopen(number, "w", buffering=1)
    sys.argv = ["solon", *arguments]
    cli.main()


def fails(settings: Config, folder: Path, beside: Path) -> str:
    """What ``solon run`` says in its last line."""
    (beside / "run.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    arguments = ["run", str(beside / "run.yaml"), "--dir", str(folder)]
    process = CONTEXT.Process(target=command, args=(arguments, str(beside / "said")))
    process.start()
    process.join()
    said = (beside / "said").read_text()
    assert process.exitcode == 2, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_a_disk_that_is_full_or_may_not_be_written(
    settings: Config, whole: Path, disk: Path, tmp_path: Path
) -> None:
    folder = disk / "run"
    # Full among the records, in a checkpoint with its optimiser, and in a finished model.
    for size in ("100k", "1m", "2600k"):
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
        said = fails(settings, folder, tmp_path)
        assert "No space left on device" in said
        assert "mend that and give the same command again" in said
    subprocess.run(["mount", "-o", "remount,size=100m,ro", str(disk)], check=True)
    said = fails(settings, folder, tmp_path)
    assert "Read-only file system" in said
    assert "mend that and give the same command again" in said
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    finish(settings, folder)
    assert results(folder) == results(whole)
