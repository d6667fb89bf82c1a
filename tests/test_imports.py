"""What imports what: no circle anywhere, and heavy libraries come only with what needs them."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import solon

SOURCE = Path(solon.__file__).parent


def module_of(name: str) -> Path | None:
    """The file of a module by its dotted name, a folder's being its ``__init__.py``."""
    path = SOURCE.parent / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def imports_of(file: Path) -> Iterator[Path]:
    """Also those inside functions: a circle is one of design, though Python may get through it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                if found := module_of(f"{node.module}.{name.name}") or module_of(node.module):
                    yield found
        elif isinstance(node, ast.Import):
            yield from filter(None, (module_of(name.name) for name in node.names))


def arrows(folder: Path) -> dict[str, set[str]]:
    """What imports what among the files and folders that are directly in ``folder``, by their names."""
    found: dict[str, set[str]] = {}
    for file in folder.rglob("*.py"):
        place = file.relative_to(folder).parts[0]
        for other in imports_of(file):
            if other.is_relative_to(folder) and other.relative_to(folder).parts[0] != place:
                found.setdefault(place, set()).add(other.relative_to(folder).parts[0])
    return found


def reached(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for place in graph.get(ahead.pop(), set()) - seen:
            seen.add(place)
            ahead.append(place)
    return seen


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Sets of places each of which leads to all others."""
    ahead = {place: reached(place, graph) for place in graph}
    return {
        frozenset(other for other in ahead[place] if place in ahead.get(other, set()))
        for place in graph
        if place in ahead[place]
    }


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}}) == {frozenset("bc")}


@pytest.mark.parametrize(
    "folder",
    sorted({file.parent for file in SOURCE.rglob("*.py")}),
    ids=lambda folder: str(folder.relative_to(SOURCE.parent)),
)
def test_no_files_or_folders_import_in_a_circle(folder: Path) -> None:
    graph = arrows(folder)
    assert graph or folder != SOURCE  # that something is found at all
    assert not circles(graph)


@pytest.mark.parametrize(
    ("modules", "library"),
    [
        ("solon.audit, solon.pipeline.reuse, solon.sweep, solon.pipeline", "plotly"),
        ("solon.training.preference_scores, solon.evaluation.harmfulness, solon.evaluation.agreement", "trl"),
        ("solon.cli", "torch"),
    ],
)
def test_a_library_comes_only_with_what_needs_it(modules: str, library: str) -> None:
    code = f"import sys, {modules}; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
