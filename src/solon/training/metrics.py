"""``metrics.jsonl``: one line an optimiser step, every value finite."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from solon.errors import SolonError
from solon.progress import Progress
from solon.store.files import write_atomically
from solon.store.record_file import RecordFile
from solon.training.processes import is_first


class MetricsLog:
    """``metrics.jsonl`` in the checkpoint folder: one line an optimiser step, the same columns on each."""

    def __init__(self, out: Path, step: int) -> None:
        """Go on after ``step``: lines past it came from steps that a kill undid."""
        self.file = RecordFile(out / "metrics.jsonl")
        kept = [row for row in self.file if row["step"] <= step]
        if is_first():
            write_atomically(self.file.path, "".join(json.dumps(row) + "\n" for row in kept))
        self.last: dict[str, float] = kept[-1] if kept else {}

    def append(self, row: dict[str, float]) -> None:
        """Write the line. Raises SolonError where a value is not finite."""
        for name, value in row.items():
            require_finite(name, [value], int(row["step"]))
        if is_first():
            self.file.append(row)
        self.last = row


def require_finite(name: str, values: Sequence[float], step: int) -> None:
    """Raise SolonError, naming the step, where a value is NaN or infinite."""
    if not all(map(math.isfinite, values)):
        first = "" if step > 1 else "; at the first step, the weights that it began from may be damaged"
        raise SolonError(
            f"the {name} is not a finite number at step {step}: training has diverged; lower learning_rate "
            f"and run the stage again{first}"
        )


def past_limit(row: Mapping[str, float], kl_limit: float) -> bool:
    """Whether training ends after the step of this line: its KL is past the limit (nats a sequence)."""
    return row.get("kl", 0.0) > kl_limit


class Metrics(TrainerCallback):  # type: ignore[misc]
    """Turns a trainer's logs into lines of ``metrics.jsonl`` and calls of ``progress``.

    ``read`` picks our columns from the trainer's logs. ``passes`` optimiser steps make one line. Past
    ``kl_limit`` (nats a sequence) training stops.
    """

    def __init__(
        self,
        log: MetricsLog,
        read: Callable[[dict[str, float]], dict[str, float]],
        progress: Progress,
        passes: int = 1,
        kl_limit: float = math.inf,
    ) -> None:
        self.log = log
        self.read = read
        self.progress = progress
        self.passes = passes
        self.kl_limit = kl_limit

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:
            return  # the trainer's summary after the last step
        row = {"step": state.global_step // self.passes, **self.read(logs)}
        require_finite("gradient", [logs["grad_norm"]], int(row["step"]))
        self.log.append(row)
        if is_first():
            self.progress(int(row["step"]), state.max_steps // self.passes, row)
        if past_limit(row, self.kl_limit):
            control.should_training_stop = True
