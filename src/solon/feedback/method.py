"""A way of giving feedback: how its pairs are made, how they are labelled, and what proves it."""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, NamedTuple

from solon import config
from solon.constitution import ComparisonPrinciple, Constitution
from solon.errors import SetAside
from solon.feedback import weights
from solon.feedback.panel import by_judge
from solon.inference.engine import Chain, Engine, Request
from solon.records import (
    Aspect,
    LabelSource,
    Message,
    PairRecord,
    PreferenceRecord,
    PromptRecord,
    PromptSet,
    RevisionRecord,
    Vote,
)
from solon.seeds import derive_seed
from solon.texts.written import Written, mended


@dataclass(frozen=True)
class Material:
    """What pairs are made from."""

    laws: Mapping[PromptSet, Constitution]
    seed: int
    sampling: config.Comparison = field(default_factory=config.Comparison)
    critique: config.Critique = field(default_factory=config.Critique)
    # Of stage 2, by the prompts' ids: answers with their revisions, and answers that have none.
    revisions: Mapping[str, RevisionRecord] = field(default_factory=dict)
    answers: Mapping[str, Written | SetAside] = field(default_factory=dict)


class Draft(NamedTuple):
    """Two answers to a prompt, before they are a pair's record.

    Both passed the same treatment (``texts/written.py``), and where the making gives the label the same
    tests, so that nothing but what they say tells which is the better one.
    """

    responses: list[Written]
    problem: str = ""  # of the answers, beside what can be seen of any two texts
    making: Mapping[str, Any] = {}  # how they were made so that the first is better, as the record keeps it


@dataclass(frozen=True)
class Candidates:
    """Two answers to a dialogue, to be judged; by multiple choice under each of the principles."""

    id: str
    dialogue: Sequence[Message]
    first: str
    second: str
    principles: Sequence[ComparisonPrinciple] = ()


# Votes are for the first answer: ``probability`` is that it is the better one, ``orders`` begin with it
# shown as (A), and ``ratings`` with its own.
Voted = Iterator[tuple[Candidates, list[Vote] | SetAside]]


class Method(ABC):
    """A way of giving feedback. What stands here holds where the feedback model's votes make the labels."""

    name: str  # as ``feedback.method`` has it
    label_source: LabelSource = "ai"
    manner: str  # how pairs are labelled or, where nobody judges, made, as reports and messages say it
    pairs_by: Literal["sl-cai", "feedback"] = "sl-cai"  # the model that makes the pairs
    revises: bool = False  # pairs are made from answers that are there

    def check(self, asked: config.Config, law: Constitution, aspect: Aspect) -> None:
        """Raises SolonError where the configuration or the aspect's constitution lacks what this needs."""
        settings = self.settings(asked.feedback, law, aspect)
        law.draw_comparison(random.Random(0), settings.principles)

    def settings(self, asked: config.Feedback, law: Constitution, aspect: Aspect) -> config.Feedback:
        """The settings by which an aspect is labelled, of those asked for.

        Helpfulness, whose constitution is another, takes no more principles than that has.
        """
        if aspect == "harmlessness" or asked.principles == "all" or asked.principles <= len(law.comparison):
            return asked
        return asked.model_copy(update={"principles": "all"})

    def deciding(self, settings: config.Feedback) -> config.Feedback:
        """The settings, with those that no judgement of this method depends on at their defaults."""
        idle = {"rating_sharpness", "comparing_weight", "rating_weight", "untrusted", "panel"}
        if not settings.chain_of_thought:
            idle |= {"clamp", "temperature", "max_tokens"}
        return config.Feedback(**settings.model_dump(exclude=idle))

    def draft(self, prompt: PromptRecord, material: Material) -> Chain[Draft]:
        """Two answers to the prompt."""
        return sampled(prompt, material)

    @abstractmethod
    def questions(self, settings: config.Feedback, principles: int) -> int:
        """How many are asked about one pair under a constitution of so many comparison principles."""

    @abstractmethod
    def judge(
        self,
        engine: Engine,
        pairs: Iterable[Candidates],
        law: Constitution,
        settings: config.Feedback,
        seed: int,
    ) -> Voted:
        """The model's votes on every pair, as they finish: for labels, and to measure how well it judges.

        SetAside comes in the place of votes where a question got no answer (see ``Engine``). Raises
        SolonError where ``law`` has too few principles, or no scale to rate by.
        """

    def probability(self, votes: Sequence[Vote], settings: config.Feedback) -> float:
        """How probable one judge's votes make it that the answer they are for is better: their mean.

        As in section 4.1, but that votes count by their principles' weights. Nothing but votes and settings
        decides it, so that records prove it. One half where no vote counts.
        """
        return weights.mean([vote["probability"] for vote in votes], votes)

    def label(self, votes: Sequence[Vote], settings: config.Feedback) -> float:
        """The same of all votes on a pair: the mean over those who judged it."""
        return fmean(self.probability(ballot, settings) for ballot in by_judge(votes).values())

    def either_way(self, votes: Sequence[Vote], settings: config.Feedback) -> list[float]:
        """The probability by either way round of asking: between them (A) and (B) change places."""
        return [weights.mean([vote["orders"][way] for vote in votes], votes) for way in range(2)]

    def drawn(
        self, pair: str, law: Constitution, settings: config.Feedback, seed: int
    ) -> list[ComparisonPrinciple]:
        """What the votes on the pair with this id go by, in order: drawn anew as ``judge`` draws it."""
        return []

    def contradictions(
        self, vote: Vote, number: int, pair: str, settings: config.Feedback, seed: int
    ) -> Iterator[str]:
        """What of a pair's vote ``number``, which is for its first answer, does not follow from the rest."""
        return iter(())

    def grounds(self, law: Constitution) -> set[tuple[str, str]]:
        """What labels go by, as votes or pairs name it: a principle and what it asks."""
        return {(principle.name, principle.instruction) for principle in law.comparison}

    def faults(
        self,
        label: PreferenceRecord,
        pair: PairRecord | None,
        law: Constitution | None,
        settings: config.Feedback,
        labeller: str | None,
        seed: int,
    ) -> dict[str, bool]:
        """What could be wrong with a label of this method, and whether it is: what its records prove.

        ``law`` is None where the constitution is not here, so that what labels go by stays unchecked;
        ``labeller`` is the feedback model's name, or the panel's, and ``seed`` the one that pairs were judged
        with.
        """
        votes, known = label["votes"], self.grounds(law) if law else None
        ballots = by_judge(votes).values()
        weighed = [[weights.weight(vote) for vote in ballot] for ballot in ballots]
        asked = [[(vote["principle"], vote["instruction"]) for vote in ballot] for ballot in ballots]
        drawn = self.drawn(label["id"], law, settings, seed) if law else []
        first = pair is not None and label["chosen"][-1]["content"] == pair["responses"][0]
        contradictions = {
            f"has a vote whose {what}": True
            for ballot in ballots
            for number, vote in enumerate(ballot)
            for what in self.contradictions(
                vote if first else turned(vote), number, label["id"], settings, seed
            )
        }
        return {
            f"is by {label['labeller']}, not {labeller}": label["labeller"] != labeller,
            "has no votes": not votes,
            "has a vote under no principle of the constitution": known is not None
            and not known.issuperset(each for ballot in asked for each in ballot),
            "has votes under other principles than were drawn for it": known is not None
            and known.issuperset(each for ballot in asked for each in ballot)
            and any(
                ballot != [(principle.name, principle.instruction) for principle in drawn] for ballot in asked
            ),
            "has votes that count otherwise than their principles do": known is not None
            and any(
                weight != principle.weight
                for ballot in weighed
                for weight, principle in zip(ballot, drawn, strict=False)
            ),
            "has no vote that counts": bool(votes) and not weights.count(votes),
            **contradictions,
            "is not what its votes make": bool(votes)
            and not close(label["probability"], self.label(votes, settings)),
            "prefers the worse answer": not 0.5 <= label["probability"] <= 1,
        }

    def told(self, labels: Sequence[PreferenceRecord]) -> list[str]:
        """What the report says of the labels beside what it says of principles, a sentence each."""
        return []


def sampled(
    prompt: PromptRecord, material: Material, requests: Sequence[Sequence[Message]] = (), **making: Any
) -> Chain[Draft]:
    """Two answers that a model samples: to the prompt, or to a dialogue for each of them in its place."""
    settings, responses = material.sampling, []
    try:
        for number in range(2):
            completion = yield Request(
                id=prompt["id"],
                messages=requests[number] if requests else prompt["prompt"],
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=derive_seed(material.seed, prompt["id"], "response", number),
            )
            responses.append(mended(completion.text, completion.finish, completion.thinking))
    except SetAside as error:
        return Draft([Written("")] * 2, error.problem, making)
    return Draft(responses, "", making)


def close(one: float, other: float) -> bool:
    """Whether two probabilities are the same but for how they were rounded on the way."""
    return math.isclose(one, other, abs_tol=1e-6)


def turned(vote: Vote) -> Vote:
    """The vote as one for the other answer. What the model said of the pair's own answers stays."""
    mirrored: Vote = {
        **vote,
        "probability": 1 - vote["probability"],
        "orders": [1 - order for order in reversed(vote["orders"])],
        "reasoning": vote["reasoning"][::-1],
    }
    if "thinking" in vote:
        mirrored["thinking"] = vote["thinking"][::-1]
    if "ratings" in vote:
        mirrored["ratings"] = vote["ratings"][::-1]
    return mirrored
