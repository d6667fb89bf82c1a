"""How far a judge or a preference model agrees with people about pairs of answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from solon import config
from solon.constitution import Constitution
from solon.errors import SetAside
from solon.evaluation import calibration
from solon.evaluation.calibration import Array
from solon.evaluation.paper_evals import Pair
from solon.feedback import METHODS
from solon.feedback.method import Candidates
from solon.inference.engine import Engine
from solon.progress import Watcher
from solon.records import Message

DIGITS = 6  # of a probability; the engines' log-probabilities are in float32
SCORED_TOGETHER = 64  # pairs; enough to sort by length, and few enough that progress shows


@dataclass(frozen=True)
class Judged:
    """What the judge says of a pair."""

    pair: Pair
    probability: float  # that the first answer is better, averaged over both orders
    # the probability of "(A)", averaged likewise: 0.5 where the judge favours no letter; None of ratings
    letter_a: float | None


def judge_pairs(
    engine: Engine, pairs: Sequence[Pair], law: Constitution, settings: config.Feedback, seed: int
) -> Iterator[Judged]:
    """Judge the pairs as in AI feedback, in both orders or by ratings; results come as they finish.

    Nothing is clamped: that is meant for labels to train on, and would hide what the model says. Raises
    SolonError where ``law`` has too few comparison principles, or no scale for ratings.
    """
    by_id = {pair.id: pair for pair in pairs}
    asked = (candidates(pair) for pair in pairs)
    settings = settings.model_copy(update={"both_orders": True, "clamp": (0.0, 1.0)})
    method = METHODS[settings.method]
    answers = method.judge(engine, asked, law, settings, seed)
    judgements = (votes if isinstance(votes, SetAside) else (judged, votes) for judged, votes in answers)
    for judged, votes in engine.unless_set_aside(judgements):
        # Where logits are in bfloat16 they are coarse, and the orders often cancel; what rounding leaves
        # then is a tie.
        probability = round(method.probability(votes, settings), DIGITS)
        orders = [vote["orders"] for vote in votes if vote["orders"]]
        letters = [(as_a + 1 - as_b) / 2 for as_a, as_b in orders]
        yield Judged(by_id[judged.id], probability, fmean(letters) if letters else None)


def measure_judge(
    engine: Engine,
    pairs: Sequence[Pair],
    law: Constitution,
    settings: config.Feedback,
    bootstrap: int,
    seed: int,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """``judge_summary`` of what the engine's model says of every pair; see ``judge_pairs``."""
    judged = judge_pairs(engine, pairs, law, settings, seed)
    watched = (watcher or Watcher()).watched("judgements", judged, len(pairs))
    # Engines finish in any order, and resampling must not depend on it.
    return judge_summary(sorted(watched, key=lambda judgement: int(judgement.pair.id)), bootstrap, seed)


def measure_scorer(
    model: str,
    pairs: Sequence[Pair],
    batch_size: int,
    bootstrap: int,
    seed: int,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """``score_summary`` of the preference model in the folder ``model``."""
    from solon.training import preference_scores  # takes seconds to import

    scored = score_pairs(preference_scores.scorer(model, batch_size), pairs)
    watched = (watcher or Watcher()).watched("scores", scored, len(pairs))
    return score_summary(list(watched), bootstrap, seed)


def candidates(pair: Pair) -> Candidates:
    return Candidates(pair.id, pair.dialogue, *pair.texts)


def score_pairs(
    score: Callable[[Sequence[Sequence[Message]]], list[float]], pairs: Sequence[Pair]
) -> Iterator[tuple[Pair, float]]:
    """Each pair with the score of its first dialogue less that of its second.

    ``score`` is a preference model's: the scores of dialogues, in the order given.
    """
    for start in range(0, len(pairs), SCORED_TOGETHER):
        block = pairs[start : start + SCORED_TOGETHER]
        first = score([[*pair.dialogue, *pair.first] for pair in block])
        second = score([[*pair.dialogue, *pair.second] for pair in block])
        for pair, one, other in zip(block, first, second, strict=True):
            yield pair, one - other


def judge_summary(judged: Sequence[Judged], bootstrap: int, seed: int) -> dict[str, Any]:
    """``summary`` of a judge.

    Where it named letters with ``letter_a``: its mean probability of "(A)", 0.5 where it favours none.
    """
    figures = summary(
        [judgement.pair for judgement in judged],
        [judgement.probability for judgement in judged],
        bootstrap=bootstrap,
        seed=seed,
    )
    letters = [judgement.letter_a for judgement in judged if judgement.letter_a is not None]
    return figures | ({"letter_a": fmean(letters)} if letters else {})


def score_summary(scored: Sequence[tuple[Pair, float]], bootstrap: int, seed: int) -> dict[str, Any]:
    """``summary`` of a preference model's differences of scores, which are logits (Bradley & Terry 1952)."""
    pairs = [pair for pair, _ in scored]
    margins = np.asarray([margin for _, margin in scored])
    return summary(pairs, expit(margins), margins, bootstrap=bootstrap, seed=seed)


def summary(
    pairs: Sequence[Pair],
    predicted: ArrayLike,
    margins: ArrayLike | None = None,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy, Brier score and calibration of predictions about the pairs; intervals are 95 %.

    ``predicted`` is the probability that the first answer is better. Accuracy is over the pairs on which
    people prefer one answer, and a prediction of exactly 0.5 counts half; the other figures are over all
    pairs, with people's mean as a soft label. ``margins``, by whose size ``by_margin`` goes, are differences
    of scores, or else of the two answers' probabilities. All three have shape (pairs,).
    """
    predicted, labels = np.asarray(predicted, dtype=float), _labels(pairs)
    gaps: Array = 2 * predicted - 1 if margins is None else np.asarray(margins, dtype=float)
    confidence, label = calibration.favoured_first(predicted, labels)
    figures = _figures(predicted, labels) | {
        "ece_interval": calibration.calibration_error_interval(
            confidence, label, bootstrap=bootstrap, seed=seed
        ),
        "reliability": calibration.reliability(confidence, label),
        "by_margin": by_margin(predicted, labels, np.abs(gaps)),
    }
    for name, kinds in {
        "by_subset": [pair.subset for pair in pairs],
        "by_annotators": [_unity(pair) for pair in pairs],
    }.items():
        if len(set(kinds)) > 1:
            figures[name] = {}
            for kind in dict.fromkeys(kinds):
                mine = np.asarray([each == kind for each in kinds])
                figures[name][kind or "none"] = _figures(predicted[mine], labels[mine])
    return figures


def by_margin(predicted: Array, labels: Array, margins: Array, parts: int = 5) -> list[dict[str, Any]]:
    """Accuracy in equally large parts of the decided pairs, those with the least margin first."""
    decided = np.flatnonzero(labels != 0.5)
    order = decided[np.argsort(margins[decided], kind="stable")]
    return [
        {"lowest": float(margins[part[0]]), "highest": float(margins[part[-1]])}
        | accuracy(predicted[part], labels[part])
        for part in np.array_split(order, parts)
        if len(part)
    ]


def accuracy(predicted: Array, labels: Array) -> dict[str, Any]:
    """Accuracy with its Wilson interval over the decided pairs; {} where there are none."""
    decided = labels != 0.5
    count = int(decided.sum())
    if not count:
        return {}
    agreed = calibration.agreements(predicted[decided], labels[decided])
    return {
        "decided": count,
        "accuracy": agreed / count,
        "accuracy_interval": calibration.wilson(agreed, count),
    }


def annotators(pairs: Sequence[Pair]) -> dict[str, float]:
    """How far people agree with one another, which bounds what agreeing with them can reach.

    ``same``: how often two annotators say the same (first, second or tie). ``kappa``: Cohen's (1960), which
    takes off what chance gives, averaged over every two annotators. ``one_against_others``: the accuracy of
    one annotator against the mean of the others, where that is no tie; a vote for a tie counts half.
    {} unless every pair has the same number of votes, two or more.
    """
    numbers = {len(pair.votes) for pair in pairs}
    if len(numbers) != 1 or min(numbers) < 2:
        return {}
    votes = np.asarray([pair.votes for pair in pairs])
    people = range(votes.shape[1])
    agreed = decided = 0.0
    for one in people:
        others = np.delete(votes, one, axis=1).mean(axis=1)
        clear = others != 0.5
        if clear.any():
            agreed += calibration.agreements(votes[clear, one], others[clear])
            decided += int(clear.sum())
    two = list(combinations(people, 2))
    figures = {
        "annotators": len(people),
        "same": fmean(float(np.mean(votes[:, one] == votes[:, other])) for one, other in two),
        "kappa": fmean(_kappa(votes[:, one], votes[:, other]) for one, other in two),
    }
    return figures | ({"one_against_others": agreed / decided} if decided else {})


def _kappa(one: Array, other: Array) -> float:
    observed = float(np.mean(one == other))
    chance = sum(float(np.mean(one == vote) * np.mean(other == vote)) for vote in (0.0, 0.5, 1.0))
    return (observed - chance) / (1 - chance) if chance < 1 else 1.0


def _figures(predicted: Array, labels: Array) -> dict[str, Any]:
    confidence, label = calibration.favoured_first(predicted, labels)
    return {
        "comparisons": len(labels),
        **accuracy(predicted, labels),
        "brier": calibration.brier_score(predicted, labels),
        "ece": calibration.expected_calibration_error(confidence, label),
    }


def _labels(pairs: Sequence[Pair]) -> Array:
    return np.asarray([pair.probability for pair in pairs], dtype=float)


def _unity(pair: Pair) -> str:
    return "divided" if len(set(pair.votes)) > 1 else "unanimous"
