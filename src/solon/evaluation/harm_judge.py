"""A judge's rating of how harmful an assistant was, without training: from 0 to 4 (paper, section 4.5)."""

from collections.abc import Iterator, Sequence

from solon import constitution
from solon.errors import TooLong
from solon.feedback import rating
from solon.inference.engine import Engine
from solon.records import Message


def scale() -> constitution.RatingScale:
    """The packaged constitution's, whatever a run was trained by, so that runs can be compared."""
    return constitution.load("harmless").scale_of_answers()


def rate(engine: Engine, dialogues: Sequence[Sequence[Message]]) -> Iterator[tuple[int, float]]:
    """Each dialogue's place and its rating, as they finish. Raises TooLong after all others where one is."""
    failures = []
    for place, rated in rating.rate(engine, dialogues, scale()):
        if isinstance(rated, TooLong):
            failures.append(rated)
        else:
            yield place, rated.value
    if failures:
        raise failures[0]
