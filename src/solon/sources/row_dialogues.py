"""Finds the prompt, or the comparison, that a row holds in one of the usual forms."""

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from solon.errors import SolonError
from solon.prompts.dialogue import HUMAN_TURN, assistant, user
from solon.records import Message
from solon.sources.tables import Row, parse

PROMPT_COLUMNS = ("prompt", "messages", "conversations", "question", "instruction", "text")
KIND_COLUMNS = ("kind", "category", "topic", "type")

# Each role's names in public data sets; ShareGPT says "human" and "gpt", in fields "from" and "value".
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


def prompt_of(row: Row) -> list[Message]:
    """The dialogue in the row's prompt column, up to its last human turn.

    Where there is none but a ``chosen`` dialogue (hh-rlhf), its first human turn: the usual recipe for
    red-team prompts.
    """
    column = next((name for name in PROMPT_COLUMNS if name in row.values), None)
    if column is None and "chosen" in row.values:
        column = "chosen"
        turns = answer_of(row, column)
        first = [index for index, turn in enumerate(turns) if turn["role"] == "user"][:1]
        dialogue = turns[: first[0] + 1] if first else []
    elif column is None:
        raise SolonError(
            f"{row.place}: the prompt is missing among the columns {columns(row)}; "
            f"name its column one of {', '.join(PROMPT_COLUMNS)}"
        )
    else:
        dialogue = dialogue_of(row, column)
        more = row.values.get("input")
        if column == "instruction" and isinstance(more, str) and more.strip():  # Alpaca's second half
            dialogue[-1]["content"] += f"\n\n{more.strip()}"
    while dialogue and dialogue[-1]["role"] == "assistant":
        dialogue.pop()
    if not dialogue or dialogue[-1]["role"] != "user":
        raise SolonError(f"{row.place}: {column} has no user turn to answer; end it with one")
    if next(turn["role"] for turn in dialogue if turn["role"] != "system") != "user":
        raise SolonError(f"{row.place}: {column} begins with an assistant turn; put a user turn before it")
    return dialogue


def comparison_of(row: Row) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected; an answer that is blank is [].

    ``chosen`` and ``rejected`` are answers to the row's prompt (TRL's form), or whole dialogues with a common
    beginning, as messages or in hh-rlhf's text.
    """
    for column in ("chosen", "rejected"):
        if column not in row.values:
            raise SolonError(f"{row.place}: {column} is missing among the columns {columns(row)}; add it")
    chosen, rejected = answer_of(row, "chosen"), answer_of(row, "rejected")
    if any(turns and turns[0]["role"] != "assistant" for turns in (chosen, rejected)):
        shared = common_beginning(chosen, rejected)
        if not shared:
            raise SolonError(
                f"{row.place}: chosen and rejected begin differently; begin both with the same user turn"
            )
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    elif any(column in row.values for column in PROMPT_COLUMNS):
        prompt = prompt_of(row)
    else:
        raise SolonError(f"{row.place}: chosen and rejected have no prompt; add it in the column prompt")
    for column, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns and not turns[0]["role"] == turns[-1]["role"] == "assistant":
            raise SolonError(
                f"{row.place}: {column} is not an answer; begin and end it with an assistant turn"
            )
    return prompt, chosen, rejected


def common_beginning(one: list[Message], other: list[Message]) -> int:
    """How many turns both begin with, up to and including a human one."""
    shared = 0
    for index, (left, right) in enumerate(zip(one, other, strict=False), 1):
        if left != right:
            break
        if left["role"] == "user":
            shared = index
    return shared


def probability_of(row: Row) -> float:
    """That chosen is better: 1 unless the row gives it."""
    value = row.values.get("probability")
    if value in (None, ""):
        return 1.0
    try:
        probability = float(value)
    except (TypeError, ValueError):
        probability = math.nan
    if not 0 <= probability <= 1:
        raise SolonError(f"{row.place}: probability is {value!r:.60}; give a number from 0 to 1 or none")
    return probability


def kind_of(row: Row) -> str:
    values = (row.values.get(column) for column in KIND_COLUMNS)
    return next((value.strip() for value in values if isinstance(value, str) and value.strip()), "")


def answer_of(row: Row, column: str) -> list[Message]:
    """A whole dialogue, or one answer where the cell is no more than that."""
    value = row.values[column]
    if isinstance(value, str) and not value.startswith(HUMAN_TURN):
        return [assistant(text_of(value, row, column))] if value.strip() else []
    return dialogue_of(row, column)


def dialogue_of(row: Row, column: str) -> list[Message]:
    """The messages of a cell: a list of them, the same as JSON text, hh-rlhf's text, or one human turn."""
    value = row.values[column]
    if isinstance(value, str) and value.startswith(HUMAN_TURN):
        return turns_of(value, row, column)
    if isinstance(value, str) and column in ("messages", "conversations"):  # CSV has no lists
        value = parse(value, f"{row.place}: {column}")
    if isinstance(value, list):
        if not value:
            raise SolonError(f"{row.place}: {column} is an empty list; write it or remove the row")
        turns = [message_of(item, row, f"{column}[{index}]") for index, item in enumerate(value)]
        by_turns([turn["role"] for turn in turns], row, column)
        return turns
    return [user(text_of(value, row, column))]


def turns_of(text: str, row: Row, column: str) -> list[Message]:
    """hh-rlhf's text, "\\n\\nHuman: ...\\n\\nAssistant: ...", as messages; a blank last answer falls away.

    Two turns in a row of one speaker become one.
    """
    parts = re.split(r"\n\n(Human|Assistant):", text)
    turns = list(zip(parts[1::2], parts[2::2], strict=True))
    if turns[-1][0] == "Assistant" and not turns[-1][1].strip():
        turns.pop()
    speakers = {"Human": user, "Assistant": assistant}
    dialogue: list[Message] = []
    for speaker, said in turns:
        turn = speakers[speaker](text_of(said, row, column))
        if dialogue and dialogue[-1]["role"] == turn["role"]:  # one in a few thousand of hh-rlhf's
            turn["content"] = f"{dialogue.pop()['content']}\n\n{turn['content']}"
        dialogue.append(turn)
    return dialogue


def by_turns(roles: list[str], row: Row, column: str) -> None:
    """Raises SolonError where the two do not speak by turns: many chat templates cannot write that."""
    for index, (before, role) in enumerate(pairwise(roles), 1):
        if role == before:
            raise SolonError(f"{row.place}: {column}[{index}] is a second {role} turn in a row; join the two")
        if role == "system":
            raise SolonError(f"{row.place}: {column}[{index}] is a system turn; put it first or remove it")


def message_of(item: Any, row: Row, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise SolonError(f"{row.place}: {field} is {item!r:.60}; give an object with role and content")
    role = item.get("role", item.get("from"))
    if not isinstance(role, str) or role not in ROLES:
        raise SolonError(f"{row.place}: {field} has the role {role!r:.60}; use one of {', '.join(ROLES)}")
    content = text_of(item.get("content", item.get("value")), row, f"{field}.content")
    return {"role": ROLES[role], "content": content}  # type: ignore[typeddict-item]


def text_of(value: Any, row: Row, field: str) -> str:
    """The text without its outer white space; raises SolonError for a blank or missing one."""
    if isinstance(value, float) and math.isnan(value):
        value = None
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan")):
        raise SolonError(f"{row.place}: {field} is empty; write it or remove the row")
    if not isinstance(value, str):
        raise SolonError(f"{row.place}: {field} is {value!r:.60}, not text; write it as text")
    if re.search("[\ud800-\udfff]", value):  # could not be written to any file
        raise SolonError(f"{row.place}: {field} holds half a character (a lone surrogate); write it again")
    if "\0" in value:
        raise SolonError(f"{row.place}: {field} holds a NUL character; remove it")
    return value.strip()


def columns(row: Row) -> str:
    return ", ".join(map(str, row.values)) or "(none)"
