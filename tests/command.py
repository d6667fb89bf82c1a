"""The command line, called in this process."""

import sys
from pathlib import Path

import pytest

from solon import cli

TINY = ["--set", "engine={dtype: float32, device: cpu, batch_size: 8}"]


def solon(*arguments: str | Path) -> int:
    """The exit status of the command."""
    old = sys.argv
    sys.argv = ["solon", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = old
    return 0


def fails(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command that the user must mend says."""
    assert solon(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err
