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
    """95 % interval of the expected calibration error, from resampled comparisons in fixed bins.

    Noise can only add to an error made of absolute values, and resampling adds as much noise again, so plain
    percentiles lie too high. The basic bootstrap (Davison & Hinkley 1997, eq. 5.6) reflects them about the
    estimate, which takes that bias off; the interval is cut at 0 and stretched, if need be, to hold the
    estimate.
    """
    predicted, labels = _pair(predicted, labels)
    which = _bin(predicted, bins, spacing)
    gap = labels - predicted
    estimate = _error(gap, which)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(gap), size=len(gap)) for _ in range(bootstrap))
    low, high = np.percentile([_error(gap[i], which[i]) for i in drawn], [2.5, 97.5])
    return min(estimate, max(0.0, 2 * estimate - float(high))), max(estimate, 2 * estimate - float(low))


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
