"""The most memory that torch has had at a time, of what it has allocated since a beginning."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_of(work: Callable[[], Any]) -> int:
    """Bytes at the peak of ``work``, on the CPU; without weights that are read by mapping their file."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = profiled.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    assert any(size < 0 for size in sizes)
    return max(accumulate(sizes))
