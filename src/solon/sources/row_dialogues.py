"""Finds the prompt, or the comparison, that a row holds in one of the usual forms."""

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from solon.errors import SolonError
from solon.prompts.dialogue import HUMAN_TURN, assistant, user
from solon.records import Message
from solon.sources.cells import NEW_LINE, blank, listed, text_of
from solon.sources.tables import Row, parse
from solon.texts.words import count

PROMPT_COLUMNS = ("prompt", "messages", "conversations", "question", "instruction", "text")
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
KIND_COLUMNS = ("kind", "category", "topic", "type")

# Each role's names in public data sets; ShareGPT says "human" and "gpt", in fields "from" and "value".
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
ROLES |= {"model": "assistant", "bot": "assistant", "chatgpt": "assistant"}

# hh-rlhf's text begins with blank lines, which are often lost, and its turns have one between them; where
# there is none in all of it, turns begin at lines. OpenAssistant's has "### " before the speaker instead.
LABELLED = re.compile(r"\s*(?:### ?)?Human:")
ANSWERED = re.compile(LABELLED.pattern + r".*\bAssistant:", re.DOTALL)
TURNS = (
    re.compile(r"(?:\A\s*|\n[^\S\n]*\n\s*)(Human|Assistant):"),
    re.compile(r"(?:\A|\n)\s*(Human|Assistant):"),
)
MARKED_TURNS = re.compile(r"\s*### ?(Human|Assistant):")
OPENS_ALIKE = 4  # words of a prompt that both answers begin with: it was written into them


def prompt_of(row: Row) -> list[Message]:
    """The dialogue in the row's prompt column, up to its last human turn.

    Where there is none but a ``chosen`` dialogue (hh-rlhf), its first human turn: the usual recipe for
    red-team prompts.
    """
    column = prompt_column(row)
    if column is None and "chosen" in row.values:
        column = "chosen"
        turns = answer_of(row, column, whole=True)
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
    dialogue = with_system(dialogue, row)
    while dialogue and dialogue[-1]["role"] == "assistant":
        dialogue.pop()
    if not dialogue or dialogue[-1]["role"] != "user":
        raise SolonError(f"{row.place}: {column} has no user turn to answer; end it with one")
    if next(turn["role"] for turn in dialogue if turn["role"] != "system") != "user":
        raise SolonError(f"{row.place}: {column} begins with an assistant turn; put a user turn before it")
    return dialogue


def prompt_column(row: Row) -> str | None:
    """The first that has something in it, or else the first that is there."""
    there = [name for name in PROMPT_COLUMNS if name in row.values]
    return next((name for name in there if not blank(row.values[name])), there[0] if there else None)


def with_system(dialogue: list[Message], row: Row) -> list[Message]:
    """The dialogue after the system prompt that the row has in a column of its own, unless it has one."""
    column = next((name for name in SYSTEM_COLUMNS if not blank(row.values.get(name))), None)
    if column is None or not dialogue or dialogue[0]["role"] == "system":
        return dialogue
    return [{"role": "system", "content": text_of(row.values[column], row.place, column)}, *dialogue]


def comparison_of(row: Row) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected; an answer that is blank is [].

    ``chosen`` and ``rejected`` are answers to the row's prompt (TRL's form), or whole dialogues with a common
    beginning, as messages or in hh-rlhf's text.
    """
    for column in ("chosen", "rejected"):
        if column not in row.values:
            raise SolonError(f"{row.place}: {column} is missing among the columns {columns(row)}; add it")
    row = without_prompt(row)
    cells = [row.values[column] for column in ("chosen", "rejected")]
    whole = all(isinstance(cell, str) and ANSWERED.match(cell) for cell in cells)
    chosen, rejected = answer_of(row, "chosen", whole), answer_of(row, "rejected", whole)
    if any(turns and turns[0]["role"] != "assistant" for turns in (chosen, rejected)):
        shared = common_beginning(chosen, rejected)
        if not shared:
            raise SolonError(
                f"{row.place}: chosen and rejected begin differently; begin both with the same user turn"
            )
        prompt, chosen, rejected = with_system(chosen[:shared], row), chosen[shared:], rejected[shared:]
    elif prompt_column(row):
        prompt = prompt_of(row)
    else:
        raise SolonError(f"{row.place}: chosen and rejected have no prompt; add it in the column prompt")
    for column, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns and not turns[0]["role"] == turns[-1]["role"] == "assistant":
            raise SolonError(
                f"{row.place}: {column} is not an answer; begin and end it with an assistant turn"
            )
    return prompt, chosen, rejected


def without_prompt(row: Row) -> Row:
    """The row without the prompt's text before both answers, where it is written there again."""
    answers = [row.values[column] for column in ("chosen", "rejected")]
    prompt = row.values.get(prompt_column(row) or "")
    texts = [text.strip() for text in (prompt, *answers) if isinstance(text, str)]
    if len(texts) < 3 or LABELLED.match(texts[0]) or count(texts[0]) < OPENS_ALIKE:
        return row
    rest = [text.removeprefix(texts[0]) for text in texts[1:]]
    if any(blank(after) or after == text for after, text in zip(rest, texts[1:], strict=True)):
        return row
    return Row({**row.values, "chosen": rest[0], "rejected": rest[1]}, row.place)


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
    if blank(value):
        return 1.0
    try:
        probability = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        probability = math.nan
    if not 0 <= probability <= 1:
        raise SolonError(f"{row.place}: probability is {value!r:.60}; give a number from 0 to 1 or none")
    return probability


def kind_of(row: Row) -> str:
    values = (row.values.get(column) for column in KIND_COLUMNS)
    return next((value.strip() for value in values if isinstance(value, str) and value.strip()), "")


def answer_of(row: Row, column: str, whole: bool) -> list[Message]:
    """A dialogue, or one answer where the cell is no more than that.

    Where labelled text has lost its blank lines, both answers must be ``whole`` dialogues: a mere answer may
    begin with "Human:" too.
    """
    value = listed(row.values[column])
    if isinstance(value, str) and not (LABELLED.match(value) if whole else value.startswith(HUMAN_TURN)):
        return [] if blank(value) else [assistant(text_of(value, row.place, column))]
    return dialogue_of(row, column)


def dialogue_of(row: Row, column: str) -> list[Message]:
    """The messages of a cell: a list of them, the same as text, hh-rlhf's text, or one human turn."""
    value = listed(row.values[column])
    if isinstance(value, str) and LABELLED.match(value):
        return turns_of(value, row, column)
    if isinstance(value, str) and column in ("messages", "conversations") and not blank(value):
        value = parse(value, f"{row.place}: {column}")
    if isinstance(value, Mapping) and value.keys() & {"role", "from"}:
        value = [value]
    if isinstance(value, list):
        if not value:
            raise SolonError(f"{row.place}: {column} is an empty list; write it or remove the row")
        said = [(f"{column}[{index}]", item) for index, item in enumerate(value)]
        if len(said) > 1 and says_nothing(value[0], "system"):
            said = said[1:]
        if len(said) > 1 and says_nothing(value[-1], "assistant"):  # a place for the answer
            said = said[:-1]
        turns = [message_of(item, row, field) for field, item in said]
        by_turns([turn["role"] for turn in turns], row, column)
        return turns
    return [user(text_of(value, row.place, column))]


def turns_of(text: str, row: Row, column: str) -> list[Message]:
    """hh-rlhf's text, "\\n\\nHuman: ...\\n\\nAssistant: ...", as messages; a blank last answer falls away.

    Two turns in a row of one speaker become one.
    """
    text = NEW_LINE.sub("\n", text)
    apart = MARKED_TURNS if MARKED_TURNS.match(text) else TURNS[len(TURNS[0].findall(text)) < 2]
    parts = apart.split(text)
    turns = list(zip(parts[1::2], parts[2::2], strict=True))
    if turns[-1][0] == "Assistant" and blank(turns[-1][1]):
        turns.pop()
    speakers = {"Human": user, "Assistant": assistant}
    dialogue: list[Message] = []
    for speaker, said in turns:
        turn = speakers[speaker](text_of(said, row.place, column))
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


def says_nothing(item: Any, role: str) -> bool:
    """Whether it is a blank turn of the role."""
    if not isinstance(item, Mapping) or ROLES.get(str(item.get("role") or item.get("from")).lower()) != role:
        return False
    return blank(item.get("content")) and blank(item.get("value")) and not item.get("tool_calls")


def message_of(item: Any, row: Row, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise SolonError(f"{row.place}: {field} is {item!r:.60}; give an object with role and content")
    role = item.get("role") or item.get("from")
    known = ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        raise SolonError(f"{row.place}: {field} has the role {role!r:.60}; use one of {', '.join(ROLES)}")
    said = item.get("content")
    content = text_of(item.get("value") if said is None else said, row.place, f"{field}.content")
    return {"role": known, "content": content}  # type: ignore[typeddict-item]


def columns(row: Row) -> str:
    return ", ".join(map(str, row.values)) or "(none)"
