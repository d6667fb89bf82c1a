"""Running a library's trainer: going on after a kill, and a clean checkpoint at its end."""

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import DistributedType
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer

from solon import trackers
from solon.errors import SolonError
from solon.libraries import bitsandbytes
from solon.libraries.transformers import OwnCheckpoints, load_weights
from solon.progress import Progress
from solon.training import checkpoints
from solon.training.checkpoints import ASIDE
from solon.training.metrics import Metrics, MetricsLog, past_limit
from solon.training.processes import is_first


class Discreet(OwnCheckpoints):
    """Goes before a trainer: it then writes no model card, and its checkpoints aside until they are whole."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        pass

    def folder_of_checkpoints(self, usual: Path) -> Path:
        return usual / ASIDE

    def write_checkpoint(self: Any, write: Callable[[], None]) -> None:
        with checkpoints.writing(Path(self.args.output_dir)):
            write()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            checkpoints.put_in_place(Path(self.args.output_dir), f"checkpoint-{self.state.global_step}")
        self.accelerator.wait_for_everyone()


def run(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    read: Callable[[dict[str, float]], dict[str, float]],
    progress: Progress,
    passes: int = 1,
    kl_limit: float = math.inf,
    counts: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Train, from the last whole checkpoint where there is one, and leave a plain transformers folder.

    ``counts`` are of the records, such as how many were left out, and stand in every line of the metrics.
    Returns the last step's metrics.
    """
    if len(trainer.train_dataset) == 0:
        raise SolonError("there is nothing to train on: every example is longer than max_length; raise it")
    if shared_out(trainer) and isinstance(trainer.model, PeftModel):
        raise SolonError("FSDP trains all weights here: set lora to null, or train without FSDP")
    with trainer.accelerator.main_process_first():  # which deletes what is not whole
        if is_first():
            shutil.rmtree(out / ASIDE, ignore_errors=True)
        checkpoint = checkpoints.resumable(out)
        log = MetricsLog(out, int(checkpoint.name.split("-")[1]) // passes if checkpoint else 0)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(
        Metrics(log, lambda logs: {**read(logs), **(counts or {})}, progress, passes, kl_limit)
    )
    if not past_limit(log.last, kl_limit):
        with trackers.wandb_run(trainer.args.report_to if is_first() else [], out):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    else:  # killed between stopping at the limit and the final save
        assert checkpoint
        load_weights(trainer, checkpoint)
    bitsandbytes.forget_models()
    weights = gathered(trainer)
    if trainer.accelerator.is_main_process:
        checkpoints.save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, out, weights)
        for folder in out.glob("checkpoint-*"):
            checkpoints.delete(folder)
        shutil.rmtree(out / ASIDE, ignore_errors=True)
    return dict(log.last)


def shared_out(trainer: Trainer) -> bool:
    """Whether each process has a part of the weights only."""
    return bool(trainer.accelerator.distributed_type == DistributedType.FSDP)


def gathered(trainer: Trainer) -> Mapping[str, Tensor] | None:
    """The weights, gathered by all processes for the first, where they are shared out; None where not."""
    if not shared_out(trainer):
        return None
    weights: Mapping[str, Tensor] = trainer.accelerator.get_state_dict(trainer.model)
    tied = trainer.accelerator.unwrap_model(trainer.model).all_tied_weights_keys  # written once, as elsewhere
    return {name: weight for name, weight in weights.items() if name not in tied}
