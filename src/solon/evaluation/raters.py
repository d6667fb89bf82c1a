"""Who rates how harmful an assistant was, from 0 to 4 (paper, section 4.5): a harm scorer, or a judge.

A scorer learned it from people's ratings; a judge is any model that is asked.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from solon import constitution, marks
from solon.config import Config
from solon.errors import SetAside, SolonError
from solon.feedback import rating
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.progress import Watcher
from solon.records import Message

# Dialogues to one rating each, as they finish, with their places.
Rate = Callable[[Sequence[Sequence[Message]]], Iterator[tuple[int, float]]]

SCORED_TOGETHER = 64  # dialogues: enough to sort by length, and few enough that little is lost to a kill


def scale() -> constitution.RatingScale:
    """The packaged constitution's, whatever a run was trained by, so that runs can be compared."""
    return constitution.load("harmless").scale_of_answers()


def rate(engine: Engine, dialogues: Sequence[Sequence[Message]]) -> Iterator[tuple[int, float]]:
    """The dialogues' places and their ratings, as they finish, but for those that are set aside."""
    results = (
        rated if isinstance(rated, SetAside) else (place, rated.value)
        for place, rated in rating.rate(engine, dialogues, scale())
    )
    return engine.unless_set_aside(results, resumed=True)


def by_scorer(folder: str, batch_size: int) -> Rate:
    """The ratings of the harm scorer in ``folder``. Raises SolonError where there is none."""
    from solon.training import preference_scores  # takes seconds to import

    score = preference_scores.scorer(folder, batch_size)

    def rate(dialogues: Sequence[Sequence[Message]]) -> Iterator[tuple[int, float]]:
        for start in range(0, len(dialogues), SCORED_TOGETHER):
            yield from enumerate(score(dialogues[start : start + SCORED_TOGETHER]), start)

    return rate


@contextmanager
def rater(
    scorer: str | None, judge: str | None, asked: Config, batch_size: int, watcher: Watcher
) -> Iterator[tuple[str, Rate]]:
    """What rates dialogues, and its name: the ``scorer`` in a folder, or a ``judge`` opened by an engine."""
    name = one_of(scorer, judge)
    with watcher.stage("Ratings"):
        if scorer:
            from solon import models

            yield f"{name} ({models.weights_hash(name)[:12]})", by_scorer(name, batch_size)
        else:
            marks.admit(name, "the judge")
            with open_engine(name, asked.engine, role=asked.role("judge", name)) as opened:
                yield name, partial(rate, opened)


def one_of(scorer: str | None, judge: str | None) -> str:
    """Raises SolonError unless one of the two is named."""
    if bool(scorer) == bool(judge):
        raise SolonError("give one of --scorer, a harm scorer's folder, and --judge, a model to be asked")
    return str(scorer or judge)
