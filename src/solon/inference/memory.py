"""How much memory a device has, and how it says that it has no more."""

import os
from pathlib import Path

import torch

from solon.errors import SolonError

MEMORY_SHARE = 8  # finished sequences are kept in at most this part (1/8) of the device's memory


def out_of_memory(error: Exception) -> bool:
    """Whether it says so: on CUDA it has a type of its own, elsewhere only words.

    oneDNN has the same words for all that keeps it from a product, but these it has made before: with fewer
    rows, or when there was memory.
    """
    words = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "a primitive")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        phrase in str(error) for phrase in words
    )


def fewer(error: Exception, concurrency: int, model: str) -> tuple[int, str]:
    """Half of ``concurrency``, for an engine to go on with, and what to tell the user when it does.

    Raises ``error`` itself where it is not for want of memory, SolonError where no less can be done.
    """
    if not out_of_memory(error):
        raise error
    if concurrency == 1:
        raise SolonError(
            f"memory does not suffice for one sequence of {model!r}: lower max_tokens, use a smaller model "
            "or engine.dtype bfloat16, or give it more memory"
        ) from None
    return concurrency // 2, (
        f"Memory did not suffice for {concurrency} sequences of {model} at a time: it went on with "
        f"{concurrency // 2}. Set engine.batch_size to that to lose no time next time."
    )


def device_memory(device: torch.device) -> int:
    """All of the device's memory in bytes, in use or not."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def group_limits() -> list[float]:
    """What a container may use, by the two versions of Linux's control groups."""
    limits = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(path).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return limits
