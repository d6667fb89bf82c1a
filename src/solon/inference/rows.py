"""What the transformers engine asks of that which keeps a model's states of the sequences under way."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from solon.inference.active import Active
from solon.inference.scoring import Scored

Count = Callable[[int], None]
"""Is told how many prompt tokens have gone through the model."""


class Rows(ABC):
    """States of the sequences under way, each in a row, and of what is known of those lately finished.

    The engine's list of ``active`` sequences is in the order of the rows.
    """

    @abstractmethod
    def admit(self, active: Sequence[Active], new: Sequence[Active]) -> Tensor:
        """Read the prompts of ``new`` into the rows behind those of ``active``; logits [new, vocabulary] of
        what follows each."""

    @abstractmethod
    def step(self, active: Sequence[Active]) -> Tensor:
        """Run every sequence's last token; logits [active, vocabulary] of what follows it."""

    @abstractmethod
    def remove(self, active: list[Active], rows: Sequence[int]) -> None:
        """Take finished sequences out of the list, and keep what is known of them; the last rows move into
        their places."""

    @abstractmethod
    def scores(self, rows: list[Scored]) -> list[dict[int, float]]:
        """The log-probabilities of each row's choices, by number. They are in the order of their tokens."""

    @abstractmethod
    def forget(self, rows: int) -> None:
        """Drop all; from now on there are at most so many rows."""


def take_out(active: list[Active], rows: Sequence[int], moved: Callable[[int, int], None]) -> None:
    """Take ``rows``, in rising order, out of the list, so that those left stay without gaps.

    ``moved`` is told of each that goes to another place: from where, and to where.
    """
    for row in reversed(rows):
        sequence, last = active[row], active.pop()
        if last is not sequence:
            active[row] = last
            moved(len(active), row)
