"""What the training stages share: settings, metrics, going on after a kill, and a clean checkpoint."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import DistributedType
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback
from transformers.utils.logging import disable_progress_bar

from solon import config, models, trackers
from solon.errors import SolonError, first_line
from solon.libraries.transformers import OwnCheckpoints, load_weights, no_activation_checkpointing
from solon.libraries.trl import disable_dropout_in_model
from solon.prompts.dialogue import neutral_messages, reserved
from solon.store.files import flush, write_atomically
from solon.store.record_file import RecordFile

ASIDE = "unfinished"  # where in a checkpoint folder things are written that are not whole yet, and deleted

# Called after each optimiser step with the steps done, the steps in all, and the step's metrics.
Progress = Callable[[int, int, dict[str, float]], None]


def use_bfloat16() -> bool:
    """Whether to compute in bfloat16 (weights stay float32): on CUDA alone.

    A CPU computes in float32, so that two machines train alike. Where it has AVX-512 BF16 that has its price:
    one core took 11.1 s for a step of SmolLM2-135M on 8 x 128 tokens, and 6.4 s under bfloat16 autocast.
    """
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def processes() -> int:
    """How many train together: started by torchrun, which accelerate starts too."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process() -> int:
    """Which of them this is, counted from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the process that writes."""
    return process() == 0


def settle_libraries() -> None:
    """What the libraries are told before any training.

    Their progress bars are off: ours are shown instead. So is cuDNN's attention, whose gradients were not
    finite: seen twice on an H100 with torch 2.11 at the sixth step of one preference model
    (Qwen2.5-Coder-1.5B, LoRA, bfloat16 autocast); without it the same run came to its end.
    """
    datasets.disable_progress_bars()
    disable_progress_bar()
    torch.backends.cuda.enable_cudnn_sdp(False)


def common_arguments(
    out: Path, seed: int, batch_size: int, micro_batch_size: int, report_to: Sequence[str]
) -> dict[str, Any]:
    """Keyword arguments for every TRL configuration.

    ``batch_size`` is that of a step in all processes. Raises SolonError where they cannot share it,
    and for a tracker that is not installed.
    """
    try:
        micro_batch, accumulated = config.shares_out(batch_size, micro_batch_size, processes())
    except ValueError as error:
        raise SolonError(f"training has {error}") from None
    trackers.check(report_to)
    return {
        "output_dir": str(out),
        "seed": seed,
        "data_seed": seed,
        "gradient_accumulation_steps": accumulated,
        "per_device_train_batch_size": micro_batch,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # would hide what the metrics must stop at
        "save_strategy": "steps",
        "save_total_limit": 1,
        "report_to": list(report_to) or "none",
        "project": trackers.PROJECT,
        "run_name": trackers.run_name(out),
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,  # a search each step for what no model here has
        "use_cpu": models.best_device() == "cpu",
        "bf16": use_bfloat16(),
        **no_activation_checkpointing(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def epoch_arguments(out: Path, seed: int, settings: config.Training) -> dict[str, Any]:
    """The same for training that passes over a data set."""
    return {
        **common_arguments(out, seed, settings.batch_size, settings.micro_batch_size, settings.report_to),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "save_steps": settings.save_steps,
        "max_length": settings.max_length,
    }


def without_dropout(model: Any) -> Any:
    """The model with every dropout off that it has so far (adapters that come later keep theirs)."""
    disable_dropout_in_model(model)
    return model


def lora_config(lora: config.Lora | None, task: str) -> LoraConfig | None:
    """Adapters on every linear layer; a new scoring head (task "SEQ_CLS") is trained in full."""
    if lora is None:
        return None
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type=task,
    )


def conversational(
    records: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, *columns: str
) -> datasets.Dataset:
    """The named columns as a dataset for TRL, dialogues in the form in which engines see them too."""
    if not records:
        raise SolonError("there is nothing to train on: the stage before gave no usable records")
    forms = reserved(tokenizer)

    def as_seen(value: Any) -> Any:
        return neutral_messages(value, forms) if isinstance(value, list) else value

    return datasets.Dataset.from_list(
        [{column: as_seen(record[column]) for column in columns} for record in records]
    )


class Discreet(OwnCheckpoints):
    """Goes before a trainer: it then writes no model card, and its checkpoints aside until they are whole."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        pass

    def folder_of_checkpoints(self, usual: Path) -> Path:
        return usual / ASIDE

    def write_checkpoint(self: Any, write: Callable[[], None]) -> None:
        with writing(Path(self.args.output_dir)):
            write()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            put_in_place(Path(self.args.output_dir), f"checkpoint-{self.state.global_step}")
        self.accelerator.wait_for_everyone()


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
        raise SolonError(
            f"the {name} is not a finite number at step {step}: training has diverged; lower learning_rate "
            "and run the stage again"
        )


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
        if row.get("kl", 0.0) > self.kl_limit:
            control.should_training_stop = True


def resumable(out: Path) -> Path | None:
    """The last ``checkpoint-*`` folder in ``out``. Damaged ones, whose state cannot be read, are deleted."""
    whole = {}
    for folder in out.glob("checkpoint-*"):
        try:
            whole[json.loads((folder / "trainer_state.json").read_text())["global_step"]] = folder
        except (OSError, ValueError):
            shutil.rmtree(folder)
    return whole[max(whole)] if whole else None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises SolonError for what the libraries raise, beside OSError, where the disk is full."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        raise SolonError(
            f"a checkpoint cannot be written to {folder} ({first_line(error)}); mend that and give the same "
            "command again, which goes on from the checkpoint before"
        ) from error


def put_in_place(out: Path, name: str) -> None:
    """Give a checkpoint that was written aside its place, in one step, and delete those before it."""
    flush(out / ASIDE / name)
    (out / ASIDE / name).rename(out / name)
    for older in out.glob("checkpoint-*"):
        if older.name != name:
            delete(older)


def delete(checkpoint: Path) -> None:
    """In one step too: what a kill leaves of its files must not be taken for a checkpoint."""
    gone = checkpoint.parent / ASIDE / checkpoint.name
    gone.parent.mkdir(exist_ok=True)
    checkpoint.rename(gone)
    shutil.rmtree(gone)


def run(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    read: Callable[[dict[str, float]], dict[str, float]],
    progress: Progress,
    passes: int = 1,
    kl_limit: float = math.inf,
) -> dict[str, float]:
    """Train, from the last whole checkpoint where there is one, and leave a plain transformers folder.

    Returns the last step's metrics.
    """
    if len(trainer.train_dataset) == 0:
        raise SolonError("there is nothing to train on: every example is longer than max_length; raise it")
    if shared_out(trainer) and isinstance(trainer.model, PeftModel):
        raise SolonError("FSDP trains all weights here: set lora to null, or train without FSDP")
    with trainer.accelerator.main_process_first():  # which deletes what is not whole
        if is_first():
            shutil.rmtree(out / ASIDE, ignore_errors=True)
        checkpoint = resumable(out)
        log = MetricsLog(out, int(checkpoint.name.split("-")[1]) // passes if checkpoint else 0)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Metrics(log, read, progress, passes, kl_limit))
    if log.last.get("kl", 0.0) <= kl_limit:
        with trackers.wandb_run(trainer.args.report_to if is_first() else [], out):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    else:  # killed between stopping at the limit and the final save
        assert checkpoint
        load_weights(trainer, checkpoint)
    weights = gathered(trainer)
    if trainer.accelerator.is_main_process:
        save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, out, weights)
        for folder in out.glob("checkpoint-*"):
            delete(folder)
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


def save(
    model: Any, tokenizer: PreTrainedTokenizerBase, out: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write an ordinary transformers folder, and wait until it is on disk.

    Adapters are merged into the weights they adapt. ``weights`` are the model's where it has not all of them.
    """
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    for file in out.glob("*.safetensors"):
        file.unlink()  # not written over: it may be another run's as well (see ``reuse``)
    with writing(out):
        model.save_pretrained(out, state_dict=weights)
        tokenizer.save_pretrained(out)
    flush(out)
