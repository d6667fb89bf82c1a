"""Guesses: votes of a model that would nearly always have said something else than what it chooses from."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from solon.inference.engine import LEAST
from solon.records import Vote

V = TypeVar("V", bound=Vote)


def marked(vote: V, guessed: int) -> V:
    """The vote, which now says how many of its questions' answers are guesses, where any is."""
    if guessed:
        vote["guessed"] = guessed
    return vote


def note(model: str, records: Iterable[Any]) -> list[str]:
    """That most of the model's answers in the records' votes are guesses; [] where they are not."""
    votes = [vote for record in records for vote in record.get("votes") or []]
    if 2 * sum(vote.get("guessed", 0) for vote in votes) <= sum(map(questions, votes)):
        return []
    return [
        f"{model} gives the answers that it is to choose from less than {LEAST:.0%} of the probability in "
        "most questions: what it thinks of them is guessed from the little that is left."
    ]


def questions(vote: Vote) -> int:
    """How many the model was asked for the vote."""
    readings: Sequence[Sequence[float]] = vote.get("readings", [])
    return len(vote.get("letters", [])) + sum(map(len, readings))
