"""A panel: several judges label each pair, and a label is the mean over them; where they part is told."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from statistics import fmean

from solon.records import Ballot, PreferenceRecord, Vote

BETWEEN = " + "  # the names of a panel's models
HAIR = 1e-6  # what rounding leaves where both orders cancel is no preference


def by_judge(votes: Iterable[Vote]) -> dict[str, list[Vote]]:
    """A label's votes by who gave them; where one model judges, they do not say: it is ""."""
    ballots: dict[str, list[Vote]] = {}
    for vote in votes:
        ballots.setdefault(vote.get("judge", ""), []).append(vote)
    return ballots


def named(ballot: Ballot) -> list[Vote]:
    """A judge's votes as a panel's label has them."""
    return [{**vote, "judge": ballot["judge"]} for vote in ballot["votes"]]


def labeller(judges: Sequence[str]) -> str:
    """What labels call who gave them."""
    return BETWEEN.join(judges)


def members(labeller: str) -> list[str]:
    """The models that labels name so."""
    return labeller.split(BETWEEN)


def labellers(label: PreferenceRecord) -> set[str]:
    """The models that labelled a pair."""
    return ({vote["judge"] for vote in label["votes"] if "judge" in vote}) or {label["labeller"]}


def tells(
    judges: Sequence[str],
    labels: Iterable[PreferenceRecord],
    probability: Callable[[Sequence[Vote]], float],
) -> list[str]:
    """How far the judges of a panel agree, a sentence each; [] where no pair was judged by two.

    ``probability`` is what one judge's votes make it that the chosen answer is better.
    """
    said = [
        {judge: probability(votes) for judge, votes in by_judge(label["votes"]).items()}
        for label in labels
        if label["votes"]
    ]
    both = [list(each.values()) for each in said if len(each) > 1]
    if not both:
        return []
    parted = fmean(min(each) < 0.5 - HAIR and max(each) > 0.5 + HAIR for each in both)
    apart = fmean(abs(one - other) for each in both for one, other in combinations(each, 2))
    sentences = [
        f"{len(judges)} judges label, and a label is the mean over them. They disagree about which answer is "
        f"better on {parted:.1%} of {len(both):,} pairs; the probabilities of two of them are {apart:.3f} "
        "apart on average."
    ]
    for judge in judges:
        mine = [each[judge] for each in said if judge in each]
        less = f"; {len(said) - len(mine):,} it did not judge, and their labels are the others' alone"
        sentences.append(
            f"{judge} prefers the panel's answer on {fmean(one > 0.5 + HAIR for one in mine):.1%} of the "
            f"{len(mine):,} pairs that it judged{less if len(mine) < len(said) else ''}."
        )
    return sentences
