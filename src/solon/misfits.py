"""What is wrong with data that does not fit its model, in words."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

Location = tuple[int | str, ...]


def misfits(error: ValidationError) -> Iterator[str]:
    """A phrase for each field that does not fit: the field, what is wrong, and the mend."""
    for problem in error.errors():
        yield f"{field_of(in_file(problem['loc']))} {complaint(problem)}".strip()


def field_of(location: Location) -> str:
    """As it is written: ``critique[0].name``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def in_file(location: Location) -> Location:
    """``location`` without the steps that pydantic adds for a type's alternatives."""
    added = ("function-", "literal[", "constrained-")
    return tuple(part for part in location if not str(part).startswith(added))


def complaint(problem: Any, known: Sequence[str] = ()) -> str:
    """What is wrong with a field, and the mend. ``known`` are the fields that may stand in its place."""
    value, said = problem["input"], str(problem["msg"])
    what = f"is {value!r:.60}: {said[:1].lower()}{said[1:]}; change it"
    match problem["type"]:
        case "missing":
            what = "is missing; add it"
        case "extra_forbidden":
            meant = get_close_matches(str(problem["loc"][-1]).lower(), known, n=1)
            mend = f"did you mean '{meant[0]}'?" if meant else "remove it or check its spelling"
            what = f"is not a known field; {mend}"
        case "invalid_key":
            what = f"is {value!r:.60}, but the name of a field is text; remove it or check its spelling"
        case "model_type" | "dict_type" | "list_type" if value is None:
            what = "is empty; write what belongs there, or remove it"
        case "model_type" | "dict_type":
            what = f"is {value!r:.60}, but has fields of its own; write them below it"
        case "value_error":
            what = said.removeprefix("Value error, ")
    return what


def known(model: Any, location: Location) -> list[str]:
    """The fields that may stand where ``location`` is."""
    for part in location[:-1]:
        if not isinstance(part, int):
            fields = [kind.model_fields[part] for kind in models(model) if part in kind.model_fields]
            model = fields[0].annotation if fields else None
    return [name for kind in models(model) for name in kind.model_fields]


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models in a type: those of its items, or of its alternatives."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for argument in get_args(kind):
        yield from models(argument)
