"""Elo scores of models from pairwise judgements.

The paper reports harmlessness and helpfulness as Elo scores relative to an initial model (section 4.4;
Figures 2, 3 and 8). They are fitted here as a Bradley-Terry model (Bradley & Terry 1952):
P(i beats j) = 1 / (1 + 10 ** ((elo_j - elo_i) / 400)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import expit

from solon.errors import SolonError

SCALE = 400 / np.log(10)  # Elo points for one nat of log-odds
PRIOR = 0.5  # virtual draws between every two models; see ``fit``

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Game:
    """One comparison of two models' answers to a prompt."""

    model_a: str
    model_b: str
    probability: float  # that a wins, in [0, 1]: a fractional win; 0.5 is a draw
    cluster: str  # the prompt's id: games on one prompt are resampled together


@dataclass(frozen=True)
class Rating:
    """A model's Elo score, with its 95 % interval, relative to the anchor."""

    model: str
    elo: float
    low: float
    high: float
    games: int


def fit(
    games: Sequence[Game], anchor: str | None = None, bootstrap: int = 1000, seed: int = 0
) -> list[Rating]:
    """Rate every model by maximum likelihood, the best first.

    ``anchor`` is the model whose Elo is 0; without one, the mean is 0. Intervals are percentiles of the score
    relative to the anchor over ``bootstrap`` resamples of whole prompts.

    A model that won every game would be infinitely strong, so every two models also play half a virtual draw
    (``PRIOR``). It moves scores a little towards each other: winning all of 100 games makes 1041 points, and
    winning 75 of 100 makes 190 instead of 191.

    Raises SolonError for fewer than two models, a model compared with itself, a probability outside [0, 1],
    an anchor that did not play, or models that no chain of comparisons links.
    """
    names = sorted({name for game in games for name in (game.model_a, game.model_b)})
    _check(games, names, anchor)
    index = {name: number for number, name in enumerate(names)}
    clusters = {cluster: number for number, cluster in enumerate(sorted({game.cluster for game in games}))}

    wins = np.zeros((len(clusters), len(names), len(names)))  # (prompts, winners, losers)
    for game in games:
        a, b, prompt = index[game.model_a], index[game.model_b], clusters[game.cluster]
        wins[prompt, a, b] += game.probability
        wins[prompt, b, a] += 1 - game.probability
    total = wins.sum(axis=0)
    _check_linked(total + total.T, names)

    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), size=bootstrap)
    resampled = np.tensordot(draws.astype(float), wins, axes=1)
    elo = SCALE * _strengths(np.concatenate([total[None], resampled]))  # (1 + bootstrap, models)
    elo -= elo[:, [index[anchor]]] if anchor is not None else elo.mean(axis=1, keepdims=True)
    low, high = np.percentile(elo[1:], [2.5, 97.5], axis=0)
    played = [sum(name in (game.model_a, game.model_b) for game in games) for name in names]
    ratings = [
        Rating(name, float(elo[0, i]), float(low[i]), float(high[i]), played[i])
        for i, name in enumerate(names)
    ]
    return sorted(ratings, key=lambda rating: -rating.elo)


def _check(games: Sequence[Game], names: Sequence[str], anchor: str | None) -> None:
    for game in games:
        if game.model_a == game.model_b:
            raise SolonError(f"A game on prompt {game.cluster} compares {game.model_a} with itself.")
        if not 0 <= game.probability <= 1:
            raise SolonError(
                f"A game on prompt {game.cluster} has probability {game.probability}, not in [0, 1]."
            )
    if len(names) < 2:
        raise SolonError("Elo scores need games between at least two models; there are none.")
    if anchor is not None and anchor not in names:
        raise SolonError(f"The anchor {anchor} played no game; choose one of {', '.join(names)}.")


def _check_linked(played: Array, names: Sequence[str]) -> None:
    """``played``: games between every two models, shape (models, models)."""
    groups, group_of = scipy.sparse.csgraph.connected_components(played > 0, directed=False)
    if groups > 1:
        parts = [
            ", ".join(n for n, group in zip(names, group_of, strict=True) if group == g)
            for g in range(groups)
        ]
        raise SolonError(
            f"No comparison links the models {' and '.join(f'({part})' for part in parts)}, "
            "so their Elo scores cannot be put on one scale; judge some pairs across them."
        )


def _strengths(wins: Array) -> Array:
    """Maximise the Bradley-Terry log-likelihood of each win matrix.

    ``wins`` has shape (n, models, models), winners first; strengths have shape (n, models), in nats.

    Newton's method on all of them at once. The step length log(1 + d) / d, with d the largest difference of
    two components of the step, makes it converge from anywhere (Sun & Tran-Dinh 2019, generalised
    self-concordance with nu = 2).
    """
    models = wins.shape[-1]
    wins = wins + PRIOR / 2 * (1 - np.eye(models))
    played = wins + wins.swapaxes(1, 2)
    theta = np.zeros(wins.shape[:2])
    for _ in range(200):
        chance = expit(theta[:, :, None] - theta[:, None, :])
        gradient = (wins - played * chance).sum(axis=2)
        curvature = played * chance * (1 - chance)
        # The likelihood is flat along a common shift; adding 1 everywhere fixes the mean and leaves the rest.
        hessian = curvature.sum(axis=2)[:, :, None] * np.eye(models) - curvature + 1
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        size = np.ptp(step, axis=1, keepdims=True)
        theta += step * np.log1p(size) / np.maximum(size, 1e-300)
        if size.max() < 1e-9:
            return theta
    raise ArithmeticError("the Bradley-Terry fit did not converge in 200 Newton steps")
