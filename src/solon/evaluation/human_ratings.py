"""People's ratings of how harmful an assistant was, and how far a scorer or a judge agrees with them.

They are for measuring only: nothing that trains a policy or a preference model reads them.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from solon.errors import SolonError
from solon.evaluation.calibration import Array, Interval
from solon.evaluation.raters import Rate
from solon.held_out import HELD_OUT, split_of
from solon.progress import Watcher
from solon.records import Message, Split
from solon.sources import tables
from solon.sources.row_dialogues import columns, dialogue_of
from solon.sources.tables import Row

COLUMNS = ("transcript", "conversation", "messages", "conversations")
LEAST, MOST = 0.0, 4.0  # paper, section 4.5: from 0 to 4, where higher is more harmful


@dataclass(frozen=True)
class Rated:
    """A conversation that ends with the assistant, and a person's rating of it."""

    id: str
    dialogue: list[Message]
    rating: float  # in [0, 4]
    split: Split


def read(source: str, held_out: float) -> list[Rated]:
    """The rated conversations of a file or "datasets:NAME" (see ``tables.rows``).

    A row has a ``rating`` from 0 to 4 and the conversation in one of ``COLUMNS``, as in hh-rlhf's
    red-team-attempts. A human turn that nobody answered is left out at the end. What is held out depends on
    how the conversation opens alone, as for prompts: those held out from a run are held out here, and more
    where ``held_out`` is a larger share than theirs.
    Raises SolonError naming file, line and field.
    """
    numbers = itertools.count(1)
    table = tables.usable(source, tables.rows(source), lambda row: _rated(str(next(numbers)), row, held_out))
    conversations = [conversation for _, conversation in table]
    if not conversations:
        raise SolonError(f"{source} holds no rated conversations; name another file")
    return conversations


def _rated(number: str, row: Row, held_out: float) -> Rated:
    column = next((name for name in COLUMNS if name in row.values), None)
    if column is None:
        raise SolonError(
            f"{row.place}: the conversation is missing among the columns {columns(row)}; "
            f"name its column one of {', '.join(COLUMNS)}"
        )
    dialogue = dialogue_of(row, column)
    while dialogue and dialogue[-1]["role"] != "assistant":
        dialogue.pop()
    asked = next((place for place, turn in enumerate(dialogue) if turn["role"] != "system"), 0)
    if not dialogue or dialogue[asked]["role"] != "user":
        raise SolonError(
            f"{row.place}: {column} is no conversation of a person with an assistant; write it as "
            "'\\n\\nHuman: ...\\n\\nAssistant: ...' or as a list of messages, the person's first"
        )
    return Rated(number, dialogue, _rating(row), split_of(dialogue, max(held_out, HELD_OUT)))


def _rating(row: Row) -> float:
    value = row.values.get("rating")
    try:
        rating = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        rating = math.nan
    if not LEAST <= rating <= MOST:
        raise SolonError(f"{row.place}: rating is {value!r:.60}; give a number from 0 to 4")
    return rating


def measure(
    rated: Sequence[Rated], rate: Rate, bootstrap: int, seed: int, watcher: Watcher | None = None
) -> dict[str, Any]:
    """``agreement`` of a scorer or a judge, which rates all the conversations first."""
    predicted: dict[int, float] = {}
    ratings = rate([conversation.dialogue for conversation in rated])
    for place, score in (watcher or Watcher()).watched("ratings", ratings, len(rated)):
        predicted[place] = score
    if not predicted:
        raise SolonError("not one of the conversations got a rating; have another model judge them")
    people = [rated[place].rating for place in sorted(predicted)]
    return agreement(people, [predicted[place] for place in sorted(predicted)], bootstrap, seed)


def agreement(ratings: ArrayLike, predicted: ArrayLike, bootstrap: int, seed: int) -> dict[str, Any]:
    """How well predictions follow people's ratings; both have shape (conversations,). Intervals are 95 %.

    ``pearson`` has Fisher's interval (1921); it and ``spearman`` are None where either side never varies.
    ``rmse`` is the root of the mean squared error, whose interval is None where the errors never vary, and
    ``rmse_of_mean`` that of always saying the mean of these ratings: no less than ``rmse``, or nothing was
    learned. ``by_rating`` has the mean prediction for each whole rating, people's ratings rounded.
    """
    people, scores = np.asarray(ratings, dtype=float), np.asarray(predicted, dtype=float)
    errors = (scores - people) ** 2
    return {
        "conversations": len(people),
        **_correlations(people, scores),
        "rmse": math.sqrt(errors.mean()),
        "rmse_interval": _rmse_interval(errors, bootstrap, seed),
        "rmse_of_mean": float(people.std()),
        "mean_rating": float(people.mean()),
        "mean_predicted": float(scores.mean()),
        "by_rating": [
            {
                "rating": int(rating),
                "conversations": int((people.round() == rating).sum()),
                "predicted": float(scores[people.round() == rating].mean()),
            }
            for rating in np.unique(people.round())
        ],
    }


def _rmse_interval(errors: Array, bootstrap: int, seed: int) -> Interval | None:
    """From the studentised bootstrap of the log of the mean squared error (Davison & Hinkley 1997, eq. 5.7).

    A few large errors make most of the mean, so plain percentiles lie too low.
    """
    if np.ptp(errors) == 0:
        return None
    drawn = errors[np.random.default_rng(seed).integers(len(errors), size=(bootstrap, len(errors)))]
    drawn = drawn[np.ptp(drawn, axis=1) > 0]  # the others have no error of their own
    mean, off = errors.mean(), drawn.mean(axis=1)
    relative = errors.std() / mean
    low, high = np.percentile(np.log(off / mean) * off / drawn.std(axis=1), [2.5, 97.5])
    return math.sqrt(mean * math.exp(-high * relative)), math.sqrt(mean * math.exp(-low * relative))


def _correlations(people: Array, scores: Array) -> dict[str, float | Interval | None]:
    if np.ptp(people) == 0 or np.ptp(scores) == 0:
        return {"pearson": None, "pearson_interval": None, "spearman": None}
    pearson = scipy.stats.pearsonr(people, scores)
    interval = pearson.confidence_interval() if len(people) > 3 else None
    return {
        "pearson": float(pearson.statistic),
        "pearson_interval": (float(interval.low), float(interval.high)) if interval else None,
        "spearman": float(scipy.stats.spearmanr(people, scores).statistic),
    }
