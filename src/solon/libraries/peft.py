"""What we use of PEFT beyond what it promises to keep. Read in 0.21.2."""

from collections.abc import Iterator

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer  # every layer that adapters have been put around
from torch import Tensor


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
