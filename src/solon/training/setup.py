"""What a training asks of the libraries: their settings, data sets as they take them, adapters."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from solon import config, models, trackers
from solon.errors import SolonError
from solon.libraries.bitsandbytes import in_four_bits
from solon.libraries.peft import adaptable
from solon.libraries.transformers import HEADS, Conv1D, no_activation_checkpointing
from solon.libraries.trl import disable_dropout_in_model
from solon.prompts.dialogue import neutral_messages, reserved
from solon.prompts.template_turns import TemplateTurns
from solon.prompts.thinking import continued
from solon.training import optimizer
from solon.training.processes import processes


def use_bfloat16() -> bool:
    """Whether to compute in bfloat16 (weights stay float32): on CUDA alone.

    A CPU computes in float32, so that two machines train alike. Where it has AVX-512 BF16 that has its price:
    one core took 11.1 s for a step of SmolLM2-135M on 8 x 128 tokens, and 6.4 s under bfloat16 autocast.
    """
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def settle_libraries() -> None:
    """What the libraries are told before any training.

    Their progress bars are off: ours are shown instead. TRL turns computing activations twice off and on by
    names that transformers calls old, which is nothing to the user. Off, too, is cuDNN's attention, whose
    gradients were not finite: seen twice on an H100 with torch 2.11 at the sixth step of one preference model
    (Qwen2.5-Coder-1.5B, LoRA, bfloat16 autocast); without it the same run came to its end.
    """
    datasets.disable_progress_bars()
    disable_progress_bar()
    old = "`(gradient_checkpointing_(en|dis)able|is_gradient_checkpointing)`"
    warnings.filterwarnings("ignore", old, FutureWarning)
    torch.backends.cuda.enable_cudnn_sdp(False)


def common_arguments(
    out: Path,
    seed: int,
    batch_size: int,
    micro_batch_size: int,
    report_to: Sequence[str],
    optimizer_name: str = "adamw",
) -> dict[str, Any]:
    """Keyword arguments for every TRL configuration.

    ``batch_size`` is that of a step in all processes. Raises SolonError as ``shares`` does, and for a tracker
    or optimiser that is not there.
    """
    micro_batch, accumulated = shares(batch_size, micro_batch_size)
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
        **optimizer.argument(optimizer_name),
        "use_cpu": models.best_device() == "cpu",
        "bf16": use_bfloat16(),
        **no_activation_checkpointing(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def shares(batch_size: int, micro_batch_size: int) -> tuple[int, int]:
    """Sequences a forward pass, and passes a step, of each process, for so many a step in all.

    Raises SolonError where processes cannot share them.
    """
    try:
        return config.shares_out(batch_size, micro_batch_size, processes())
    except ValueError as error:
        raise SolonError(f"training has {error}") from None


def epoch_arguments(out: Path, seed: int, settings: config.Training) -> dict[str, Any]:
    """The same for training that passes over a data set."""
    return {
        **common_arguments(
            out,
            seed,
            settings.batch_size,
            settings.micro_batch_size,
            settings.report_to,
            settings.optimizer,
        ),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "save_steps": settings.save_steps,
        "max_length": settings.max_length,
    }


def without_dropout(model: Any) -> Any:
    """The model with every dropout off that it has so far (adapters that come later keep theirs).

    Families have it as modules, or as shares that their modules call a function with. The same for noise in
    the choice of experts: what is trained is what was sampled.
    """
    disable_dropout_in_model(model)
    for module in model.modules():
        if any("jitter" in name for name in vars(module)):
            module.train = partial(_train_inside, module.eval())
        for name, value in vars(module).items():
            if isinstance(value, float) and ("dropout" in name or "layerdrop" in name or "pdrop" in name):
                setattr(module, name, 0.0)
    return model


def _train_inside(module: nn.Module, mode: bool = True) -> nn.Module:
    """In the place of a module's ``train``: it stays as it is in evaluation."""
    for child in module.children():
        child.train(mode)
    return module


def lora_config(lora: config.Lora | None, model: Any, task: str) -> LoraConfig | None:
    """Adapters on every linear layer of the model but its heads.

    A new scoring head (task "SEQ_CLS") is trained in full. Experts that are held together, as one stack of
    matrices, are no linear layers: adapters on them would cost as much as there are experts. Nor are layers
    that compute something else of their matrix than a product, or whose matrix a kernel reads. All these stay
    as they are.
    """
    if lora is None:
        return None
    if any(weight.dim() == 3 and "expert" in name for name, weight in model.named_parameters()):
        _say_that_experts_stay(type(model).__name__)
    heads = [model.get_output_embeddings(), *(getattr(model, name, None) for name in HEADS)]
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=[
            name
            for name, layer in model.named_modules()
            if _is_linear(layer) and not any(layer is head for head in heads) and adaptable(model, name)
        ],
        task_type=task,
    )


@torch.no_grad()
def _is_linear(layer: nn.Module) -> bool:
    """By its kind, or by what it gives: families have kinds of their own, and some compute something else."""
    if type(layer).forward in (nn.Linear.forward, Conv1D.forward) or in_four_bits(layer):
        return True
    if not isinstance(layer, nn.Linear):
        return False
    tried = torch.ones_like(layer.weight[:1])[None]
    try:
        return torch.allclose(layer(tried), nn.Linear.forward(layer, tried))
    except (RuntimeError, TypeError):  # it takes, or gives, something else than a linear layer does
        return False


@cache
def _say_that_experts_stay(name: str) -> None:
    logging.getLogger(__name__).warning(
        "adapters of %s are on its attention and other linear layers: its experts, which are held together, "
        "stay as they are. Set lora to null to train them too",
        name,
    )


def conversational(
    records: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *columns: str,
    system: str | None = None,
) -> datasets.Dataset:
    """The named columns as a dataset for TRL, dialogues in the form in which engines see them too.

    Prompts come after the text ``system``, where there is one.
    """
    if not records:
        raise SolonError("there is nothing to train on: the stage before gave no usable records")
    turns, forms = TemplateTurns(tokenizer), reserved(tokenizer)

    def as_seen(column: str, value: Any) -> Any:
        if column == "prompt":
            return turns(value, system or "")
        return neutral_messages(value, forms) if isinstance(value, list) else value

    return datasets.Dataset.from_list(
        [{column: as_seen(column, record[column]) for column in columns} for record in records]
    )


def completions(
    examples: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, system: str | None = None
) -> datasets.Dataset:
    """Prompts and completions for TRL, as tokens. Prompts come after the text ``system``.

    Of dialogues TRL would train on what inference never shows, where a template thinks, and on an end where
    the token limit cut an answer off: a model would learn to stop there.
    """
    rows = conversational(examples, tokenizer, "prompt", "completion", system=system)
    rows = rows.add_column("ended", [not example.get("cut") for example in examples])

    def tokens(row: dict[str, Any]) -> dict[str, list[int]]:
        begun, added = in_tokens(tokenizer, [*row["prompt"], *row["completion"]], row["ended"])
        return {"input_ids": begun + added, "completion_mask": [0] * len(begun) + [1] * len(added)}

    return rows.map(tokens, remove_columns=rows.column_names)


def in_tokens(
    tokenizer: PreTrainedTokenizerBase, dialogue: Sequence[Any], ended: bool = True
) -> tuple[list[int], list[int]]:
    """What a model goes on from to the dialogue's last turn, the assistant's, and what it adds, as tokens.

    What it adds has what ends the turn, unless the turn is not ``ended``.
    """
    begun, answer, end = continued(tokenizer, dialogue)
    added = answer + end if ended else answer
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (begun, added))
    return before, after
