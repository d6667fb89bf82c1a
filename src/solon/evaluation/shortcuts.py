"""Can labels be told without reading? What trivial features of two answers say of which is labelled better.

A preference model learns whatever tells its labels apart. Where the end of an answer, its length or its first
word does, it may learn that and nothing else, and RL then finds it. The same holds for a judge's judgements.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from solon.evaluation.calibration import Array, Interval, wilson
from solon.evaluation.paper_evals import Pair
from solon.held_out import opening
from solon.prompts.dialogue import transcript
from solon.records import ASPECT_OF, Message
from solon.seeds import share_of
from solon.store.run_folder import RunFolder
from solon.texts.degenerate import ROLE
from solon.texts.words import words
from solon.texts.written import CLOSING, PREFACE, Written, ends_whole

HALVINGS = 5
RIDGE = 1.0  # of the logistic regression, per coefficient of a feature scaled to a mean square of 1
ROUNDING = 1e-9
FEWEST = 20  # openings, below which nothing is said
FIRST_WORDS, RARE = 30, 0.01  # how many first words are looked at; those of fewer of the texts are not
LEVEL = 0.95

ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)
APOLOGY = re.compile(r"\b(?:sorry|apolog\w+|can(?:no|['’])t|unable|won['’]t)\b", re.IGNORECASE)
QUESTION = re.compile(rf"[?？؟](?:{CLOSING}|[\"'])*$")

FEATURES: Mapping[str, Callable[[Written], float]] = {
    "length": lambda written: math.log1p(len(written.text)),
    "lines": lambda written: math.log1p(written.text.count("\n")),
    "list marks": lambda written: math.log1p(len(ITEM.findall(written.text))),
    "sentence's end": lambda written: ends_whole(written.text),
    "question at its end": lambda written: bool(QUESTION.search(written.text)),
    "cut": lambda written: bool(written.cut),
    "preface": lambda written: bool(PREFACE.match(written.text)),
    "quotation marks around it": lambda written: bool(
        re.match('["“「『].*["”」』]$', written.text, re.DOTALL)
    ),
    "role marker": lambda written: bool(ROLE.search(written.text)),
    "apology or refusal": lambda written: bool(APOLOGY.search(written.text[:100])),
}
"""Of one answer; a pair has the difference of its two."""


@dataclass(frozen=True)
class Labelled:
    """Two answers, and the probability that the first is the better one."""

    group: str  # pairs of one group share what they are about, and a fold
    first: Written
    second: Written
    probability: float


class Told(TypedDict):
    """How well a feature tells the labels of pairs it was not fitted to.

    A pair counts by how decided its label is, abs(2p - 1), and half where the feature does not differ.
    """

    feature: str
    differs: float  # share of the pairs in which it is not the same on both sides
    better: str  # "more" or "less": what the better answers have of it; "" of several features
    accuracy: float  # share of the pairs in which it tells the better answer; 0.5 is chance
    interval: Interval
    auc: float  # chance that it ranks a better answer above another pair's worse one
    auc_interval: Interval
    clear: bool  # above chance, also for so many features looked at


class Shortcuts(TypedDict):
    pairs: int
    openings: int
    rows: list[Told]  # [] where there is too little to tell
    says: str


def measure(pairs: Sequence[Labelled]) -> Shortcuts:
    """Each feature alone, the first words, and all together, by cross-validated logistic regression.

    The openings are halved five times (as in Dietterich 1998), each half is told from the other, and figures
    are the means: with ten folds, which share nearly all they learn from, chance results spread 1.4 times as
    widely as the intervals say. The regression is of the differences between two answers, without an
    intercept, so that it does not matter which comes first, and fits soft labels by cross-entropy. Intervals
    are 95 % (Wilson), over as many openings as the weights are worth; for the AUC they are wide, since its
    variance is at most that of a share (Birnbaum and Klose 1957).
    """
    labels = np.array([pair.probability for pair in pairs])
    groups = sorted({pair.group for pair in pairs if pair.probability != 0.5})
    rows: list[Told] = []
    if len(groups) >= FEWEST:
        columns = {name: _differences(pairs, feature) for name, feature in FEATURES.items()}
        columns |= {"first word": _first_words(pairs)}
        differing = {name: column for name, column in columns.items() if column.any()}
        halves = [
            np.array([share_of("half", str(halving), pair.group) < 0.5 for pair in pairs])
            for halving in range(HALVINGS)
        ]
        size, tests = _openings(pairs, np.abs(2 * labels - 1)), len(differing) + 1
        rows = [_told(name, column, labels, halves, size, tests) for name, column in differing.items()]
        rows.sort(key=lambda row: -row["accuracy"])
        # Who learns from the texts does not see which were trimmed.
        seen = [column for name, column in differing.items() if name != "cut"]
        if seen:
            everything = np.concatenate(seen, axis=1)
            rows.append(_told(TOGETHER, everything, labels, halves, size, tests))
    return Shortcuts(pairs=len(pairs), openings=len(groups), rows=rows, says=_says(rows, len(groups)))


TOGETHER = "all together"


def _says(rows: Sequence[Told], openings: int) -> str:
    if openings < FEWEST:
        return f"Too few labels to look for shortcuts: {openings} openings with a decided one."
    if not rows or rows[-1]["feature"] != TOGETHER:
        return "No trivial feature that texts show differs between the answers."
    *alone, together = rows
    telling = [row for row in alone if row["clear"]]
    low, high = together["interval"]
    if not telling and not together["clear"]:
        return (
            f"No trivial feature tells the labels: all together are right in {together['accuracy']:.2f} of "
            f"the pairs (95 % interval {low:.2f} to {high:.2f}; chance is 0.50)."
        )
    named = ", ".join(f"{row['feature']} alone in {row['accuracy']:.2f}" for row in telling[:3])
    return (
        f"Labels can be told without reading: from {named}{' and ' if named else ''}{TOGETHER} in "
        f"{together['accuracy']:.2f} of the pairs (95 % interval {low:.2f} to {high:.2f}; chance is 0.50)."
    )


def _told(
    name: str, columns: Array, labels: Array, halves: Sequence[NDArray[np.bool_]], size: float, tests: int
) -> Told:
    """Of a feature's differences, shape (pairs, columns); ``size`` openings are behind the intervals."""
    weights = np.abs(2 * labels - 1)
    accuracies, aucs = [], []
    for half in halves:
        logits = np.zeros(len(labels))
        for here in (half, ~half):
            logits[here] = columns[here] @ _fit(columns[~here], labels[~here])
        towards = logits * np.sign(labels - 0.5)  # positive where the better answer is told
        towards[np.abs(towards) < ROUNDING] = 0  # as where a feature does not differ
        accuracies.append(np.average(0.5 + 0.5 * np.sign(towards), weights=weights))
        aucs.append(_auc(towards, weights))
    accuracy, auc = float(np.mean(accuracies)), float(np.mean(aucs))
    coefficients = _fit(columns, labels)
    low, _ = wilson(accuracy * size, size, 1 - (1 - LEVEL) / tests)
    return Told(
        feature=name,
        differs=float(np.mean(np.any(columns != 0, axis=1))),
        better="" if columns.shape[1] > 1 else "more" if coefficients[0] > 0 else "less",
        accuracy=accuracy,
        interval=wilson(accuracy * size, size),
        auc=auc,
        auc_interval=wilson(auc * size, size),
        clear=low > 0.5,
    )


def _fit(columns: Array, labels: Array) -> Array:
    """Coefficients of a logistic regression with an L2 penalty, by Newton's method; 0 of what is the same."""
    scale = np.sqrt(np.mean(columns**2, axis=0)) if len(columns) else np.zeros(columns.shape[1])
    scale = np.where(scale > 0, scale, np.inf)
    scaled, found = columns / scale, np.zeros(columns.shape[1])
    for _ in range(50):
        predicted = expit(scaled @ found)
        slope = scaled.T @ (labels - predicted) - RIDGE * found
        curvature = (scaled * (predicted * (1 - predicted))[:, None]).T @ scaled + RIDGE * np.eye(len(found))
        step = np.linalg.solve(curvature, slope)
        found += step
        if np.max(np.abs(step)) < 1e-8:
            break
    coefficients: Array = found / scale
    return coefficients


def _auc(towards: Array, weights: Array) -> float:
    """Weighted share of pairs of pairs in which one's better answer is ranked above the other's worse one.

    An answer's rank is the logit by which its pair has it better; its mirror image is the other answer's.
    """
    order = np.argsort(towards)
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    ranked = towards[order]
    less = below[np.searchsorted(ranked, -towards, side="left")]
    equal = below[np.searchsorted(ranked, -towards, side="right")] - less
    above = weights.sum() - less - equal
    return float(np.average(above + equal / 2, weights=weights) / weights.sum())


def _openings(pairs: Sequence[Labelled], weights: Array) -> float:
    """How many equally weighted openings say as much (Kish's effective sample size)."""
    by_group: Counter[str] = Counter()
    for pair, weight in zip(pairs, weights, strict=True):
        by_group[pair.group] += weight
    shares = np.array(list(by_group.values()))
    return float(shares.sum() ** 2 / (shares**2).sum())


def _differences(pairs: Sequence[Labelled], feature: Callable[[Written], float]) -> Array:
    return np.array([[float(feature(pair.first)) - float(feature(pair.second))] for pair in pairs])


def _first_words(pairs: Sequence[Labelled]) -> Array:
    """A column for each of the usual first words: 1 where the first answer begins with it, -1 the second."""
    begun = [tuple((words(each.text) or [""])[0] for each in (pair.first, pair.second)) for pair in pairs]
    counts = Counter(word for both in begun for word in both)
    usual = [
        word for word, count in counts.most_common(FIRST_WORDS) if count >= max(3, RARE * 2 * len(pairs))
    ]
    return np.array([[float(one == word) - float(other == word) for word in usual] for one, other in begun])


def measure_run(run: RunFolder) -> dict[str, Shortcuts]:
    """Of the labels of each aspect, and of the evaluation's judgements on it."""
    return {name: measure(pairs) for name, pairs in of_run(run).items()}


def of_run(run: RunFolder) -> dict[str, list[Labelled]]:
    """The labels of each aspect, and the evaluation's judgements on it; what there is none of is left out.

    Matches of policies kept on RL's way are not among them: only three models' answers stand side by side.
    """
    cuts = {pair["id"]: dict(zip(pair["responses"], pair.get("cut", ()), strict=False)) for pair in run.pairs}
    texts = {
        record["id"]: {each["model"]: each["text"] for each in record["answers"]} for record in run.answers
    }
    found: dict[str, list[Labelled]] = {}
    for aspect in ASPECT_OF.values():
        found[f"{aspect} labels"] = [
            Labelled(
                opening(label["prompt"]),
                _answer(label["chosen"], cuts.get(label["id"], {})),
                _answer(label["rejected"], cuts.get(label["id"], {})),
                label["probability"],
            )
            for label in run.preferences
            if label["aspect"] == aspect
        ]
        found[f"{aspect} judgements"] = [
            Labelled(
                judged["prompt_id"],
                Written(both[judged["model_a"]]),
                Written(both[judged["model_b"]]),
                judged["probability"],
            )
            for judged in run.judgements
            if judged["aspect"] == aspect
            and {judged["model_a"], judged["model_b"]} <= (both := texts.get(judged["prompt_id"], {})).keys()
        ]
    return {name: pairs for name, pairs in found.items() if pairs}


def of_people(pairs: Sequence[Pair]) -> list[Labelled]:
    """Comparisons that people labelled (see ``paper_evals.read_pairs``)."""
    return [
        Labelled(opening(pair.dialogue), Written(first), Written(second), pair.probability)
        for pair in pairs
        for first, second in [pair.texts]
    ]


def _answer(turns: Sequence[Message], cuts: Mapping[str, str]) -> Written:
    text = transcript(turns).removeprefix("Assistant: ")
    return Written(text, cuts.get(text, ""))  # type: ignore[arg-type]
