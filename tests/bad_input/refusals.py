"""How a case of bad input is run: the real command in this process, watched for anything it writes."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from command import solon

Content = str | bytes | Callable[[Path], None]
"""What a broken file holds, or what makes it at the path given."""


@dataclass(frozen=True)
class Case:
    name: str
    content: Content
    says: tuple[str, ...]  # the place and the mend, as they stand in the message


def case(name: str, content: Content, *says: str) -> Case:
    return Case(name, content, says)


def named(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """A test's parameter ``broken``: each case, under its own name."""
    found = list(cases)
    assert len({each.name for each in found}) == len(found)
    return pytest.mark.parametrize("broken", found, ids=[each.name for each in found])


def place(content: Content, path: Path) -> Path:
    """Make the broken file; the path to it."""
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder below, each file with a hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def refused(
    capsys: pytest.CaptureFixture[str], folder: Path, says: Iterable[str], *arguments: str | Path
) -> None:
    """The command ends with status 2, one line that says all of ``says``, and ``folder`` as it was."""
    before = snapshot(folder)
    status = solon(*arguments)
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.strip()]
    while lines and lines[0].startswith(HEADINGS):  # a stage that had begun
        lines.pop(0)
    assert status == 2, said
    assert "Traceback" not in said.err
    assert len(lines) == 1, said.err
    assert len(lines[0]) < 1000
    for words in says:
        assert words in lines[0], lines[0]
    assert said.out == ""
    assert snapshot(folder) == before


HEADINGS = (
    "Critique and revision",
    "Helpful answers",
    "Two answers a prompt",
    "AI feedback",
    "Preference model",
)
