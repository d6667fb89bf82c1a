"""What long work tells whoever is watching it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

T = TypeVar("T")

# Called after each optimiser step with the steps done, the steps in all, and the step's metrics.
Progress = Callable[[int, int, dict[str, float]], None]


class Watcher:
    """Is told how the work goes; this one keeps it to itself. The command line shows it."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def stage(self, title: str) -> AbstractContextManager[None]:
        """Around everything that one stage does."""
        return nullcontext()

    def advance(self, part: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        """``done`` of ``total`` of a part of the stage are there; ``figures`` of the latest training step."""

    def watched(self, part: str, items: Iterable[T], total: int) -> Iterator[T]:
        """The items as they come, told one by one."""
        for done, item in enumerate(items, 1):
            self.advance(part, done, total)
            yield item
