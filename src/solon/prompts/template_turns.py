"""Dialogues in the turns that a chat template takes.

Templates differ in that. Some refuse a system turn that is not the first, some refuse any, and some leave its
text out without a word; some refuse two turns of one speaker in a row. Which a template is like is seen as it
writes a dialogue of the same turns: it takes them if all that is said in them is there.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from jinja2 import TemplateError

from solon.errors import SolonError, first_line
from solon.prompts.dialogue import assistant, joined, neutral_messages, reserved, system_first, user
from solon.records import Message


class TemplateTurns:
    """Puts dialogues as the chat template of ``tokenizer`` takes them, with all that is ``reserved`` broken.

    What is said in system turns comes first, in one turn, or at the beginning of the first user turn where
    the template has no system turns. Where it has turns alternate, those of one speaker in a row become one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._reserved = reserved(tokenizer)
        self._ways: dict[tuple[str, ...], Way] = {}

    def __call__(self, messages: Sequence[Message], system: str = "") -> list[Message]:
        """The dialogue, after the text ``system``. Raises SolonError where the template takes it in no way.

        A prompt is put in the same way with an answer after it and without.
        """
        messages = neutral_messages(system_first(messages, system), self._reserved)
        turns = tuple(message["role"] for message in messages)
        asked = turns[:-1] if turns[-1:] == ("assistant",) else turns
        if asked not in self._ways:
            self._ways[asked] = self._way(asked)
        return self._ways[asked](messages)

    def _way(self, turns: Sequence[str]) -> "Way":
        asked: list[Any] = [{"role": role, "content": _said(place)} for place, role in enumerate(turns)]
        answered = [*asked, assistant(_said(len(turns)))]
        problems = []
        for way in WAYS:
            problem = self._problem(way(answered), len(answered), add_generation_prompt=False)
            if asked and not problem:
                problem = self._problem(way(asked), len(asked), add_generation_prompt=True)
            if not problem:
                return way
            problems.append(problem)
        raise SolonError(
            f"the chat template of model {self._tokenizer.name_or_path!r} does not take a dialogue of the "
            f"turns {', '.join(turns)} ({problems[0]}): leave such turns out, or mend the template"
        )

    def _problem(self, messages: list[Message], count: int, **options: bool) -> str:
        """What is wrong with how the template writes that dialogue, in which so much is ``_said``; or ""."""
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except (TemplateError, TypeError, ValueError) as error:
            return f"it says: {first_line(error)}"
        lost = [place for place in range(count) if _said(place) not in text]
        return f"it leaves out what is said in turn {lost[0] + 1}" if lost else ""


Way = Callable[[Sequence[Message]], list[Message]]


def _as_it_is(messages: Sequence[Message]) -> list[Message]:
    return list(messages)


def _alternating(messages: Sequence[Message]) -> list[Message]:
    runs = groupby(messages, key=lambda message: message["role"])
    return [{"role": role, "content": joined(turn["content"] for turn in run)} for role, run in runs]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    [system, *rest] = messages
    if rest and rest[0]["role"] == "user":
        return [user(joined([system["content"], rest[0]["content"]])), *rest[1:]]
    return [user(system["content"]), *rest]


def _both(messages: Sequence[Message]) -> list[Message]:
    return _alternating(_without_system(messages))


WAYS: tuple[Way, ...] = (_as_it_is, _alternating, _without_system, _both)


def _said(place: int) -> str:
    return f"Sentence {place} of these."
