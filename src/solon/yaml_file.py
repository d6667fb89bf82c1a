"""Reads a YAML file into a pydantic model; what is wrong is said with its line and field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from solon.errors import SolonError

M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path, model: type[M], overrides: dict[str, Any] | None = None) -> M:
    """The file's content as a ``model``, with ``overrides`` (nested like the file) laid over it.

    Raises SolonError naming file, line and field where the file is missing, is not YAML, gives a field twice,
    or does not fit; a value that does not fit and came from ``overrides`` is named as such.
    """
    overrides = overrides or {}
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SolonError(f"{path} does not exist; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SolonError(f"{path} cannot be read as UTF-8 text: {error}") from None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SolonError(f"{path}{not_yaml(error)}") from None
    except ValueError as error:  # what looks like a date or a number, and is none
        raise SolonError(f"{path}: not valid YAML: {error}; put quotes around that value") from None
    for key in repeated_keys(tree):
        line = key.start_mark.line + 1
        raise SolonError(f"{path} line {line}: '{key.value}' is given a second time; remove one of the two")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SolonError(f"{path} line 1: expected fields such as 'name:', found a {type(data).__name__}")
    try:
        return model.model_validate(merge(data, overrides))
    except ValidationError as error:
        raise SolonError("\n".join(describe(path, tree, overrides, error))) from None


def merge(data: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """``data`` with the nested ``overrides`` in place of its own values."""
    merged = dict(data)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def not_yaml(error: yaml.YAMLError) -> str:
    """Where the text stops being YAML and why; the rest of a sentence that begins with the file."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    mend = "indent with spaces" if "'\\t'" in problem else "mend it there"
    return f"{f' line {mark.line + 1}' if mark else ''}: not valid YAML: {problem}; {mend}"


def repeated_keys(tree: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Keys that their mapping already has (YAML's parser would keep the last one and say nothing)."""
    waiting, visited = [tree] if tree else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:  # an alias of an earlier node, or of one around it
            continue
        visited.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            first = {key.value: key for key in reversed(keys)}
            yield from (key for key in keys if first[key.value] is not key)
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def describe(
    path: Path, tree: yaml.Node | None, overrides: dict[str, Any], error: ValidationError
) -> Iterator[str]:
    """A sentence for each field that does not fit: file, line, field, what is wrong."""
    problems: dict[tuple[int | str, ...], list[Any]] = {}
    for problem in error.errors():
        problems.setdefault(in_file(problem["loc"]), []).append(problem)
    for location, of_field in problems.items():  # several where a field may have several types
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
        what = " or ".join(dict.fromkeys(map(complaint, of_field)))
        place = "laid over it" if overridden(overrides, location) else f"line {line_of(tree, location)}"
        yield f"{path} {place}: {field or 'the file'} {what}"


def in_file(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """``location`` without the steps that pydantic adds for a type's alternatives."""
    added = ("function-", "literal[", "constrained-")
    return tuple(part for part in location if not str(part).startswith(added))


def complaint(problem: Any) -> str:
    """What is wrong with a field, and the mend."""
    if problem["type"] == "missing":
        return "is missing; add it"
    if problem["type"] == "extra_forbidden":
        return "is not a known field; remove it or check its spelling"
    if problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    return f"is {problem['input']!r:.60}: {problem['msg'][0].lower()}{problem['msg'][1:]}; change it"


def overridden(overrides: Any, location: tuple[int | str, ...]) -> bool:
    """Whether the value at ``location`` is one of the overrides."""
    for part in location:
        if not isinstance(overrides, dict):
            return True
        if part not in overrides:
            return False
        overrides = overrides[part]
    return not isinstance(overrides, dict)


def line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
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
