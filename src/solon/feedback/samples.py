"""AI feedback on the policy's samples, as their reward (Lee et al. 2023, arXiv:2309.00267, direct RLAIF).

Each sample is rated on the scale of its prompt's constitution, or compared with every other sample of its
prompt. All pairs rather than a knockout: each says something of two samples, none waits for another, so that
all of a step go through the model together, and no reward hangs on who met whom.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from statistics import fmean
from typing import Any

from solon import config
from solon.constitution import Constitution, RatingScale
from solon.errors import SetAside, SolonError
from solon.feedback import weights
from solon.feedback.guesses import marked
from solon.feedback.method import Candidates, turned
from solon.feedback.multiple_choice import ByMultipleChoice
from solon.feedback.panel import by_judge
from solon.feedback.rating import RatedDialogue, rate
from solon.inference.engine import Engine
from solon.prompts.dialogue import assistant
from solon.records import ASPECT_OF, Aspect, Message, PromptRecord, SampleVote, Vote
from solon.reward_settings import COMPARISON, RATING

COMPARED = ByMultipleChoice()

NOTHING: Mapping[str, Sequence[SampleVote]] = {}

Said = tuple[str, list[SampleVote] | SetAside]  # of a sample, by its id: votes for it, or why there are none


@dataclass(frozen=True)
class Sample:
    """An answer that the policy sampled."""

    id: str  # "STEP/NUMBER"
    prompt: PromptRecord
    text: str

    @property
    def aspect(self) -> Aspect:
        return ASPECT_OF[self.prompt["set"]]


def ways(rewards: Iterable[str], law: Constitution) -> dict[str, str]:
    """How the feedback model is asked for each of its rewards, under the constitution of a prompt's set.

    Under one without a scale to rate by, answers are compared, as labels are then.
    """
    rating = COMPARISON if law.rating is None else RATING
    asked = {RATING: rating, COMPARISON: COMPARISON}
    return {name: asked[name] for name in rewards if name in asked}


def check(rl: config.Reinforce, settings: config.Feedback, laws: Mapping[Aspect, Constitution]) -> None:
    """Raises SolonError where a constitution lacks what RL's rewards need."""
    if RATING in rl.rewards:
        laws["harmlessness"].scale_of_answers()
    for aspect, law in laws.items():
        if COMPARISON not in ways(rl.rewards, law).values():
            continue
        law.draw_comparison(Random(0), COMPARED.settings(settings, law, aspect).principles)
        if rl.samples_per_prompt < 2:
            raise SolonError(
                f"constitution '{law.name}' has no scale to rate answers by, so that they are compared for "
                f"{aspect}, but reinforce.samples_per_prompt is 1: add a scale under 'rating', or give 2"
            )


def judge(
    engine: Engine,
    samples: Sequence[Sample],
    rewards: Iterable[str],
    laws: Mapping[Aspect, Constitution],
    settings: config.Feedback,
    seed: int,
    known: Mapping[str, Sequence[SampleVote]] = NOTHING,
) -> Iterator[Said]:
    """What the model says of a step's samples, as it comes.

    Of each sample it says something as often as ``answers`` has it. The principles that a pair is compared
    under are drawn by ``seed`` and both samples' ids. What it said before of those that are ``known``, by
    their ids, is not asked again.
    """
    rewards = list(rewards)
    for aspect, law in laws.items():
        mine = [sample for sample in samples if sample.aspect == aspect]
        asked = set(ways(rewards, law).values())
        if RATING in asked:
            yield from _rated(engine, [each for each in mine if each.id not in known], law.scale_of_answers())
        if COMPARISON in asked:
            yield from _compared(engine, mine, law, COMPARED.settings(settings, law, aspect), seed, known)


def answers(
    samples: Sequence[Sample], rewards: Iterable[str], laws: Mapping[Aspect, Constitution]
) -> dict[str, int]:
    """How often ``judge`` says something of each sample, by its id."""
    rewards, counts = list(rewards), dict.fromkeys((sample.id for sample in samples), 0)
    asked = {aspect: set(ways(rewards, law).values()) for aspect, law in laws.items()}
    for sample in samples:
        counts[sample.id] += RATING in asked[sample.aspect]
    for pair in pairs_of(samples):
        for sample in pair:
            counts[sample.id] += COMPARISON in asked[sample.aspect]
    return counts


def pairs_of(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """Every two samples of one prompt."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.prompt["id"]].append(sample)
    for group in groups.values():
        yield from combinations(group, 2)


def pair_id(first: str, second: str) -> str:
    """Of two samples of a step: "STEP/NUMBER/NUMBER"."""
    return f"{first}/{second.rpartition('/')[2]}"


def both_of(pair: str) -> tuple[str, str]:
    """The samples' ids by that of their pair."""
    first, _, number = pair.rpartition("/")
    return first, f"{first.rpartition('/')[0]}/{number}"


def part(votes: Sequence[SampleVote], way: str) -> float | None:
    """The reward, from 0 to 1, the best, that the votes of one way of asking make; None where there are none.

    Compared: the mean over the others of the probability of being preferred, where votes count by their
    principles' weights; rated: how near the mean of the scale's numbers is to its best. Of several judges it
    is the mean.
    """
    ballots = []
    for ballot in by_judge(votes).values():
        pairs = [
            weights.mean([vote["probability"] for vote in of_pair], of_pair)
            for other, of_pair in by_other(ballot).items()
            if bool(other) == (way == COMPARISON) and weights.count(of_pair)
        ]
        ballots += [fmean(pairs)] if pairs else []
    return fmean(ballots) if ballots else None


def by_other(votes: Iterable[Any]) -> dict[str, list[Any]]:
    """A sample's votes by the other that they are beside, "" where it was rated alone."""
    of_pairs: dict[str, list[Any]] = {}
    for vote in votes:
        of_pairs.setdefault(vote.get("against", ""), []).append(vote)
    return of_pairs


def parts(votes: Sequence[SampleVote], rewards: Iterable[str], law: Constitution) -> dict[str, float | None]:
    """What the feedback model's rewards come to, by name, under the constitution of the prompt's set."""
    return {name: part(votes, way) for name, way in ways(rewards, law).items()}


def total(parts: Mapping[str, float], rewards: Mapping[str, float]) -> float:
    """The reward: the sum of its parts, each with the weight that ``rewards`` has."""
    return sum(weight * parts[name] for name, weight in rewards.items())


def filled(prompts: Sequence[str], rewards: Sequence[float | None]) -> list[float]:
    """A step's rewards; where there is none, the mean of the prompt's others, or else of the step's.

    So that a sample without one takes no part in what the others are compared with. Raises ValueError where
    there are none at all.
    """
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for prompt, reward in zip(prompts, rewards, strict=True):
        if reward is not None:
            by_prompt[prompt].append(reward)
    if not by_prompt:
        raise ValueError("no reward at all")
    everywhere = fmean(reward for of_prompt in by_prompt.values() for reward in of_prompt)
    return [
        reward if reward is not None else fmean(by_prompt[prompt] or [everywhere])
        for prompt, reward in zip(prompts, rewards, strict=True)
    ]


def height(rating: float, scale: RatingScale) -> float:
    """How near a rating is to the scale's best, which is 0: from 0 to 1."""
    return 1 - rating / (len(scale.scale) - 1)


def _rated(engine: Engine, samples: Sequence[Sample], scale: RatingScale) -> Iterator[Said]:
    dialogues: list[list[Message]] = [[*one.prompt["prompt"], assistant(one.text)] for one in samples]
    for place, rated in rate(engine, dialogues, scale):
        said = rated if isinstance(rated, SetAside) else [_vote(rated, scale)]
        yield samples[place].id, said


def _vote(rated: RatedDialogue, scale: RatingScale) -> SampleVote:
    vote = SampleVote(
        principle=scale.principle.name,
        instruction=scale.principle.instruction,
        probability=height(rated.value, scale),
        orders=[],
        reasoning=[],
        samples=rated.samples,
        ratings=[rated.value],
        readings=[[reading] for reading in rated.readings],
    )
    return marked(vote, rated.guessed)


def _compared(
    engine: Engine,
    samples: Sequence[Sample],
    law: Constitution,
    settings: config.Feedback,
    seed: int,
    known: Mapping[str, Sequence[SampleVote]],
) -> Iterator[Said]:
    pairs = []
    for one, other in pairs_of(samples):
        pair = pair_id(one.id, other.id)
        if not known.keys() & {one.id, other.id}:
            pairs.append(Candidates(pair, one.prompt["prompt"], one.text, other.text))
        for mine, theirs in ((one.id, other.id), (other.id, one.id)):
            if mine in known and theirs not in known:
                said = [turned(vote) for vote in known[mine] if vote.get("against") == theirs]
                yield theirs, [_between(vote, mine) for vote in said]
    for asked, votes in COMPARED.judge(engine, pairs, law, settings, seed):
        first, second = both_of(asked.id)
        if isinstance(votes, SetAside):
            yield from ((first, votes), (second, votes))
        else:
            yield first, [_between(vote, second) for vote in votes]
            yield second, [_between(turned(vote), first) for vote in votes]


def _between(vote: Vote, against: str) -> SampleVote:
    return {**vote, "against": against}
