"""Policies kept on RL's way, so that it can be told what RL did when (paper, Figures 8 and 10).

Each is an ordinary transformers folder, ``step-N`` inside RL's own, in the same number type as its end.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback

from solon import config
from solon.store.files import flush
from solon.training import checkpoints, processes, sharing

PREFIX = "step-"


def steps_to_keep(settings: config.Reinforce) -> list[int]:
    """After which steps the policy is kept: ``checkpoints`` of them, evenly over RL, its end left out."""
    parts = settings.checkpoints + 1
    return [(settings.steps * part + parts // 2) // parts for part in range(1, parts)]


def kept(out: Path) -> dict[int, Path]:
    """The policies that RL in ``out`` has kept, by step, the earliest first."""
    numbered = {folder.name.removeprefix(PREFIX): folder for folder in out.glob(f"{PREFIX}*")}
    return {int(step): numbered[step] for step in sorted(filter(str.isdigit, numbered), key=int)}


def keep(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    step: int,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the policy of now. ``weights`` are the model's where it has not all of them.

    It must be done before the state that a killed run goes on from is saved: a run that has passed the step
    then has the folder, and one that takes the step again writes it again, the same.
    """
    folder = out / f"{PREFIX}{step}"
    partial = out / checkpoints.ASIDE / folder.name
    if folder.exists():
        checkpoints.delete(folder)
    shutil.rmtree(partial, ignore_errors=True)
    checkpoints.write(model, tokenizer, partial, weights)
    flush(partial)
    partial.rename(folder)
    shutil.rmtree(out / checkpoints.ASIDE)


class KeepPolicies(TrainerCallback):  # type: ignore[misc]
    """Keeps a trainer's policies; each pass over a step's samples is one of its steps."""

    def __init__(self, trainer: Any, settings: config.Reinforce, out: Path) -> None:
        self.trainer = trainer
        self.steps = {step * settings.epochs_per_step: step for step in steps_to_keep(settings)}
        self.out = out

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any, processing_class: Any, **_: Any
    ) -> None:
        if step := self.steps.get(state.global_step):
            weights = sharing.gathered(self.trainer.accelerator, self.trainer.model)
            if processes.is_first():
                keep(model, processing_class, self.out, step, weights)
