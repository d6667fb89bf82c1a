"""What a stage makes of a few prompts, and what it would take for all of them."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from solon.inference.blocks import BATCHES
from solon.planning.counting import CountingEngine, Load


@dataclass(frozen=True)
class Prompts:
    sample: list[Any]
    count: int  # how many the run takes


Made = tuple[list[Any], list[Load]]


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
