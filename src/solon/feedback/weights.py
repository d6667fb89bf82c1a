"""How much every vote counts in a label: its principle's weight in the constitution, 1 by default."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from solon.constitution import Constitution
from solon.records import Vote


def weight(vote: Vote) -> float:
    return vote.get("weight", 1.0)


def count(votes: Iterable[Vote]) -> bool:
    """Whether any of the votes does."""
    return any(map(weight, votes))


def mean(values: Sequence[float], votes: Sequence[Vote], none: float = 0.5) -> float:
    """The mean of one value a vote, by the votes' weights; ``none`` where no vote counts."""
    return fmean(values, list(map(weight, votes))) if count(votes) else none


def shares(votes: Sequence[Vote]) -> list[float]:
    """Each vote's part in the mean; they sum to 1, or are all 0 where no vote counts."""
    total = sum(map(weight, votes))
    return [weight(vote) / total if total else 0.0 for vote in votes]


def under(law: Constitution, votes: Iterable[Vote]) -> list[Vote]:
    """The votes as they count under ``law``, which weighs its principles otherwise.

    Votes by ratings go by no principle and stay as they are.
    """
    weights = law.weights
    return [
        vote if "ratings" in vote else weighing(vote, weights.get(vote["principle"], 1.0)) for vote in votes
    ]


def weighing(vote: Vote, weight: float) -> Vote:
    """The vote with this weight, which it says only where it is not 1."""
    plain: Vote = {name: value for name, value in vote.items() if name != "weight"}  # type: ignore[assignment]
    if weight != 1:
        plain["weight"] = weight
    return plain
