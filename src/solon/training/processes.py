"""Training in several processes, started by torchrun, which accelerate starts too."""

import os
from datetime import timedelta
from typing import TypeVar

import torch.distributed

T = TypeVar("T")


def processes() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process() -> int:
    """Which of them this is, counted from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes."""
    return process() == 0


class FromFirst:
    """Shares out what the first process has; the others wait for it as long as it takes.

    A server may need longer than any time that libraries set for what processes do together.
    """

    def __init__(self) -> None:
        """All processes together."""
        alone = processes() == 1
        self._group = (
            None if alone else torch.distributed.new_group(backend="gloo", timeout=timedelta(days=7))
        )

    def __call__(self, value: T) -> T:
        """The first process's ``value``."""
        if self._group is None:
            return value
        shared = [value]
        torch.distributed.broadcast_object_list(shared, src=0, group=self._group)
        return shared[0]
