"""Reads a YAML file into a pydantic model; what is wrong is said with its line and field."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from solon.errors import SolonError

M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path, model: type[M], overrides: dict[str, Any] | None = None) -> M:
    """The file's content as a ``model``, with ``overrides`` (nested like the file) laid over it.

    Raises SolonError naming file, line and field where the file is missing, is not YAML, or does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SolonError(f"{path} does not exist; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SolonError(f"{path} cannot be read as UTF-8 text: {error}") from None
    try:
        data = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise SolonError(
            f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}; mend it there"
        ) from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SolonError(f"{path} line 1: expected fields such as 'name:', found a {type(data).__name__}")
    try:
        return model.model_validate(merge(data, overrides or {}))
    except ValidationError as error:
        raise SolonError("\n".join(describe(path, tree, problem) for problem in error.errors())) from None


def merge(data: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """``data`` with the nested ``overrides`` in place of its own values."""
    merged = dict(data)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def describe(path: Path, tree: yaml.Node | None, problem: Any) -> str:
    """One pydantic error as a sentence: file, line, field, what is wrong."""
    location = [part for part in problem["loc"] if not str(part).startswith(("function-", "literal["))]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    what = {
        "missing": "is missing; add it",
        "extra_forbidden": "is not a known field; remove it or check its spelling",
    }.get(problem["type"])
    if what is None:
        what = f"is {problem['input']!r:.60}: {problem['msg'][0].lower()}{problem['msg'][1:]}; change it"
    return f"{path} line {line_of(tree, location)}: {field or 'the file'} {what}"


def line_of(node: yaml.Node | None, location: list[Any]) -> int:
    """The line (from 1) of the deepest node on the way to ``location`` that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
