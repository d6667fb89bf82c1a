"""Pairwise choices that people, or anything else, made: from a table to Elo scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypedDict

from solon.errors import SolonError
from solon.evaluation import decisions, elo
from solon.evaluation.calibration import Interval, wilson
from solon.evaluation.elo import Game, Rating
from solon.sources import tables
from solon.sources.tables import Row

COLUMNS = ("prompt", "model_a", "model_b", "choice")
CHOICES = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Choice:
    """Which of two models' answers to a prompt is better; ``model_a``'s was shown first."""

    game: Game
    aspect: str  # "" where the table does not say


class Ratings(TypedDict):
    """Elo scores from the choices on one aspect."""

    choices: int
    ties: int
    sureness: float  # mean distance of the choices from one half; 0.5 where none is a probability
    first_chosen: float | None  # share of the choices, ties left out, that fell on the answer shown first
    first_interval: Interval | None  # 95 %, Wilson; 0.5 outside it: the place sways who chooses
    both_orders: float  # share of comparisons, of two models on one prompt, that were shown in both orders
    turned: float | None  # share of these where the choices by the two orders fall on different answers
    models: list[Rating]  # best first


def read(path: Path) -> list[Choice]:
    """The rows of a table with the columns ``COLUMNS`` and, where there is more than one, ``aspect``.

    ``choice`` is "a", "b", "tie", the name of one of the two models, or a number from 0 to 1: how probable it
    is that a's answer is better. Raises SolonError naming file, line and column for what does not fit.
    """
    return [_choice(row) for row in tables.rows(str(path))]


def ratings(choices: Iterable[Choice], anchor: str | None, bootstrap: int, seed: int) -> dict[str, Ratings]:
    """Elo scores by aspect, fitted by ``elo.fit``; ``anchor`` has 0, or the mean has without one.

    A probability counts as the choice that it leans to; how sure it is stands apart, as ``sureness``. A tie
    is half a win for each, and two choices that the order turned are one win for each. The rows of one prompt
    are resampled together, so one comparison shown in both orders, or to several people, counts once for the
    intervals.
    """
    by_aspect: dict[str, list[Choice]] = {}
    for choice in choices:
        by_aspect.setdefault(choice.aspect, []).append(choice)
    return {
        aspect: _ratings([choice.game for choice in mine], anchor, bootstrap, seed)
        for aspect, mine in by_aspect.items()
    }


def _ratings(games: Sequence[Game], anchor: str | None, bootstrap: int, seed: int) -> Ratings:
    sureness = fmean(abs(game.probability - 0.5) for game in games)
    games = [replace(game, probability=0.5 + 0.5 * decisions.side(game.probability)) for game in games]
    decided = [game for game in games if game.probability != 0.5]
    first = sum(game.probability > 0.5 for game in decided)
    # By comparison, and by the model shown first: the share of the choices that fell on it.
    comparisons: dict[tuple[str, frozenset[str]], dict[str, list[float]]] = {}
    for game in games:
        pair = game.cluster, frozenset((game.model_a, game.model_b))
        comparisons.setdefault(pair, {}).setdefault(game.model_a, []).append(game.probability)
    both = [[fmean(chosen) for chosen in by.values()] for by in comparisons.values() if len(by) == 2]
    return Ratings(
        choices=len(games),
        ties=len(games) - len(decided),
        first_chosen=first / len(decided) if decided else None,
        first_interval=wilson(first, len(decided)) if decided else None,
        sureness=sureness,
        both_orders=len(both) / len(comparisons),
        turned=fmean((one - 0.5) * (other - 0.5) > 0 for one, other in both) if both else None,
        models=elo.fit(games, anchor, bootstrap, seed),
    )


def _choice(row: Row) -> Choice:
    prompt, model_a, model_b, choice = (_text(row, column) for column in COLUMNS)
    if model_a == model_b:
        raise SolonError(f"{row.place}: model_a and model_b are both {model_a!r}; name two different models")
    names = {model_a: 1.0, model_b: 0.0}
    if choice in names:  # a model may be called "b"
        probability = names[choice]
    elif choice.lower() in CHOICES:
        probability = CHOICES[choice.lower()]
    else:
        probability = _number(row, choice)
    aspect = row.values.get("aspect")
    return Choice(Game(model_a, model_b, probability, prompt), str(aspect or "").strip())


def _number(row: Row, choice: str) -> float:
    try:
        value = float(choice)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise SolonError(
            f"{row.place}: choice is {choice!r:.60}; write a, b, tie, one of the two models, "
            "or a number from 0 to 1"
        )
    return value


def _text(row: Row, column: str) -> str:
    if column not in row.values:
        known = ", ".join(map(str, row.values))
        raise SolonError(
            f"{row.place}: no column {column!r} among {known}; add it or rename the one that holds it"
        )
    value: Any = row.values[column]
    text = "" if value is None else str(value).strip()
    if not text:
        raise SolonError(f"{row.place}: {column} is empty; write it or remove the row")
    return text
