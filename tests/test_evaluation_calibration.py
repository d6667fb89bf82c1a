from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from solon.evaluation.calibration import (
    agreements,
    brier_score,
    calibration_error_interval,
    expected_calibration_error,
    favoured_first,
    reliability,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (431, 1000)])
def test_wilson_agrees_with_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_proportion(successes, n):
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        wilson(successes, n)


def sample(n: int = 2000, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Hard labels drawn from a logit; predictions are calibrated when sharpness is 1."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n)
    return 1 / (1 + np.exp(-sharpness * logit)), (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)


def test_brier_score_agrees_with_scikit_learn():
    predicted, labels = sample()
    assert brier_score(predicted, labels) == pytest.approx(brier_score_loss(labels, predicted))


def test_agreement_counts_ties_half():
    assert agreements([0.9, 0.2, 0.9, 0.5, 0.7, 0.5], [0.6, 0.0, 0.1, 1.0, 0.5, 0.5]) == 1 + 1 + 0 + 0.5 * 3


def test_calibration_error_agrees_with_a_loop():
    predicted, labels = sample(500, sharpness=3)
    predicted[:2] = 0.0, 1.0
    total = 0.0
    for number in range(10):
        inside = [
            i
            for i, p in enumerate(predicted)
            if number / 10 <= p < (number + 1) / 10 or (p == 1 and number == 9)
        ]
        if inside:
            gap = sum(labels[i] for i in inside) / len(inside) - sum(predicted[i] for i in inside) / len(
                inside
            )
            total += len(inside) / len(predicted) * abs(gap)
    assert expected_calibration_error(predicted, labels) == pytest.approx(total)
    curve = reliability(predicted, labels)
    assert sum(b["count"] * abs(b["observed"] - b["predicted"]) for b in curve) / 500 == pytest.approx(total)


def test_quantile_bins_hold_equally_many():
    predicted, labels = sample(1000)
    curve = reliability(predicted, labels, bins=8, spacing="quantile")
    assert [b["count"] for b in curve] == [125] * 8
    assert [b["predicted"] for b in curve] == sorted(b["predicted"] for b in curve)
    assert curve[0]["observed"] < 0.35
    assert curve[-1]["observed"] > 0.65


def test_empty_bins_are_left_out():
    assert reliability([0.05, 0.95, 0.95], [0, 1, 0]) == [
        {"predicted": pytest.approx(0.05), "observed": 0.0, "count": 1},
        {"predicted": pytest.approx(0.95), "observed": 0.5, "count": 2},
    ]


TOLD: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # what a model tells, from the true logit
    "none": lambda logit: logit,
    "small": lambda logit: 1.35 * logit,
    "moderate": lambda logit: 2.5 * logit,
    "in one bin": lambda logit: np.where(logit > 1.2, logit + 2, logit),
    "large": lambda logit: -1.5 * logit,
}


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("wrong", TOLD)
def test_calibration_error_interval_covers_the_true_error(wrong: str, soft: bool) -> None:
    """In 0.93 of samples, of hard labels and of means of three votes; percentiles cover 0 in 0.75."""

    def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        logit = 1.2 * rng.normal(size=n)
        labels = rng.binomial(3 if soft else 1, expit(logit)) / (3 if soft else 1)
        return favoured_first(expit(TOLD[wrong](logit)), labels)

    true = expected_calibration_error(*drawn(2_000_000, seed=1))
    for n in (50, 200, 1000):
        held = widths = 0.0
        for seed in range(120):
            predicted, labels = drawn(n, 1000 * n + seed)
            low, high = calibration_error_interval(predicted, labels, bootstrap=300, seed=seed)
            assert low <= expected_calibration_error(predicted, labels) <= high
            held += low <= true <= high
            widths += high - low
        assert held >= 0.93 * 120, (n, held)
        assert widths / 120 < 2.5 / np.sqrt(n)  # and it is no interval that says nothing


def test_calibrated_predictions_have_an_interval_from_zero():
    low, high = calibration_error_interval(*sample(2000), bootstrap=300)
    assert low < 0.005 < high < 0.05


def test_calibration_does_not_depend_on_which_answer_was_recorded_first():
    """Chosen-first records have hard labels of 1 throughout; a calibrated model must look calibrated."""
    predicted, labels = sample(20_000)
    chosen = np.where(labels == 1, predicted, 1 - predicted)
    assert expected_calibration_error(chosen, np.ones_like(chosen)) > 0.2  # the trap
    assert expected_calibration_error(*favoured_first(chosen, np.ones_like(chosen))) < 0.02
    for first, second in zip(
        favoured_first(predicted, labels), favoured_first(1 - predicted, 1 - labels), strict=True
    ):
        assert first == pytest.approx(second)
    assert favoured_first([0.5], [1.0])[1] == [0.5]


@pytest.mark.parametrize(
    ("predicted", "labels"), [([], []), ([0.5], [0.5, 1]), ([1.2], [1]), ([np.nan], [1])]
)
def test_what_is_no_probability_is_refused(predicted, labels):
    with pytest.raises(ValueError, match=r"probabilities|labels"):
        brier_score(predicted, labels)
