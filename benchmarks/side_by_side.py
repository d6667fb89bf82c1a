"""Two sides measured in one process by turns, and the ratio of their medians."""

import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from solon.models import best_device

SIDES = ("ours", "theirs")
DEVICE = torch.device(best_device())


def compare(
    prepare: Callable[[], None], ours: Callable[[], int], theirs: Callable[[], int], runs: int
) -> dict[str, Any]:
    """Each side returns how many things it made. Rates are things a second; the ratio is ours to theirs.

    ``prepare`` is called, untimed, before each of our runs: it forgets what the run before left in caches.
    The ratio of processor times says the same where nothing else runs, and is less moved by what does.
    """
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    processor: dict[str, list[float]] = {"ours": [], "theirs": []}
    memory: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(runs):
        prepare()
        for side, work in (("ours", ours), ("theirs", theirs)):
            before = gpu_memory(anew=True)
            start, spent = time.perf_counter(), time.process_time()
            made = work()
            finish()
            memory[side].append((gpu_memory() - before) / 1e9)
            rates[side].append(made / (time.perf_counter() - start))
            processor[side].append((time.process_time() - spent) / made)
    medians = {side: statistics.median(found) for side, found in rates.items()}
    working = {side: round(max(found), 2) for side, found in memory.items()}
    return {
        # Beyond what lay there before, which both sides' weights do.
        **({"working_memory_gb": working} if DEVICE.type == "cuda" else {}),
        "ratio": round(medians["ours"] / medians["theirs"], 2),
        "ratio_by_processor_time": round(
            statistics.median(processor["theirs"]) / statistics.median(processor["ours"]), 2
        ),
        "median_rate": {side: round(rate, 4) for side, rate in medians.items()},
        "rates": {side: [round(rate, 4) for rate in found] for side, found in rates.items()},
    }


def by_turns(sides: dict[str, Callable[[], int]], runs: int) -> dict[str, tuple[float, float]]:
    """The median rates of each side: things a second, and a second of processor time."""
    rates: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(runs):
        for side, work in sides.items():
            start, spent = time.perf_counter(), time.process_time()
            made = work()
            finish()
            rates[side].append((made / (time.perf_counter() - start), made / (time.process_time() - spent)))
    return {
        side: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for side, found in rates.items()
    }


def finish() -> None:
    """Wait until a GPU has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def gpu_memory(anew: bool = False) -> int:
    """Bytes of the GPU's memory: the most that tensors have had; to begin ``anew``, those they have now."""
    if DEVICE.type != "cuda":
        return 0
    if anew:
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return torch.cuda.max_memory_allocated()


def fastest(work: Callable[[], Any], times: int = 20) -> float:
    """Seconds of the fastest of so many calls."""
    seconds = []
    for _ in range(times):
        finish()
        start = time.perf_counter()
        work()
        finish()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def matmul_peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large square product."""
    size = 8192 if DEVICE.type == "cuda" else 2048
    left, right = torch.randn(2, size, size, dtype=dtype, device=DEVICE)
    return 2 * size**3 / fastest(lambda: left @ right)


def best(candidates: list[int], work: Callable[[int], int]) -> int:
    """The candidate (a batch size) with the highest rate, after one run of each."""

    def rate(candidate: int) -> float:
        start = time.perf_counter()
        made = work(candidate)
        finish()
        return made / (time.perf_counter() - start)

    return max(candidates, key=rate)


def own_peak() -> int:
    """The most memory that this process has had, in kB: of the GPU's where there is one.

    What forked it does not count.
    """
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() // 1000
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found.group(1))


def peak_memory(script: str, *options: str) -> float | None:
    """Of a process of its own, in GB: the script must end by printing its ``own_peak``.

    None where the environment has NO_PEAKS: it may be had by hand then, where device time is short.
    """
    if "NO_PEAKS" in os.environ:
        return None
    command = [sys.executable, script, *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return round(int(done.stdout.split()[-1]) / 1e6, 2)


def peaks(script: str) -> dict[str, float | None]:
    """``peak_memory`` of a process that does one side's work once, given ``--alone=SIDE``."""
    return {side: peak_memory(script, f"--alone={side}", *sys.argv[1:]) for side in SIDES}


def machine() -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def show(**found: Any) -> None:
    print(json.dumps(found | {"machine": machine()}, indent=2))
