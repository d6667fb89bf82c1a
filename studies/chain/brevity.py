"""How much of a judge's scores is the answers' length."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from page import MODELS


def without_length(scores: Iterable[tuple[str, str, float, float]], bootstrap: int) -> dict[str, list[float]]:
    """What each model gains on the initial one at the same length, and what length itself is worth.

    ``scores`` are prompt, model, length of the answer (as ``length_control`` has it) and its score. Least
    squares of the score on the length, the model and the prompt; ``length`` is the points for a unit of it.
    Each has its 95 % interval, by resampling the prompts ``bootstrap`` times, whatever the number of runs
    that asked them. Empty where nothing was scored.
    """
    by_prompt: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for prompt, *rest in scores:
        by_prompt[prompt].append((rest[0], rest[1], rest[2]))
    known = {model for found in by_prompt.values() for model, *_ in found}
    names = [name for name in MODELS[1:] if name in known]
    if not names:
        return {}
    squares, products = [], []
    for found in by_prompt.values():
        rows = np.array([[long, *(float(model == name) for name in names)] for model, long, _ in found])
        rows -= rows.mean(0)  # each prompt has a level of its own
        squares.append(rows.T @ rows)
        products.append(rows.T @ np.array([score for *_, score in found]))
    draws = np.random.default_rng(0).multinomial(
        len(squares), np.full(len(squares), 1 / len(squares)), bootstrap
    )
    middle = fit(np.sum(squares, 0), np.sum(products, 0))
    drawn = [fit(np.tensordot(draw, squares, 1), np.tensordot(draw, products, 1)) for draw in draws]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return {
        what: [float(side[place]) for side in (middle, low, high)]
        for place, what in enumerate(["length", *names])
    }


def fit(squares: Any, products: Any) -> Any:
    """The coefficients of the normal equations; the smallest ones where a draw does not decide them."""
    return np.linalg.lstsq(squares, products)[0]
