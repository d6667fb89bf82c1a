"""A judge's rating of dialogues on a constitution's scale: each by itself, without training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from solon.constitution import Rating
from solon.errors import TooLong
from solon.inference.engine import ChoiceScores, Engine, Question, total_votes
from solon.prompts import rating as prompts
from solon.records import Message

QUESTIONS = 2  # about each dialogue


@dataclass(frozen=True)
class Rated:
    value: float  # the mean of the scale's numbers, 0 for its first entry
    samples: int | None  # sampled answers counted; None where the probabilities are the model's own


def rate(
    engine: Engine, dialogues: Sequence[Sequence[Message]], rating: Rating
) -> Iterator[tuple[int, Rated | TooLong]]:
    """Each dialogue's place and its rating, as they finish; TooLong where it doesn't fit the model's context.

    The rating is the mean of the scale's numbers under the judge's probabilities of them, normalised over
    them. It is asked twice, with the scale written up and down, and averaged, which cancels a liking for what
    comes first or last.
    """
    numbers = tuple(map(str, range(len(rating.scale))))
    questions = [
        Question(
            f"{place}/{falling}",
            [prompts.question(dialogue, rating, falling)],
            numbers,
            prompts.ANSWER,
        )
        for place, dialogue in enumerate(dialogues)
        for falling in (False, True)
    ]
    waiting: dict[int, ChoiceScores | TooLong] = {}
    for scores in engine.choice_logprobs(questions):
        place = int(scores.id.split("/")[0])
        if place not in waiting:
            waiting[place] = scores
            continue
        both = (waiting.pop(place), scores)
        yield place, next((each for each in both if isinstance(each, TooLong)), None) or _mean(both)


def _mean(both: Sequence[ChoiceScores | TooLong]) -> Rated:
    scores = [each for each in both if isinstance(each, ChoiceScores)]
    value = sum(expected(each.logprobs) for each in scores) / len(scores)
    return Rated(value, total_votes(each.votes for each in scores))


def expected(logprobs: Sequence[float]) -> float:
    """The mean of 0, 1, ... under probabilities that are normalised over them; log-probabilities in nats."""
    return float(softmax(logprobs) @ np.arange(len(logprobs)))


def first_is_better(first: float, second: float, sharpness: float) -> float:
    """The probability that the first of two rated answers is the better one, which is the lower on the scale.

    ``sharpness`` is the log-odds (nats) of a point of difference: a logistic model, as of Elo scores. Solon's
    own; the paper compares.
    """
    return float(expit(sharpness * (second - first)))
