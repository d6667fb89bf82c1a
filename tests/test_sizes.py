"""Files and functions stay short enough to be read at one sitting."""

import ast
from pathlib import Path

import solon

FILE, FUNCTION = 450, 60  # lines at most

FILES = {
    str(file.relative_to(Path(solon.__file__).parent)): file.read_text()
    for file in Path(solon.__file__).parent.rglob("*.py")
}


def test_no_file_is_long() -> None:
    assert "inference/transformers_engine.py" in FILES  # that something is looked at
    lengths = {name: len(text.splitlines()) for name, text in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > FILE} == {}


def test_no_function_is_long() -> None:
    lengths = {
        f"{name}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for name, text in FILES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert len(lengths) > len(FILES)
    assert {name: length for name, length in lengths.items() if length > FUNCTION} == {}
