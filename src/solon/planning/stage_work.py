"""What a stage would take for all its records, from what it does with a few of them."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from solon.inference.blocks import BATCHES
from solon.planning.counting import CountingEngine, Load

Made = tuple[list[Any], list[Load]]


@dataclass(frozen=True)
class Assumptions:
    """What nobody can know before the run."""

    share: float = 0.8  # how long texts are, as a share of max_tokens
    sample: int = 16  # prompts of each set that are looked at
    comparisons: int | None = None  # how many comparisons people labelled; those in the file by default


@dataclass
class StageWork:
    name: str
    records: float = 0
    loads: list[Load] = field(default_factory=list)
    sequence: int = 0  # tokens of the longest sequence in the sample, with the most that it may become
    written: float = 0  # bytes of records


@dataclass(frozen=True)
class Prompts:
    sample: list[Any]
    count: int  # how many the run takes


def sampled(
    engine: CountingEngine,
    prompts: Prompts,
    stage: Callable[..., Iterable[Any]],
    *settings: Any,
    requests: int = 1,
) -> Made:
    """What a stage makes of the sample, and what it would take for the whole.

    A block's first record alone computes what all have in common. ``requests`` are those of one record that
    are in flight at a time, which decide how long a block is.
    """
    if not prompts.sample or not prompts.count:
        return [], []
    engine.forget()
    made, loads = list(stage(engine, prompts.sample[:1], *settings)), engine.take()
    made += list(stage(engine, prompts.sample[1:], *settings))
    rest = engine.take()
    firsts = math.ceil(prompts.count / max(1, BATCHES * engine.concurrency // requests))
    factor = (prompts.count - firsts) / max(1, len(prompts.sample) - 1)
    return made, [first.times(firsts) + later.times(factor) for first, later in zip(loads, rest, strict=True)]


def size_of(records: Sequence[Any], count: float) -> float:
    """Bytes of ``count`` records like these in a record file."""
    written = sum(len(json.dumps(record, ensure_ascii=False).encode()) + 1 for record in records)
    return written / len(records) * count if records else 0.0
