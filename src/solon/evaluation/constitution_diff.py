"""Two constitutions on the same pairs: which labels turn, how far, and which principles do it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isclose
from statistics import fmean
from typing import NamedTuple, TypedDict

from solon.constitution import Constitution
from solon.errors import SolonError
from solon.evaluation.attribution import side
from solon.evaluation.calibration import Interval, wilson
from solon.feedback import weights
from solon.records import Message, PreferenceRecord, Vote


class Pull(TypedDict):
    """What one principle did to the labels' move from A to B."""

    principle: str
    of: str  # "A", "B" or "both"; one whose wording differs is two principles, A's and B's
    votes_a: int
    votes_b: int
    share: float | None  # its share of all movement; the shares of all principles sum to 1
    flips: int  # flipped pairs that it voted on
    for_flip: int  # of those, how often it pulled towards B's answer


class Opinion(TypedDict):
    """One principle's vote in an example."""

    principle: str
    probability: float  # that A's answer is better


class Example(TypedDict):
    """A pair whose label moved; probabilities are that the answer preferred under A is better."""

    id: str
    prompt: list[Message]
    preferred: str  # under A
    other: str
    probability_a: float
    probability_b: float
    votes_a: list[Opinion]
    votes_b: list[Opinion]


class Diff(TypedDict):
    """Everything is about ``comparisons`` pairs labelled under both; the interval is 95 %."""

    comparisons: int
    flips: int  # A prefers one answer and B the other
    flip_share: float
    flip_interval: Interval
    undecided_a: int  # labels that prefer neither answer
    undecided_b: int
    moved: float  # mean distance between the two labels
    principles: list[Pull]  # those with the largest share first
    examples: list[Example]  # flips first, then by the distance


class _Pair(NamedTuple):
    a: PreferenceRecord
    b: PreferenceRecord
    turned: bool  # B's record has the answers the other way round

    def under_b(self, probability: float) -> float:
        """B's probability that the answer which A prefers is better."""
        return 1 - probability if self.turned else probability

    @property
    def move(self) -> float:
        return self.under_b(self.b["probability"]) - self.a["probability"]

    @property
    def flipped(self) -> bool:
        return side(self.a["probability"]) * side(self.under_b(self.b["probability"])) < 0


@dataclass
class _Sum:
    votes: dict[str, int] = field(default_factory=lambda: {"A": 0, "B": 0})
    pull: float = 0.0
    flips: set[str] = field(default_factory=set)
    for_flip: set[str] = field(default_factory=set)


def diff(
    a: Iterable[PreferenceRecord],
    b: Iterable[PreferenceRecord],
    laws: tuple[Constitution, Constitution],
    examples: int = 3,
) -> Diff:
    """Compare the labels under the two ``laws``; pairs that only one of them labelled do not count.

    A label is the mean of its votes, so its move from A to B is a sum with one term a vote: w (p - 1/2) for
    each of B's votes, where w is its share of their weights, and the negative of the same for each of A's. A
    principle's ``share`` is the sum of its terms, in the direction in which each label moved, of the sum of
    all movement. Labels that are no mean of their votes have no such terms, and ``principles`` leaves their
    pairs out.

    Raises SolonError where no pair is labelled under both.
    """
    of_b = {record["id"]: record for record in b if record["votes"]}
    pairs = [_pair(record, of_b[record["id"]]) for record in a if record["votes"] and record["id"] in of_b]
    if not pairs:
        raise SolonError("no pair was labelled under both constitutions; give pairs without a problem")
    flips = sum(pair.flipped for pair in pairs)
    ordered = sorted(pairs, key=lambda pair: (not pair.flipped, -abs(pair.move)))
    return Diff(
        comparisons=len(pairs),
        flips=flips,
        flip_share=flips / len(pairs),
        flip_interval=wilson(flips, len(pairs)),
        undecided_a=sum(side(pair.a["probability"]) == 0 for pair in pairs),
        undecided_b=sum(side(pair.b["probability"]) == 0 for pair in pairs),
        moved=fmean(abs(pair.move) for pair in pairs),
        principles=_pulls([pair for pair in pairs if _is_mean(pair.a) and _is_mean(pair.b)], laws),
        examples=[_example(pair) for pair in ordered[:examples]],
    )


def _pair(a: PreferenceRecord, b: PreferenceRecord) -> _Pair:
    return _Pair(a, b, turned=a["chosen"] != b["chosen"])


def _is_mean(label: PreferenceRecord) -> bool:
    mean = weights.mean([vote["probability"] for vote in label["votes"]], label["votes"])
    return isclose(label["probability"], mean, abs_tol=1e-6)


def _shared(label: PreferenceRecord) -> Iterable[tuple[Vote, float]]:
    """Its votes, each with its part in the mean."""
    return zip(label["votes"], weights.shares(label["votes"]), strict=True)


def _pulls(pairs: Sequence[_Pair], laws: tuple[Constitution, Constitution]) -> list[Pull]:
    in_a, in_b = ({(principle.name, principle.instruction) for principle in law.comparison} for law in laws)
    sums: dict[tuple[str, str], _Sum] = {}
    for pair in pairs:
        direction = 1 if pair.move > 0 else -1
        terms: dict[tuple[str, str], float] = {}
        for vote, share in _shared(pair.a):
            key = vote["principle"], vote["instruction"]
            sums.setdefault(key, _Sum()).votes["A"] += 1
            terms[key] = terms.get(key, 0) - (vote["probability"] - 0.5) * share
        for vote, share in _shared(pair.b):
            key = vote["principle"], vote["instruction"]
            sums.setdefault(key, _Sum()).votes["B"] += 1
            terms[key] = terms.get(key, 0) + (pair.under_b(vote["probability"]) - 0.5) * share
        for key, term in terms.items():
            sums[key].pull += direction * term
            if pair.flipped:
                sums[key].flips.add(pair.a["id"])
                if direction * term > 0:
                    sums[key].for_flip.add(pair.a["id"])
    movement = sum(abs(pair.move) for pair in pairs)
    pulls = [
        Pull(
            principle=key[0],
            of="both" if key in in_a and key in in_b else "A" if key in in_a else "B",
            votes_a=total.votes["A"],
            votes_b=total.votes["B"],
            share=total.pull / movement if movement else None,
            flips=len(total.flips),
            for_flip=len(total.for_flip),
        )
        for key, total in sums.items()
    ]
    return sorted(pulls, key=lambda pull: (-(pull["share"] or 0), pull["principle"]))


def _example(pair: _Pair) -> Example:
    return Example(
        id=pair.a["id"],
        prompt=pair.a["prompt"],
        preferred=pair.a["chosen"][0]["content"],
        other=pair.a["rejected"][0]["content"],
        probability_a=pair.a["probability"],
        probability_b=pair.under_b(pair.b["probability"]),
        votes_a=[Opinion(principle=v["principle"], probability=v["probability"]) for v in pair.a["votes"]],
        votes_b=[
            Opinion(principle=v["principle"], probability=pair.under_b(v["probability"]))
            for v in pair.b["votes"]
        ],
    )
