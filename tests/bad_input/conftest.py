"""Broken input is refused in a moment: a case that begins to work is stopped."""

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from solon import models

LIMIT = 60  # seconds; a busy machine took 20 to start a program whose libraries were not compiled yet


@pytest.fixture(autouse=True, scope="session")
def unpacked() -> None:
    """The embedded model, whose unpacking shows its progress: a refusal must be the one line there is."""
    models.resolve("smollm2")


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    def late(*_: int | FrameType | None) -> None:
        raise AssertionError(f"not refused within {LIMIT} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)
