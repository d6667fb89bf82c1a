"""What we use of PEFT beyond what it promises to keep. Read in 0.21.2."""

from collections.abc import Iterator
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import (
    BaseTunerLayer,  # every layer that adapters have been put around
    _check_lora_target_modules_mamba,
)
from peft.utils.transformers_weight_conversion import (
    convert_peft_config_for_transformers,  # what a configuration comes to mean where it is loaded
)
from torch import Tensor

from solon.libraries.bitsandbytes import in_four_bits, whole_weight


def adaptable(model: Any, name: str) -> bool:
    """Whether PEFT puts adapters on the layer of this name, and finds them there again.

    It does not on those that Mamba's kernels read. In mixtures of experts it takes some names, such as those
    of shared experts, for what transformers 4 called each expert's layers, and moves their adapters to the
    stack of all experts.
    """
    settings = LoraConfig(target_modules=[name])
    try:
        _check_lora_target_modules_mamba(settings, model, name.rpartition(".")[2])
        convert_peft_config_for_transformers(settings, model, None)
    except ValueError:
        return False
    return name in settings.target_modules


def merged_weights(model: PeftModel) -> Iterator[tuple[str, Tensor]]:
    """The base model's weights in its own names, whole, adapters added to copies of those that they adapt.

    In the model the weights of an adapted layer are those of its ``base_layer``, beside "lora_" ones.
    """
    packed = {id(layer.weight): layer for layer in model.modules() if in_four_bits(layer)}
    adapted = {
        id(layer.get_base_layer().weight): layer
        for layer in model.modules()
        if isinstance(layer, BaseTunerLayer)
    }
    for name, held in model.get_base_model().named_parameters():
        if "lora_" in name:
            continue
        weight = whole_weight(packed[id(held)]) if id(held) in packed else held
        if layer := adapted.get(id(held)):
            weight = sum(map(layer.get_delta_weight, layer.active_adapters), weight)
        yield name.replace(".base_layer", ""), weight
