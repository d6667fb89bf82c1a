"""How well a preference model agrees with held-out labels, and its calibration (paper, Figure 9)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from solon.evaluation import calibration
from solon.records import PreferenceRecord


def measure(
    model: str,
    records: Sequence[PreferenceRecord],
    batch_size: int = 16,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """``agreement`` of the preference model in the folder ``model``, which scores the records first."""
    from solon.training import preference_scores  # takes seconds to import

    score = preference_scores.scorer(model, batch_size)
    chosen, rejected = (
        score([[*record["prompt"], *record[answer]] for record in records])
        for answer in ("chosen", "rejected")
    )
    return agreement(records, chosen, rejected, bootstrap, seed)


def agreement(
    records: Sequence[PreferenceRecord],
    chosen: Sequence[float],
    rejected: Sequence[float],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracy, Brier score and calibration of the scores on the records, over all and by aspect.

    The model's probability that the chosen answer is better is the logistic function of the difference of
    the two scores (Bradley & Terry 1952). Intervals are 95 %. {} without records.
    """
    if not records:
        return {}
    predicted = expit(np.asarray(chosen) - np.asarray(rejected))
    labels = np.asarray([record["probability"] for record in records])
    figures = _figures(predicted, labels)
    confidence, label = calibration.favoured_first(predicted, labels)
    figures |= {
        "ece_interval": calibration.calibration_error_interval(
            confidence, label, bootstrap=bootstrap, seed=seed
        ),
        "reliability": calibration.reliability(confidence, label),
        "by_aspect": {},
    }
    for aspect in dict.fromkeys(record["aspect"] for record in records):
        mine = np.asarray([record["aspect"] == aspect for record in records])
        figures["by_aspect"][aspect] = _figures(predicted[mine], labels[mine])
    return figures


def _figures(predicted: calibration.Array, labels: calibration.Array) -> dict[str, Any]:
    agreed = calibration.agreements(predicted, labels)
    confidence, label = calibration.favoured_first(predicted, labels)
    return {
        "comparisons": len(labels),
        "accuracy": agreed / len(labels),
        "accuracy_interval": calibration.wilson(agreed, len(labels)),
        "brier": calibration.brier_score(predicted, labels),
        "ece": calibration.expected_calibration_error(confidence, label),
    }
