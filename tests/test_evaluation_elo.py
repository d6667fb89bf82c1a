import itertools
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from solon.errors import SolonError
from solon.evaluation.elo import PRIOR, SCALE, Game, Rating, fit

STRENGTHS = {"initial": 0.0, "sl-cai": 80.0, "rl-cai": 200.0, "other": -120.0}


def simulate(rng: np.random.Generator, prompts: int) -> list[Game]:
    """Every two models meet once on every prompt; outcomes follow STRENGTHS."""
    games = []
    for a, b in itertools.combinations(STRENGTHS, 2):
        chance = 1 / (1 + 10 ** ((STRENGTHS[b] - STRENGTHS[a]) / 400))
        games += [Game(a, b, float(won), f"p{i}") for i, won in enumerate(rng.random(prompts) < chance)]
    return games


def by_model(ratings: list[Rating]) -> dict[str, Rating]:
    return {rating.model: rating for rating in ratings}


def test_two_models_have_the_closed_form():
    games = [
        Game("initial", "rl-cai", outcome, f"p{i}") for i, outcome in enumerate([0.1, 0.4, 0.0, 0.5] * 50)
    ]
    ratings = by_model(fit(games, anchor="initial"))
    share = (200 * 0.75 + PRIOR / 2) / (200 + PRIOR)
    assert ratings["rl-cai"].elo == pytest.approx(400 * np.log10(share / (1 - share)), abs=1e-6)
    assert ratings["rl-cai"].low < ratings["rl-cai"].elo < ratings["rl-cai"].high
    assert ratings["initial"] == Rating("initial", 0.0, 0.0, 0.0, 200)


def test_agrees_with_logistic_regression():
    """Bradley-Terry is logistic regression on +1 for a and -1 for b; soft outcomes are weighted rows."""
    rng = np.random.default_rng(1)
    games = [replace(game, probability=float(rng.beta(2, 3))) for game in simulate(rng, 300)]
    names = list(STRENGTHS)
    rows, outcomes, weights = [], [], []
    draws = [Game(a, b, 0.5, "") for a, b in itertools.combinations(names, 2)]
    for game, weight in [(game, 1.0) for game in games] + [(draw, PRIOR) for draw in draws]:
        row = [float(name == game.model_a) - float(name == game.model_b) for name in names[1:]]
        rows += [row, row]
        outcomes += [1, 0]
        weights += [weight * game.probability, weight * (1 - game.probability)]
    reference = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit(rows, outcomes, sample_weight=weights)
    ratings = by_model(fit(games, anchor=names[0], bootstrap=10))
    assert [ratings[name].elo for name in names[1:]] == pytest.approx(SCALE * reference.coef_[0], abs=0.01)


def test_intervals_hold_the_true_strengths():
    covered = []
    for number in range(100):
        games = simulate(np.random.default_rng(number), prompts=150)
        ratings = by_model(fit(games, anchor="initial", bootstrap=400, seed=number))
        covered += [[ratings[name].low <= elo <= ratings[name].high for name, elo in STRENGTHS.items()]]
    share = np.array(covered)[:, 1:]  # the anchor is right by definition
    assert share.sum(axis=0).min() >= 91  # each of 100 simulations; 95 expected
    assert 0.93 <= share.mean() <= 0.98


def test_order_and_relabelling_change_nothing():
    rng = np.random.default_rng(3)
    games = [replace(game, probability=float(rng.random())) for game in simulate(rng, 40)]
    swapped = [Game(g.model_b, g.model_a, 1 - g.probability, g.cluster) for g in games]
    shuffled = [swapped[i] for i in rng.permutation(len(swapped))]
    expected, actual = by_model(fit(games, "initial")), by_model(fit(shuffled, "initial"))
    for name in STRENGTHS:
        for field in ("elo", "low", "high"):
            assert getattr(actual[name], field) == pytest.approx(getattr(expected[name], field), abs=1e-6)


def test_the_anchor_only_shifts_scores():
    games = simulate(np.random.default_rng(4), 50)
    mean_zero, anchored = by_model(fit(games)), by_model(fit(games, anchor="other"))
    assert sum(rating.elo for rating in mean_zero.values()) == pytest.approx(0, abs=1e-6)
    for name in STRENGTHS:
        difference = mean_zero[name].elo - mean_zero["other"].elo
        assert anchored[name].elo == pytest.approx(difference, abs=1e-6)
    assert [rating.model for rating in fit(games)] == ["rl-cai", "sl-cai", "initial", "other"]


def test_repeated_judgements_of_a_prompt_are_no_new_evidence():
    games = simulate(np.random.default_rng(5), 100)
    once, four_times = by_model(fit(games, "initial")), by_model(fit(games * 4, "initial"))
    apart = [replace(game, cluster=f"{game.cluster} {copy}") for copy in range(4) for game in games]
    independent = by_model(fit(apart, "initial"))

    def width(ratings: dict[str, Rating]) -> float:
        return ratings["rl-cai"].high - ratings["rl-cai"].low

    assert width(four_times) == pytest.approx(width(once), rel=0.05)
    assert width(independent) == pytest.approx(width(once) / 2, rel=0.15)


@pytest.mark.parametrize("count", [1, 100, 20_000])
def test_a_model_that_always_wins_has_a_finite_score(count):
    games = [Game("rl-cai", "initial", 1.0, f"p{i % 500}") for i in range(count)]
    best, worst = fit(games, anchor="initial", bootstrap=50)
    assert (best.model, worst.model) == ("rl-cai", "initial")
    assert best.elo == pytest.approx(400 * np.log10((count + PRIOR / 2) / (PRIOR / 2)), abs=1e-6)
    assert np.isfinite([best.low, best.high]).all()


@pytest.mark.parametrize(
    ("games", "anchor", "message"),
    [
        ([], None, "at least two models"),
        ([Game("a", "a", 0.5, "p")], None, "compares a with itself"),
        ([Game("a", "b", 1.5, "p")], None, "probability 1.5"),
        ([Game("a", "b", float("nan"), "p")], None, "probability nan"),
        ([Game("a", "b", 0.5, "p")], "initial", "choose one of a, b"),
        (
            [Game("a", "b", 0.5, "p"), Game("c", "d", 0.5, "p")],
            None,
            r"links the models \(a, b\) and \(c, d\)",
        ),
    ],
)
def test_impossible_games_are_named(games, anchor, message):
    with pytest.raises(SolonError, match=message):
        fit(games, anchor)
