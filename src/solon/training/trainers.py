"""Running a library's trainer: going on after a kill, and a clean checkpoint at its end."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer

from solon import trackers
from solon.errors import SolonError
from solon.libraries import bitsandbytes
from solon.libraries.transformers import OwnCheckpoints, load_weights
from solon.progress import Progress
from solon.training import checkpoints, sharing
from solon.training.checkpoints import ASIDE
from solon.training.metrics import Metrics, MetricsLog, past_limit
from solon.training.processes import is_first


class Discreet(OwnCheckpoints):
    """Goes before a trainer: it then writes no model card, and its checkpoints aside until they are whole."""

    def create_accelerator_and_postprocess(self: Any) -> None:
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        sharing.settle(self.accelerator)

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
    with trainer.accelerator.main_process_first():  # which deletes what is not whole
        checkpoint = checkpoints.resumable(out)
        log = MetricsLog(out, checkpoints.step_of(checkpoint) // passes)
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
    weights = sharing.gathered(trainer.accelerator, trainer.model)
    if trainer.accelerator.is_main_process:
        checkpoints.save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, out, weights)
        checkpoints.clear(out)
    return dict(log.last)
