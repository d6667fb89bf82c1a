"""Reads a YAML file into a pydantic model; what is wrong is said with its line and field."""

import math
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.reader import ReaderError

from solon.errors import SolonError
from solon.misfits import Location, complaint, field_of, in_file, known

M = TypeVar("M", bound=BaseModel)


LARGEST = 10_000_000  # bytes: the parser reads about 100,000 in a second
MOST = 1_000_000  # parts of a file, those that aliases repeat included

# What the constructors raise for a value that is not of its tag: "!!int x", "!!bool maybe", 2026-13-45.
BAD_VALUE = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


def load_yaml(path: Path, model: type[M], overrides: dict[str, Any] | None = None) -> M:
    """The file's content as a ``model``, with ``overrides`` (nested like the file) laid over it.

    Raises SolonError naming file, line and field where the file is missing, is not YAML, gives a field twice,
    or does not fit; a value that does not fit and came from ``overrides`` is named as such.
    """
    overrides = overrides or {}
    data, tree = parse(text_of(path), str(path))
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SolonError(f"{path} line 1: expected fields such as 'name:', found a {type(data).__name__}")
    try:
        return model.model_validate(merge(data, overrides))
    except ValidationError as error:
        raise SolonError("\n".join(describe(path, tree, overrides, error, model))) from None


def text_of(path: Path) -> str:
    """The file's text. Raises SolonError where it is missing, not UTF-8, or larger than any such file."""
    try:
        if path.exists() and not path.is_file():
            raise SolonError(f"{path} is not a file; check the path")
        if path.stat().st_size > LARGEST:
            raise SolonError(f"{path} is larger than {LARGEST // 1_000_000} MB; check the path")
        return path.read_bytes().decode("utf-8-sig")  # some editors put a byte order mark in front
    except FileNotFoundError:
        raise SolonError(f"{path} does not exist; check the path") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SolonError(f"{path} line {line}: not UTF-8 text; save the file as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise SolonError(f"{path} cannot be read ({reason}); check the path and its permissions") from None


def parse(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    """The text's data, and its nodes, which know their lines. ``name`` begins the messages.

    Raises SolonError where the text is not YAML, gives a field twice, or swells by its aliases.
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if (swollen := expanding(tree)) is not None:
            where = f"{name} line {swollen.start_mark.line + 1}"
            raise SolonError(f"{where}: its aliases make it too large; write less, without aliases")
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SolonError(f"{name}{not_yaml(text, error)}") from None
    except RecursionError:
        raise SolonError(f"{name}: it is nested too deep to be read; write it flat") from None
    except BAD_VALUE as error:
        raise SolonError(f"{name}{bad_value(tree, error)}") from None
    for key in repeated_keys(tree):
        line = key.start_mark.line + 1
        raise SolonError(f"{name} line {line}: '{key.value}' is given a second time; remove one of the two")
    return data, tree


def merge(data: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """``data`` with the nested ``overrides`` in place of its own values."""
    merged = dict(data)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``, as it is in a configuration."""

    def tree(name: str, value: Any) -> dict[str, Any]:
        first, dot, rest = name.partition(".")
        return {first: tree(rest, value) if dot else value}

    return reduce(merge, (tree(str(name), value) for name, value in settings.items()), {})


def not_yaml(text: str, error: yaml.YAMLError) -> str:
    """Where the text stops being YAML and why; the rest of a sentence that begins with the file."""
    if isinstance(error, ReaderError):  # which has no line
        line = text.count("\n", 0, error.position) + 1
        return f" line {line}: not valid YAML: the character #x{error.character:04x}; remove it"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    mend = "indent with spaces" if "'\\t'" in problem else "mend it there"
    return f"{f' line {mark.line + 1}' if mark else ''}: not valid YAML: {problem:.200}; {mend}"


def bad_value(tree: yaml.Node | None, error: Exception) -> str:
    """Where the first value that is not of its tag is; the rest of a sentence that begins with the file."""
    for node in nodes(tree):
        if isinstance(node, yaml.ScalarNode):
            try:
                yaml.constructor.SafeConstructor().construct_document(node)
            except BAD_VALUE:
                line, kind = node.start_mark.line + 1, node.tag.rsplit(":", 1)[-1]
                return f" line {line}: {node.value!r:.60} is no valid {kind}; change it, or quote it"
    return f": not valid YAML: {error}; put quotes around that value"


def nodes(tree: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every node once, however many aliases it has."""
    waiting, visited = [tree] if tree else [], set()
    while waiting:
        node = waiting.pop(0)
        if id(node) not in visited:
            visited.add(id(node))
            yield node
            waiting[:0] = children(node)


def children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def expanding(tree: yaml.Node | None) -> yaml.Node | None:
    """The smallest node that holds more than ``MOST`` others, aliases in full, or an alias of itself."""
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # until it is known, for those inside it
            sizes[id(node)] = 1 + sum(map(size, children(node)))
        return sizes[id(node)]

    if tree is None or size(tree) <= MOST:
        return None
    return min((node for node in reversed(list(nodes(tree))) if size(node) > MOST), key=size)


def repeated_keys(tree: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Keys that their mapping already has (YAML's parser would keep the last one and say nothing)."""
    for node in nodes(tree):
        if isinstance(node, yaml.MappingNode):
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            first = {key.value: key for key in reversed(keys)}
            yield from (key for key in keys if first[key.value] is not key)


def describe(
    path: Path, tree: yaml.Node | None, overrides: dict[str, Any], error: ValidationError, model: Any
) -> Iterator[str]:
    """A sentence for each field of ``model`` that does not fit: file, line, field, what is wrong."""
    problems: dict[Location, list[Any]] = {}
    for problem in error.errors():
        problems.setdefault(in_file(problem["loc"]), []).append(problem)
    for location, of_field in problems.items():  # several where a field may have several types
        what = " or ".join(dict.fromkeys(complaint(misfit, known(model, location)) for misfit in of_field))
        place = "laid over it" if overridden(overrides, location) else f"line {line_of(tree, location)}"
        yield f"{path} {place}: {field_of(location) or 'the file'} {what}"


def overridden(overrides: Any, location: Location) -> bool:
    """Whether the value at ``location`` is one of the overrides."""
    for part in location:
        if not isinstance(overrides, dict):
            return True
        if part not in overrides:
            return False
        overrides = overrides[part]
    return not isinstance(overrides, dict)


def line_of(node: yaml.Node | None, location: Location) -> int:
    """The line (from 1) of the deepest node on the way to ``location`` that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
