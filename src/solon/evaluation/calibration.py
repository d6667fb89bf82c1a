"""How good predicted probabilities are: accuracy, Brier score and calibration.

A prediction is the probability that the first of two answers is the better one; its label says the same, and
may be soft (anything in [0, 1]) or hard (0 or 1). The paper plots such curves in Figure 9 and section 4.1.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Literal, TypedDict

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Spacing = Literal["width", "quantile"]
Interval = tuple[float, float]


class Bin(TypedDict):
    """One point of a reliability curve."""

    predicted: float  # mean prediction in the bin
    observed: float  # mean label in the bin
    count: int


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Interval of a proportion (Wilson 1927). Counts may be fractional; ValueError for n < 1."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    z = scipy.stats.norm.ppf((1 + level) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of a mean, by Student's t; None where there are no two different values."""
    if len({*values}) < 2:
        return None
    half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, len(values) - 1)
    return fmean(values) - float(half), fmean(values) + float(half)


def agreements(predicted: ArrayLike, labels: ArrayLike) -> float:
    """How many predictions are on their label's side of 0.5; where either is 0.5 exactly, it counts half."""
    predicted, labels = _pair(predicted, labels)
    return float(np.sum(0.5 + 0.5 * np.sign(predicted - 0.5) * np.sign(labels - 0.5)))


def brier_score(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared difference of prediction and label (Brier 1950).

    0 is best; always saying 0.5 gives 0.25 on hard labels.
    """
    predicted, labels = _pair(predicted, labels)
    return float(np.mean((predicted - labels) ** 2))


def favoured_first(predicted: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Swap the answers of each comparison where need be, so that the prediction is at least 0.5.

    Records put the chosen answer first, so labels are never below 0.5 and say nothing about calibration; the
    order must not depend on the label. A prediction of exactly 0.5 favours neither, so its label becomes 0.5.
    """
    predicted, labels = _pair(predicted, labels)
    labels = np.select([predicted > 0.5, predicted < 0.5], [labels, 1 - labels], 0.5)
    return np.maximum(predicted, 1 - predicted), labels


def reliability(
    predicted: ArrayLike, labels: ArrayLike, bins: int = 10, spacing: Spacing = "width"
) -> list[Bin]:
    """The reliability curve, lowest predictions first; empty bins are left out.

    Bins are equally wide on [0, 1], or hold about equally many predictions ("quantile").
    """
    predicted, labels = _pair(predicted, labels)
    which = _bin(predicted, bins, spacing)
    return [
        Bin(
            predicted=float(predicted[which == b].mean()),
            observed=float(labels[which == b].mean()),
            count=int((which == b).sum()),
        )
        for b in np.unique(which)
    ]


def expected_calibration_error(
    predicted: ArrayLike, labels: ArrayLike, bins: int = 10, spacing: Spacing = "width"
) -> float:
    """Mean of |observed - predicted| over bins, weighted by count (Guo et al. 2017, eq. 3)."""
    predicted, labels = _pair(predicted, labels)
    return _error(labels - predicted, _bin(predicted, bins, spacing))


def calibration_error_interval(
    predicted: ArrayLike,
    labels: ArrayLike,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    bins: int = 10,
    spacing: Spacing = "width",
) -> Interval:
    """95 % interval of the expected calibration error: the true errors under which it is no surprise.

    Noise adds to an error made of absolute values, most where the true one is 0, so that percentiles of
    resampled comparisons lie too high, and reflected ones cover 0 in three of four. Here candidates of the
    true gaps lie on one path, from the observed gaps down to none, each less by the same number of its
    standard errors, and up as far; ``bootstrap`` samples are drawn under each (of the bins' counts, and
    normal of their labels' sums, with the variance that labels have *there*). The interval holds the
    candidates whose samples' errors have the estimate between their percentiles (a parametric bootstrap
    test, inverted: Davison & Hinkley 1997, section 5.2.3). The percentiles are 1.5 and 98.5, since the true
    gaps lie near the path, not on it. The interval always holds the estimate.
    """
    predicted, labels = _pair(predicted, labels)
    used, which = np.unique(_bin(predicted, bins, spacing), return_inverse=True)
    estimate = expected_calibration_error(predicted, labels, bins, spacing)
    count = np.bincount(which, minlength=len(used))
    mean, rate = np.bincount(which, predicted) / count, np.bincount(which, labels) / count
    hard = float((count * rate * (1 - rate)).sum())  # how much labels of 0 and 1 with these means would vary
    spread = float(np.sum((labels - rate[which]) ** 2)) / hard if hard else 1.0  # soft ones vary less
    smooth = (count * rate + 1) / (count + 2)
    error = np.sqrt(spread * smooth * (1 - smooth) / count)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(labels), count / len(labels), size=bootstrap)
    noise = np.sqrt(counts) * rng.standard_normal(counts.shape)

    def candidate(errors: float) -> tuple[float, float, float]:
        """The calibration error with gaps less by so many standard errors, and percentiles of samples."""
        gap = rate - mean
        gap = np.where(gap < 0, -1, 1) * np.maximum(0, np.abs(gap) - errors * error)
        there = np.clip(mean + gap, 0, 1)
        gap = there - mean
        samples = np.abs(counts * gap + noise * np.sqrt(spread * there * (1 - there))).sum(axis=1)
        low, high = np.percentile(samples, [1.5, 98.5]) / len(labels)
        return float((count * np.abs(gap)).sum() / len(labels)), float(low), float(high)

    none = float(np.max(np.abs(rate - mean) / np.maximum(error, 1e-12)))  # so many leave no gap
    most = -8.0  # standard errors beyond the observed gaps, which no sample reaches by chance
    ends = []
    for percentile in (2, 1):  # the lower end is where the estimate is at the upper percentile
        few, many = most, none
        for _ in range(14):
            middle = (few + many) / 2
            few, many = (middle, many) if candidate(middle)[percentile] > estimate else (few, middle)
        ends.append(candidate(many)[0])
    return min(estimate, ends[0]), max(estimate, ends[1])


def _error(gap: Array, which: NDArray[np.intp]) -> float:
    return float(np.abs(np.bincount(which, gap)).sum() / len(gap))


def _bin(predicted: Array, bins: int, spacing: Spacing) -> NDArray[np.intp]:
    """The number of each prediction's bin. Bins hold their lower edge, the last its upper one too."""
    inner = np.arange(1, bins) / bins
    edges = inner if spacing == "width" else np.quantile(predicted, inner)
    return np.searchsorted(edges, predicted, side="right")


def _pair(predicted: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays of shape (n,); ValueError where they are empty, differ in length or leave [0, 1]."""
    pair = np.asarray(predicted, dtype=float), np.asarray(labels, dtype=float)
    for values in pair:
        if values.ndim != 1 or not len(values) or not np.all((values >= 0) & (values <= 1)):
            raise ValueError("predictions and labels must be non-empty sequences of probabilities")
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"there are {len(pair[0])} predictions but {len(pair[1])} labels")
    return pair
