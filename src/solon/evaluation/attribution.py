"""What each principle did: which decide the labels, which contradict one another, which do nothing.

A label is the mean of its principles' votes by their weights (paper, section 4.1: all alike), so what a vote
does to it is known exactly: the label with the vote less the label without it.
"""

from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from statistics import fmean
from typing import NamedTuple, TypedDict

import numpy as np
import scipy.stats

from solon.constitution import Constitution
from solon.evaluation.calibration import Array, agreements
from solon.feedback.weights import weight
from solon.records import PreferenceRecord, RevisionRecord, Vote
from solon.texts import words

DIGITS = 6  # of a probability: where two orders cancel, the rounding error of logits is no preference
HAIR = 0.02  # a vote this close to one half says next to nothing
CHANCE = 0.5  # of a label that no vote counts in
FALSE_FINDINGS = 0.05  # expected share of pairs of principles that are named though only chance is at work


class Principle(TypedDict):
    """What one comparison principle did to the labels. Means are None where there is nothing to average."""

    principle: str
    votes: int
    lean: float | None  # mean distance of its votes from one half: how sure it is
    turned: float | None  # share of its votes, of those in both orders, where the order turned the verdict
    shared: int  # votes on pairs that other principles judged as well
    decided: int  # of those, how often the label without its vote prefers the other answer, or neither
    moved: float | None  # of those, the mean distance of the label from the label without its vote
    weight: float  # of its votes, beside those of others on the same pair
    dead: (
        str  # "" or why it does nothing: "never drawn", "weighs nothing", "always undecided", "never decides"
    )


class Relation(TypedDict):
    """How two principles voted on the pairs that both judged."""

    one: str
    other: str
    pairs: int
    agreement: float  # share of pairs on which both prefer the same answer; a vote of one half counts half
    correlation: float | None  # of their votes about one half; None where one of them never leaves it
    finding: str  # "agree" or "contradict" where chance is no good explanation, else ""


class Attribution(TypedDict):
    comparisons: int  # labels with votes
    principles: list[Principle]  # those that decide most first
    relations: list[Relation]  # every two that judged a pair together, in the order of ``principles``


class Critiques(TypedDict):
    """What one critique principle did to the answers."""

    principle: str
    drawn: int
    sound: int  # revisions that were trained on
    changed: float | None  # mean share of the words that the revision changed; of sound revisions
    words_before: float | None
    words_after: float | None


class _Ballot(NamedTuple):
    """One vote, with the label of its pair with and without it."""

    vote: Vote
    label: float
    without: float | None  # None where it is the only vote that counts, or none does


def attribute(records: Iterable[PreferenceRecord], law: Constitution | None = None) -> Attribution:
    """The part of every principle in the labels that AI feedback gave; labels without votes do not count.

    A principle *decides* a comparison where the label without its vote would no longer prefer the chosen
    answer. That is the sense in which it is responsible for what is ``chosen`` in the training data: had it
    not been drawn, the pair would stand the other way round. The preference model learns from the soft label,
    though, so ``moved`` tells as well how far each vote moves it. A pair judged under one principle alone has
    no label without it, and counts for neither.

    ``law`` names the principles that could have been drawn. Votes by ratings have no principle and do not
    count: where a label goes by both, the principles' share of it is looked at.
    """
    by_principles = ([vote for vote in record["votes"] if "ratings" not in vote] for record in records)
    judged = [_one_each(votes) for votes in by_principles if votes]
    ballots: dict[str, list[_Ballot]] = {principle.name: [] for principle in law.comparison} if law else {}
    for votes in judged:
        counts = list(map(weight, votes))
        parts = [vote["probability"] * count for vote, count in zip(votes, counts, strict=True)]
        for number, vote in enumerate(votes):
            rest = sum(counts[:number]) + sum(counts[number + 1 :])
            without = (sum(parts) - parts[number]) / rest if rest else None
            label = sum(parts) / sum(counts) if any(counts) else CHANCE
            ballots.setdefault(vote["principle"], []).append(_Ballot(vote, label, without))
    principles = [_principle(name, mine) for name, mine in ballots.items()]
    principles.sort(
        key=lambda principle: (
            -principle["decided"],
            -(principle["moved"] or 0),
            -principle["votes"],
            principle["principle"],
        )
    )
    names = [principle["principle"] for principle in principles if principle["votes"]]
    return Attribution(comparisons=len(judged), principles=principles, relations=_relations(judged, names))


def _one_each(votes: Iterable[Vote]) -> list[Vote]:
    """One vote a principle: the mean over a panel's judges."""
    by_principle: dict[str, list[Vote]] = {}
    for vote in votes:
        by_principle.setdefault(vote["principle"], []).append(vote)
    return [
        {
            **each[0],
            "probability": fmean(vote["probability"] for vote in each),
            "orders": list(map(fmean, zip(*(vote["orders"] for vote in each), strict=True))),
        }
        for each in by_principle.values()
    ]


def critiques(records: Iterable[RevisionRecord], law: Constitution | None = None) -> list[Critiques]:
    """How often each critique principle was drawn and how far its revisions changed the answer, most first.

    The share of words changed is one less the similarity of the two texts' words (Ratcliff & Obershelp 1988):
    0 for the same words in the same order, 1 where no word stays.
    """
    rounds: dict[str, list[tuple[str, str, str]]] = (
        {principle.name: [] for principle in law.critique} if law else {}
    )
    for record in records:
        current = record["answer"]
        for revision in record["rounds"]:
            rounds.setdefault(revision["principle"], []).append(
                (current, revision["revision"], revision["problem"])
            )
            current = current if revision["problem"] else revision["revision"]
    rows = []
    for name, mine in rounds.items():
        sound = [(before, after) for before, after, problem in mine if not problem]
        rows.append(
            Critiques(
                principle=name,
                drawn=len(mine),
                sound=len(sound),
                changed=_mean(changed(words.words(before), words.words(after)) for before, after in sound),
                words_before=_mean(words.count(before) for before, _ in sound),
                words_after=_mean(words.count(after) for _, after in sound),
            )
        )
    return sorted(rows, key=lambda row: (-(row["changed"] or 0), row["principle"]))


def says(found: Attribution) -> list[str]:
    """What the figures mean, a sentence each; [] without votes."""
    voted = [principle for principle in found["principles"] if principle["votes"]]
    if not voted:
        return []
    return [_who_decides(voted), _who_contradicts(found["relations"]), *_who_is_dead(found["principles"])]


def _who_decides(voted: Sequence[Principle]) -> str:
    if not any(principle["shared"] for principle in voted):
        return "Every pair was judged under one principle alone, so none decided against another."
    most = voted[0]
    if not most["decided"]:
        return (
            "No principle decided a comparison against the others: without any one vote, every label stands."
        )
    return (
        f"“{most['principle']}” decided most: {most['decided']} of the {most['shared']} comparisons that it "
        f"judged with others would prefer the other answer, or neither, without its vote."
    )


def _who_contradicts(relations: Sequence[Relation]) -> str:
    if not relations:
        return "No two principles judged the same pair, so they cannot be compared."
    against = sorted(
        (relation for relation in relations if relation["finding"] == "contradict"),
        key=lambda relation: relation["agreement"],
    )
    agreeing = sum(relation["finding"] == "agree" for relation in relations)
    rest = f"of {len(relations)} combinations of two, {agreeing} agree more often than chance explains"
    if not against:
        return f"No two principles contradict each other more often than chance explains; {rest}."
    worst = against[0]
    return (
        f"“{worst['one']}” and “{worst['other']}” contradict each other: of the {worst['pairs']} pairs that "
        f"both judged, they agreed on {worst['agreement']:.0%}; {rest}, and {len(against)} "
        "contradict each other."
    )


def _who_is_dead(principles: Sequence[Principle]) -> list[str]:
    told: dict[str, tuple[str, Callable[[Principle], str]]] = {
        "never drawn": ("Never drawn", lambda principle: ""),
        "weighs nothing": ("Of weight 0, so without a part in any label", lambda principle: ""),
        "always undecided": (
            f"Never further than {HAIR:g} from one half",
            lambda principle: f" ({principle['votes']} vote{'s' * (principle['votes'] != 1)})",
        ),
        "never decides": (
            "Never decided a comparison",
            lambda principle: f" (of {principle['shared']} judged with others)",
        ),
    }
    sentences = []
    for reason, (opening, count) in told.items():
        names = [
            f"“{principle['principle']}”{count(principle)}"
            for principle in principles
            if principle["dead"] == reason
        ]
        if names:
            sentences.append(f"{opening}: {', '.join(names)}.")
    return sentences


def changed(before: Sequence[str], after: Sequence[str]) -> float:
    """The share of words changed, in [0, 1]; see ``critiques``."""
    return 1 - SequenceMatcher(None, before, after, autojunk=False).ratio()


def side(probability: float) -> int:
    """1 where the first answer is preferred, -1 where the second is, 0 for neither."""
    return int(np.sign(round(probability, DIGITS) - 0.5))


def _principle(name: str, ballots: Sequence[_Ballot]) -> Principle:
    leans = [abs(ballot.vote["probability"] - 0.5) for ballot in ballots]
    both = [ballot.vote["orders"] for ballot in ballots if len(ballot.vote["orders"]) == 2]
    shared = [(ballot.label, ballot.without) for ballot in ballots if ballot.without is not None]
    decided = sum(side(label) == 1 and side(without) != 1 for label, without in shared)
    dead = ""
    if not ballots:
        dead = "never drawn"
    elif not any(weight(ballot.vote) for ballot in ballots):
        dead = "weighs nothing"
    elif max(leans) <= HAIR:
        dead = "always undecided"
    elif shared and not decided:
        dead = "never decides"
    return Principle(
        principle=name,
        votes=len(ballots),
        lean=_mean(leans),
        turned=_mean((first - 0.5) * (second - 0.5) < 0 for first, second in both),
        shared=len(shared),
        decided=decided,
        moved=_mean(abs(label - without) for label, without in shared),
        weight=weight(ballots[0].vote) if ballots else 1.0,
        dead=dead,
    )


def _relations(judged: Iterable[Sequence[Vote]], names: Sequence[str]) -> list[Relation]:
    together: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for votes in judged:
        by_name = {vote["principle"]: round(vote["probability"], DIGITS) for vote in votes}
        for one, other in combinations([name for name in names if name in by_name], 2):
            together.setdefault((one, other), []).append((by_name[one], by_name[other]))
    pairs = [(one, other) for one, other in combinations(names, 2) if (one, other) in together]
    votes_of = {pair: np.asarray(together[pair]).T for pair in pairs}
    findings = dict(zip(pairs, _findings(list(votes_of.values())), strict=True))
    return [
        Relation(
            one=one,
            other=other,
            pairs=votes.shape[1],
            agreement=agreements(*votes) / votes.shape[1],
            correlation=correlation(*votes),
            finding=findings[one, other],
        )
        for (one, other), votes in votes_of.items()
    ]


def correlation(one: Array, other: Array) -> float | None:
    """How far two principles' votes, of shape (pairs,), leave one half together, in [-1, 1].

    Which of two answers is called the first is no fact about them, and records put the one first that the
    votes prefer, which alone would make them agree. So this is the correlation over the pairs both ways
    round, whose means are one half.
    """
    one, other = one - 0.5, other - 0.5
    scale = float(np.sqrt(np.sum(one**2) * np.sum(other**2)))
    return float(np.clip(np.sum(one * other) / scale, -1, 1)) if scale else None


def _findings(votes: Sequence[Array]) -> list[str]:
    """What a sign test says of each two principles: is chance alone enough to explain it?

    Many are tested at once, so the share of false findings is held (Benjamini & Hochberg 1995).
    """
    if not votes:
        return []
    same = [int(np.sum((both[0] - 0.5) * (both[1] - 0.5) > 0)) for both in votes]
    decided = [int(np.sum((both[0] != 0.5) & (both[1] != 0.5))) for both in votes]
    p = [scipy.stats.binomtest(k, n).pvalue if n else 1.0 for k, n in zip(same, decided, strict=True)]
    adjusted = scipy.stats.false_discovery_control(p)
    return [
        ("agree" if 2 * k > n else "contradict") if chance < FALSE_FINDINGS else ""
        for k, n, chance in zip(same, decided, adjusted, strict=True)
    ]


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None
