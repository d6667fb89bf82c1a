"""What we use of PEFT beyond what it promises to keep. Read in 0.21.2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import (
    BaseTunerLayer,  # every layer that adapters have been put around
    _check_lora_target_modules_mamba,
)
from peft.utils import transformers_weight_conversion
from torch import Tensor


def adaptable(model: Any, name: str) -> bool:
    """Whether PEFT puts adapters on the layer of this name: not on those that Mamba's kernels read."""
    try:
        _check_lora_target_modules_mamba(LoraConfig(), model, name.rpartition(".")[2])
    except ValueError:
        return False
    return True


@contextmanager
def targets_as_named() -> Iterator[None]:
    """Inside, adapters come around the layers that a configuration names, and around no others.

    Of mixtures of experts PEFT takes names for those of transformers 4, where each expert had layers of its
    own: a shared expert's "up_proj" would put adapters on the stack of all experts, and leave that one out.
    """
    usual = transformers_weight_conversion._convert_peft_config_moe
    transformers_weight_conversion._convert_peft_config_moe = lambda *_: None
    try:
        yield
    finally:
        transformers_weight_conversion._convert_peft_config_moe = usual


def merged_weights(model: PeftModel) -> Iterator[tuple[str, Tensor]]:
    """The base model's weights in its own names, adapters added to copies of those that they adapt.

    In the model the weights of an adapted layer are those of its ``base_layer``, beside "lora_" ones.
    """
    adapted = {
        id(layer.get_base_layer().weight): layer
        for layer in model.modules()
        if isinstance(layer, BaseTunerLayer)
    }
    for name, weight in model.get_base_model().named_parameters():
        if layer := adapted.get(id(weight)):
            yield name.replace(".base_layer", ""), weight + layer.get_delta_weight(layer.active_adapters[0])
        elif "lora_" not in name:
            yield name.replace(".base_layer", ""), weight
