"""What we use of transformers beyond what it promises to keep.

Read in 5.23.0 and 5.20.2. They differ in the arguments of ``no_activation_checkpointing``.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion  # what saving does to names and parts
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # what attention "sdpa" calls
from transformers.masking_utils import sdpa_mask  # makes the mask that attention "sdpa" is given
from transformers.modeling_layers import GenericForSequenceClassification  # a trunk with ``score`` on it
from transformers.pytorch_utils import Conv1D  # GPT-2's linear layers, their matrices turned round
from transformers.quantizers import AutoQuantizationConfig  # a configuration of any method, by its name
from transformers.utils import logging
from transformers.utils.chat_template_utils import _compile_jinja_template

__all__ = ["Conv1D", "GenericForSequenceClassification", "sdpa_attention_forward", "sdpa_mask"]

HEADS = ("score", "classifier")
"""What families call the layer of their classifiers that gives the score."""

SOURCE = "_name_or_path"
"""Where a configuration, as a dictionary, has the name that it was loaded by."""


def attention_of(model: PreTrainedModel) -> str:
    """The name of the model's attention, as ``set_attn_implementation`` takes it."""
    name: str = model.config._attn_implementation
    return name


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The model's layers, which are kept whole where a model is parted."""
    kinds = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in kinds]


def name_layers(module: nn.Module, model: PreTrainedModel) -> None:
    """Have a module which a model is in name that one's layers to accelerate, whose FSDP asks it."""
    module._no_split_modules = model._no_split_modules


def template_environment() -> Environment:
    """In which chat templates are read and rendered."""
    environment: Environment = _compile_jinja_template("").environment
    return environment


def quantization_of(config: PreTrainedConfig) -> str | None:
    """How the model's weights are quantised; None where they are whole."""
    said = getattr(config, "quantization_config", None)
    return str(said.get("quant_method", "somehow")) if isinstance(said, dict) else None


def unpacked_quantization(config: PreTrainedConfig) -> Any:
    """What ``from_pretrained`` is told to unpack quantised weights; None where it need not, or cannot."""
    if quantization_of(config) is None:
        return None
    try:
        packed = AutoQuantizationConfig.from_dict(config.quantization_config)
    except Exception:  # of all sorts, where what the method needs is not installed, or it is not known
        return None
    if not hasattr(packed, "dequantize"):
        return None
    packed.dequantize = True
    return packed


@contextmanager
def no_load_report() -> Iterator[None]:
    """Inside, the library prints no table of the weights that a file lacks: whoever loads a model tells."""
    usual = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(usual)


def no_activation_checkpointing() -> dict[str, bool]:
    """The training arguments by which TRL 1.16.0 leaves it to the model whether to compute activations twice.

    5.20.2 knows the second name alone; 5.23.0 knows both, and warns where only the second is given.
    """
    from transformers import TrainingArguments  # takes a second to import; engines have no need of it

    known = {field.name for field in fields(TrainingArguments)}
    return {name: False for name in ("activation_checkpointing", "gradient_checkpointing") if name in known}


def weights_read(model: PreTrainedModel) -> set[str]:
    """The names of layers whose weights the code of the model's family reads, by the code itself."""
    source = inspect.getsource(inspect.getmodule(type(model)) or type(model))
    return set(re.findall(r"self\.(\w+)\.weight\b", source))


def recompute_activations(model: PreTrainedModel) -> None:
    """Have the model's layers, in training, keep their inputs alone. Raises ValueError where it cannot.

    ``gradient_checkpointing_enable`` is what 5.20.2 knows alone, and what later ones warn of.
    """
    known = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    known({"use_reentrant": False})


def as_in_checkpoints(
    network: PreTrainedModel, weights: Iterator[tuple[str, Tensor]]
) -> Iterable[tuple[str, Tensor]]:
    """A loaded model's weights, in its own names, in those of its checkpoints, which other programs know.

    Where a checkpoint has them in other parts, such as every expert by itself, all must be in memory.
    """
    if not network._weight_conversions:
        return weights
    changed: dict[str, Tensor] = revert_weight_conversion(network, dict(weights))
    return changed.items()


def load_weights(trainer: Any, checkpoint: Path) -> None:
    """Give a ``Trainer``'s model the weights of one of its checkpoints."""
    trainer._load_from_checkpoint(str(checkpoint))


class OwnCheckpoints:
    """Goes before a ``Trainer``, which then writes its checkpoints where and how the class says."""

    def folder_of_checkpoints(self, usual: Path) -> Path:
        """The folder in which a checkpoint's folder is made."""
        raise NotImplementedError

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """All that is done for a checkpoint. ``write`` is the trainer's part, which every process does."""
        raise NotImplementedError

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.folder_of_checkpoints(Path(super()._get_output_dir(trial))))  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.write_checkpoint(partial(super()._save_checkpoint, model, trial))  # type: ignore[misc]


def tensorboard_of(trainer: Any) -> Any:
    """TensorBoard's writer, which the trainer's metrics go to."""
    from transformers.integrations import TensorBoardCallback  # as above

    found = trainer.callback_handler.callbacks
    return next(each.tb_writer for each in found if isinstance(each, TensorBoardCallback))


class OwnBatches:
    """Goes before a ``Trainer`` whose batches have other columns than the model's arguments."""

    columns: Sequence[str]
    """Of the data set: those that the collator is given."""

    def items_of_step(self, batches: Sequence[Any], device: torch.device) -> int:
        """What ``compute_loss`` gets as ``num_items_in_batch``, from this process's batches of the step."""
        raise NotImplementedError

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(self.columns)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        return self.items_of_step(batch_samples, device)


def begins_anew(config: PreTrainedConfig) -> bool:
    """Whether models of the family read several tokens only from the beginning of a sequence.

    So do those with recurrent states in their modules (RecurrentGemma) and the first Mambas. The library says
    only whether a model has states of some kind. The code of those that go on from recurrent ones, have none,
    or keep caches of their own shows it by the names looked for here. Read in 5.24.0.
    """
    model = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config.get_text_config()), None)
    if model is None or not getattr(model, "_is_stateful", False):
        return False
    source = inspect.getsource(inspect.getmodule(model) or model)
    convolutions_alone = "update_conv_state" in source and "update_recurrent_state" not in source
    return not (convolutions_alone or "initial_state" in source or "_layer_type = " in source)
