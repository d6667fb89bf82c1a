"""Records as rows that all have the same columns, and these as ``datasets`` declares them.

A record may lack a field, and lists may be empty in a whole file; a reader that guesses types by the first
rows would then refuse the rest. So every row has every column, null where the record has none.
"""

import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from typing_extensions import get_type_hints, is_typeddict

SCALARS = {str: "string", float: "float64", int: "int64", bool: "bool"}


def declared(kind: Any) -> list[dict[str, Any]]:
    """The columns of a record's type, as ``features`` of a dataset card's head."""
    return [{"name": name, **_declared(of)} for name, of in get_type_hints(kind).items()]


def _declared(kind: Any) -> dict[str, Any]:
    kind = _present(kind)
    if get_origin(kind) is list:
        [item] = get_args(kind)
        inner = _declared(item)
        return {"list": inner.get("dtype") or inner.get("struct") or inner}
    if get_origin(kind) is dict:  # whose keys are no columns
        return {
            "list": [{"name": "name", "dtype": "string"}, {"name": "value", **_declared(get_args(kind)[1])}]
        }
    if is_typeddict(kind):
        return {"struct": declared(kind)}
    return {"dtype": "string" if get_origin(kind) is Literal else SCALARS[kind]}


def row(record: Any, kind: Any) -> Any:
    """The record's values in the type's columns; None for what it lacks, and for what is no finite number."""
    kind = _present(kind)
    if record is None or (isinstance(record, float) and not math.isfinite(record)):
        return None
    if get_origin(kind) is list:
        return [row(item, get_args(kind)[0]) for item in record]
    if get_origin(kind) is dict:
        return [{"name": name, "value": row(value, get_args(kind)[1])} for name, value in record.items()]
    if is_typeddict(kind):
        return {name: row(record.get(name), of) for name, of in get_type_hints(kind).items()}
    return float(record) if kind is float else record


def _present(kind: Any) -> Any:
    """The type of a value that may be None, when it is not."""
    if get_origin(kind) in (Union, UnionType):
        [kind] = [each for each in get_args(kind) if each is not NoneType]
    return kind
