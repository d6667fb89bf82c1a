"""What the cells of a table hold: text, lists that were written as text, or nothing."""

import ast
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from solon.errors import SolonError

NEW_LINE = re.compile(r"\r\n?|\u2028|\u2029")


def blank(value: Any) -> bool:
    """Whether a cell holds nothing: none of the ways that files and libraries have to write that."""
    if isinstance(value, str):
        return value.strip().lower() == "nan" or all(_unseen(character) for character in value)
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))


def listed(value: Any) -> Any:
    """A list of messages that was written as text (in JSON, or as Python shows it) as a list again."""
    if not isinstance(value, str) or not re.match(r"\s*\[\s*\{", value):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    messages = isinstance(found, list) and all(
        isinstance(item, Mapping) and item.keys() & {"role", "from"} for item in found
    )
    return found if messages else value


def text_of(value: Any, place: str, field: str) -> str:
    """The text without its outer white space, each line end and each character written in one way.

    Of a list of parts, the texts. Raises SolonError for a blank or missing one, and for what is not text.
    """
    if isinstance(value, list):
        value = "".join(_part(part, place, f"{field}[{number}]") for number, part in enumerate(value))
    if blank(value):
        raise SolonError(f"{place}: {field} is empty; write it or remove the row")
    if not isinstance(value, str):
        raise SolonError(f"{place}: {field} is {value!r:.60}, not text; write it as text")
    if re.search("[\ud800-\udfff]", value):  # could not be written to any file
        raise SolonError(f"{place}: {field} holds half a character (a lone surrogate); write it again")
    if "\0" in value:
        raise SolonError(f"{place}: {field} holds a NUL character; remove it")
    return unicodedata.normalize("NFC", NEW_LINE.sub("\n", value)).strip().strip("\ufeff").strip()


def _part(part: Any, place: str, field: str) -> str:
    """Of a message that is a list of parts, as they are where there are pictures."""
    text = part.get("text") if isinstance(part, Mapping) else part
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else None
        what = f"of the type {kind!r:.40}" if kind else f"{part!r:.60}"
        raise SolonError(f"{place}: {field} is {what}, not text; remove it or the row")
    return text


def _unseen(character: str) -> bool:
    return unicodedata.category(character)[0] in "ZC" and not 0xD800 <= ord(character) < 0xE000
