"""Rating: each answer by itself on the constitution's scale, without training."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

import numpy as np
from scipy.special import expit, softmax

from solon import config
from solon.constitution import ComparisonPrinciple, Constitution, RatingScale
from solon.errors import SetAside
from solon.feedback.guesses import marked
from solon.feedback.method import Candidates, Method, Voted, close
from solon.inference.engine import ChoiceScores, Engine, Question, total_votes
from solon.prompts import rating as prompts
from solon.prompts.dialogue import assistant
from solon.records import Aspect, Message, PreferenceRecord, Vote

QUESTIONS = 2  # about each dialogue


class ByRating(Method):
    """The feedback model rates both answers, each without the other; the better rated one is the better one.

    No letter and no order can sway it, but answers of one prompt are told apart less than side by side.
    Helpfulness is compared by multiple choice, unless its constitution has a scale too.
    """

    name = "rating"
    manner = "by rating each answer by itself"

    def settings(self, asked: config.Feedback, law: Constitution, aspect: Aspect) -> config.Feedback:
        asked = super().settings(asked, law, aspect)
        if aspect == "harmlessness" or law.rating is not None:
            return asked
        return asked.model_copy(update={"method": "multiple-choice"})

    def check(self, asked: config.Config, law: Constitution, aspect: Aspect) -> None:
        super().check(asked, law, aspect)
        if aspect == "harmlessness":
            law.scale_of_answers()

    def deciding(self, settings: config.Feedback) -> config.Feedback:
        return config.Feedback(method=settings.method, rating_sharpness=settings.rating_sharpness)

    def questions(self, settings: config.Feedback, principles: int) -> int:
        return 2 * QUESTIONS

    def judge(
        self,
        engine: Engine,
        pairs: Iterable[Candidates],
        law: Constitution,
        settings: config.Feedback,
        seed: int,
    ) -> Voted:
        return judge(engine, pairs, law.scale_of_answers(), settings.rating_sharpness)

    def either_way(self, votes: Sequence[Vote], settings: config.Feedback) -> list[float]:
        """The scale was written down between the two, in place of up."""
        return [
            fmean(
                first_is_better(first, second, settings.rating_sharpness)
                for vote in votes
                for first, second in vote["readings"][way : way + 1]
            )
            for way in range(2)
        ]

    def drawn(
        self, pair: str, law: Constitution, settings: config.Feedback, seed: int
    ) -> list[ComparisonPrinciple]:
        return [law.scale_of_answers().principle]

    def contradictions(
        self, vote: Vote, number: int, pair: str, settings: config.Feedback, seed: int
    ) -> Iterator[str]:
        ratings = vote.get("ratings", [])
        if len(ratings) != 2:
            yield f"ratings are {len(ratings)}, not 2"
            return
        if "readings" in vote and not all(
            map(close, ratings, map(fmean, zip(*vote["readings"], strict=True)))
        ):
            yield "ratings are not what the scale read up and down makes"
        first, second = ratings
        if not close(vote["probability"], first_is_better(first, second, settings.rating_sharpness)):
            yield "probability is not what its ratings make"

    def grounds(self, law: Constitution) -> set[tuple[str, str]]:
        asked = law.scale_of_answers().principle
        return {(asked.name, asked.instruction)}

    def told(self, labels: Sequence[PreferenceRecord]) -> list[str]:
        by_question: dict[str, list[list[float]]] = {}
        for vote in (vote for label in labels for vote in label["votes"] if "ratings" in vote):
            by_question.setdefault(vote["instruction"], []).append(vote["ratings"])
        return [
            f"{len(ratings):,} pairs were labelled {self.manner} (“{question}”): "
            f"{fmean(map(fmean, ratings)):.2f} on average, where 0 is best, and the two answers of a pair "
            f"{fmean(abs(first - second) for first, second in ratings):.2f} apart."
            for question, ratings in by_question.items()
        ]


def judge(engine: Engine, pairs: Iterable[Candidates], scale: RatingScale, sharpness: float) -> Voted:
    """One vote a pair, as they finish, with both ratings. For ``sharpness`` see ``first_is_better``."""
    waiting = iter(pairs)
    while block := list(islice(waiting, max(1, engine.concurrency // QUESTIONS))):
        dialogues = [
            [*pair.dialogue, assistant(text)] for pair in block for text in (pair.first, pair.second)
        ]
        ratings: dict[int, dict[int, RatedDialogue | SetAside]] = {}
        for place, rated in rate(engine, dialogues, scale):
            both = ratings.setdefault(place // 2, {})
            both[place % 2] = rated
            if len(both) < 2:
                continue
            pair, first, second = block[place // 2], both[0], both[1]
            if isinstance(first, SetAside):
                yield pair, first
            elif isinstance(second, SetAside):
                yield pair, second
            else:
                yield pair, [_vote(first, second, scale, sharpness)]


def _vote(first: "RatedDialogue", second: "RatedDialogue", scale: RatingScale, sharpness: float) -> Vote:
    vote = Vote(
        principle=scale.principle.name,
        instruction=scale.principle.instruction,
        probability=first_is_better(first.value, second.value, sharpness),
        orders=[],
        reasoning=[],
        samples=total_votes([first.samples, second.samples]),
        ratings=[first.value, second.value],
        readings=[list(pair) for pair in zip(first.readings, second.readings, strict=True)],
    )
    return marked(vote, first.guessed + second.guessed)


@dataclass(frozen=True)
class RatedDialogue:
    value: float  # the mean of the scale's numbers, 0 for its first entry
    readings: tuple[float, float]  # what it is the mean of: with the scale written up, then down
    samples: int | None  # sampled answers counted; None where the probabilities are the model's own
    guessed: int  # of the two readings, those of numbers that the model gives next to none of the probability


def rate(
    engine: Engine, dialogues: Sequence[Sequence[Message]], scale: RatingScale
) -> Iterator[tuple[int, RatedDialogue | SetAside]]:
    """Each dialogue's place and its rating, as they finish; SetAside where it got none (see ``Engine``).

    The rating is the mean of the scale's numbers under the judge's probabilities of them, normalised over
    them. It is asked twice, with the scale written up and down, and averaged, which cancels a liking for what
    comes first or last.
    """
    numbers = tuple(map(str, range(len(scale.scale))))
    questions = [
        Question(
            f"{place}/{falling}",
            [prompts.question(dialogue, scale, falling)],
            numbers,
            prompts.ANSWER,
        )
        for place, dialogue in enumerate(dialogues)
        for falling in (False, True)
    ]
    waiting: dict[int, ChoiceScores | SetAside] = {}
    for scores in engine.choice_logprobs(questions):
        place, falling = scores.id.split("/")
        if int(place) not in waiting:
            waiting[int(place)] = scores
            continue
        other = waiting.pop(int(place))
        yield int(place), _mean(*((other, scores) if falling == "True" else (scores, other)))


def _mean(rising: ChoiceScores | SetAside, falling: ChoiceScores | SetAside) -> RatedDialogue | SetAside:
    if isinstance(rising, SetAside):
        return rising
    if isinstance(falling, SetAside):
        return falling
    readings = expected(rising.logprobs), expected(falling.logprobs)
    samples = total_votes([rising.votes, falling.votes])
    return RatedDialogue(sum(readings) / 2, readings, samples, rising.improbable + falling.improbable)


def expected(logprobs: Sequence[float]) -> float:
    """The mean of 0, 1, ... under probabilities that are normalised over them; log-probabilities in nats."""
    return float(softmax(logprobs) @ np.arange(len(logprobs)))


def first_is_better(first: float, second: float, sharpness: float) -> float:
    """The probability that the first of two rated answers is the better one, which is the lower on the scale.

    ``sharpness`` is the log-odds (nats) of a point of difference: a logistic model, as of Elo scores. Solon's
    own; the paper compares.
    """
    return float(expit(sharpness * (second - first)))
