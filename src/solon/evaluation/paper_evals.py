"""Reads what models are measured on: the paper's evaluations, and comparisons that people have judged."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar, cast

from solon.errors import SolonError
from solon.prompts.dialogue import assistant, transcript, user
from solon.records import ASPECT_OF, Aspect, Message
from solon.seeds import generator
from solon.sources import tables
from solon.sources.row_dialogues import (
    columns,
    common_beginning,
    comparison_of,
    dialogue_of,
    kind_of,
    probability_of,
)
from solon.sources.tables import Row

T = TypeVar("T")

# What PandaLM's annotators wrote: the number of the better response, or 0 for a tie.
VOTES = {"1": 1.0, "2": 0.0, "0": 0.5}

# The options are the last lines, since the conversation may have lettered lines of its own.
LETTERED = re.compile(
    r"\A(?P<stem>.*?)(?P<options>(?:^ *\([A-Z]\) [^\n]+\n)+)\s*The answer is:\s*\Z", re.DOTALL | re.MULTILINE
)
OPTION = re.compile(r"^ *\(([A-Z])\) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Pair:
    """Two answers to a dialogue, and how probable it is that people call the first one better."""

    id: str
    dialogue: list[Message]
    first: list[Message]  # an assistant's turn; in some of hh-rlhf the dialogue goes on from there
    second: list[Message]
    probability: float = 1.0
    votes: tuple[
        float, ...
    ] = ()  # each person's own: 1 for the first answer, 0 for the second, 0.5 for a tie
    subset: str = ""
    aspect: Aspect = "harmlessness"  # what people judged

    @property
    def texts(self) -> tuple[str, str]:
        """Both answers, as they are shown to a judge."""
        first, second = (transcript(turns).removeprefix("Assistant: ") for turns in (self.first, self.second))
        return first, second


@dataclass(frozen=True)
class LetteredChoice:
    """A question with lettered options, one of which is right."""

    id: str
    stem: str  # all that comes before the options
    options: tuple[str, ...]  # without their letters
    right: int


def read_hhh(source: str) -> list[Pair]:
    """The pairs of a file in the form of 438HHHEvaluations, the right answer first.

    ``text_correct`` and ``text_incorrect`` are dialogues in hh-rlhf's text that differ in their last turn,
    the assistant's. A row may name its ``subset``. Raises SolonError naming file, line and field.
    """
    return _each(source, _hhh)


def read_pairs(source: str) -> list[Pair]:
    """Comparisons that people have judged, in hh-rlhf's form or in PandaLM's.

    hh-rlhf: ``chosen`` and ``rejected``; TRL's forms of these are read as well, with a ``probability`` where
    the row has one. PandaLM: ``instruction``, ``input``, ``response1``, ``response2`` and the annotators'
    ``annotator1``, ...: 1, 2 or 0 for a tie. The label is their mean. What people judged is what the column
    ``aspect`` says, or else helpfulness in PandaLM's form and harmlessness in hh-rlhf's.
    Raises SolonError naming file, line and field, and for labels that no person gave.
    """
    return _each(source, _human)


def read_choices(source: str) -> list[LetteredChoice]:
    """The questions of a file in the form of HarmfulVsEthical and HarmfulnessClassification.

    ``prompt`` ends in lines of lettered options and "The answer is:"; ``corrects`` holds the right letter.
    Raises SolonError naming file, line and field.
    """
    return _each(source, _choice)


def drawn(found: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """``limit`` of them (None: all), drawn by ``seed``, in their order.

    Files may be sorted, so their first rows are no sample. A smaller draw is a part of a larger one.
    """
    order = list(range(len(found)))
    generator(seed, "limit").shuffle(order)
    return [found[index] for index in sorted(order[:limit])]


def _each(source: str, read: Callable[[str, Row], T]) -> list[T]:
    """What ``read`` makes of each row and its number; of a data set, of those that it can read."""
    numbers = itertools.count(1)
    found = tables.usable(source, _rows(source), lambda row: read(str(next(numbers)), row))
    return [made for _, made in found]


def _rows(source: str) -> list[Row]:
    if not source.endswith(".json.gz"):
        return list(tables.rows(source))
    rows = list(tables.json_rows(Path(source)))  # PandaLM's test set; no other command reads packed lists
    if not rows:
        raise SolonError(f"{source} holds no rows; add some or name another file")
    return rows


def _hhh(number: str, row: Row) -> Pair:
    right, wrong = (_dialogue(row, column) for column in ("text_correct", "text_incorrect"))
    shared = common_beginning(right, wrong)
    for column, dialogue in (("text_correct", right), ("text_incorrect", wrong)):
        if not shared or [turn["role"] for turn in dialogue[shared:]] != ["assistant"]:
            raise SolonError(
                f"{row.place}: {column} is not the dialogue that both texts begin with and one answer to it; "
                "write '\\n\\nHuman: ...\\n\\nAssistant: ...' with one answer after what they have in common"
            )
    subset = row.values.get("subset")
    return Pair(
        number,
        right[:shared],
        right[shared:],
        wrong[shared:],
        subset=subset.strip() if isinstance(subset, str) else kind_of(row),
    )


def _dialogue(row: Row, column: str) -> list[Message]:
    _needs(row, column)
    return dialogue_of(row, column)


def _human(number: str, row: Row) -> Pair:
    if (labelled_by := row.values.get("label_source") or "human") != "human":
        raise SolonError(
            f"{row.place}: label_source is {labelled_by!r:.60}, so no person gave this label; name a file of "
            "people's labels"
        )
    if "chosen" in row.values:
        dialogue, chosen, rejected = comparison_of(row)
        first, second = chosen or [assistant("")], rejected or [assistant("")]
        return Pair(
            number,
            dialogue,
            first,
            second,
            probability_of(row),
            subset=kind_of(row),
            aspect=_aspect(row, "harmlessness"),
        )
    if "response1" in row.values:
        votes = tuple(_votes(row))
        first, second = ([assistant(_text(row, column))] for column in ("response1", "response2"))
        aspect = _aspect(row, "helpfulness")
        return Pair(number, [_instruction(row)], first, second, fmean(votes), votes, aspect=aspect)
    raise SolonError(
        f"{row.place}: neither chosen nor response1 is among the columns {columns(row)}; "
        "give chosen and rejected (as hh-rlhf) or response1, response2 and annotator1 (as PandaLM)"
    )


def _aspect(row: Row, default: Aspect) -> Aspect:
    value = row.values.get("aspect") or default
    if value not in ASPECT_OF.values():
        raise SolonError(f"{row.place}: aspect is {value!r:.60}; write harmlessness or helpfulness, or none")
    return cast(Aspect, value)


def _instruction(row: Row) -> Message:
    parts = [_text(row, column) for column in ("instruction", "input") if column in row.values]
    asked = "\n\n".join(part for part in parts if part)  # one of the two may be blank
    if not asked:
        raise SolonError(f"{row.place}: instruction is empty; write it or remove the row")
    return user(asked)


def _text(row: Row, column: str) -> str:
    """The text of a cell; it may be blank, since a model may have answered nothing."""
    _needs(row, column)
    value = row.values[column]
    if isinstance(value, bool | int | float):  # PandaLM's answer "True" has become a JSON value
        return str(value)
    if not isinstance(value, str):
        raise SolonError(f"{row.place}: {column} is {value!r:.60}, not text; write it as text")
    return value.strip()


def _votes(row: Row) -> Iterator[float]:
    fields = [name for name in row.values if re.fullmatch(r"annotator\d+", str(name))]
    if not fields:
        _needs(row, "annotator1")
    for field in fields:
        value = row.values[field]
        if str(value).strip() not in VOTES:
            raise SolonError(f"{row.place}: {field} is {value!r:.60}; write 1, 2, or 0 for a tie")
        yield VOTES[str(value).strip()]


def _choice(number: str, row: Row) -> LetteredChoice:
    _needs(row, "prompt")
    prompt, corrects = row.values["prompt"], row.values.get("corrects")
    match = LETTERED.match(prompt) if isinstance(prompt, str) else None
    options = dict(OPTION.findall(match["options"])) if match else {}
    if not match or len(options) < 2 or list(options) != [chr(ord("A") + n) for n in range(len(options))]:
        raise SolonError(
            f"{row.place}: prompt does not end in options; end it with lines ' (A) ...', ' (B) ...' and "
            "'The answer is:'"
        )
    letters = [str(letter).strip(" ()") for letter in corrects] if isinstance(corrects, list) else []
    if len(letters) != 1 or letters[0] not in options:
        raise SolonError(
            f"{row.place}: corrects is {corrects!r:.60}; give a list of one of the options' letters, "
            'such as [" (A)"]'
        )
    return LetteredChoice(number, match["stem"], tuple(options.values()), list(options).index(letters[0]))


def _needs(row: Row, column: str) -> None:
    if column not in row.values:
        raise SolonError(f"{row.place}: {column} is missing among the columns {columns(row)}; add it")
