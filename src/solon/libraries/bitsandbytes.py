"""What we use of bitsandbytes, which need not be installed: weights in 4 bits, an optimiser's state in 8.

Read in 0.50.2.
"""

import logging
import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from solon.errors import SolonError
from solon.libraries.transformers import HEADS, Conv1D, quantization_of, weights_read


def check(what: str, instead: str) -> None:
    """Raises SolonError where bitsandbytes is not installed."""
    if find_spec("bitsandbytes") is None:
        raise SolonError(
            f"{what} needs bitsandbytes, which is not installed: run 'pip install solon[4bit]', or {instead}"
        )


def loading(name: str, network: PreTrainedModel, dtype: torch.dtype) -> dict[str, Any]:
    """What ``from_pretrained`` is told to hold linear layers in 4 bits, and to multiply in ``dtype``.

    NF4, its scales quantised too (Dettmers et al. 2023, arXiv:2305.14314, section 3): 4.127 bits a weight.
    ``network`` is the model without its weights, which are packed where they will be; what bitsandbytes has
    packed already is taken as it is. Raises SolonError where bitsandbytes is not installed, where another
    method has quantised the weights, or where none can be packed.
    """
    instead = "ask for bfloat16 in the place of 4bit"
    check(f"model {name!r} in 4 bits", instead)
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"device_map": {"": device}}
    if method := quantization_of(network.config):
        if method != "bitsandbytes":
            raise SolonError(
                f"model {name!r} is quantised ({method}), so it cannot be held in 4 bits: name the model "
                f"that it was made from, or {instead}"
            )
        return options
    whole = stay_whole(network)
    if not any(packable(layer) and layer_name not in whole for layer_name, layer in network.named_modules()):
        raise SolonError(f"model {name!r} has no layers that can be held in 4 bits: {instead}")
    if any(weight.dim() == 3 and "expert" in place for place, weight in network.named_parameters()):
        logging.getLogger(__name__).warning(
            "model %s: its experts, which are held together, are not packed in 4 bits", name
        )
    options["quantization_config"] = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=whole,
    )
    return options


def packable(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or isinstance(layer, Conv1D)


def stay_whole(network: PreTrainedModel) -> list[str]:
    """The names of heads, and of layers whose weights the family's code reads besides calling them."""
    head = network.get_output_embeddings()
    read = weights_read(network) | set(HEADS)
    return [
        name
        for name, layer in network.named_modules()
        if packable(layer) and (layer is head or name.rpartition(".")[2] in read)
    ]


def in_four_bits(layer: nn.Module) -> bool:
    """Whether the layer is a linear one that holds its weight in 4 bits."""
    return isinstance(layer, nn.Linear) and getattr(layer.weight, "quant_state", None) is not None


def settle(model: nn.Module) -> None:
    """Have the model's layers compute alike on all processors, in training as in evaluation.

    In evaluation those with AVX-512 BF16 would lay the weights out anew, and multiply in bfloat16 alone.
    """
    for layer in model.modules():
        if in_four_bits(layer):
            other: Any = layer
            other.support_avx512bf16_for_cpu = False


def whole_weight(layer: Any) -> torch.Tensor:
    """What a layer ``in_four_bits`` multiplies with, [outputs, inputs], as a new tensor."""
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return weight


def adamw_8bit(groups: Iterable[dict[str, Any]], model: nn.Module, paged: bool) -> torch.optim.Optimizer:
    """AdamW without weight decay, as transformers makes it: the state of embeddings has 32 bits."""
    from bitsandbytes.optim import AdamW, GlobalOptimManager

    forget_models()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            GlobalOptimManager.get_instance().override_config(module.weight, "optim_bits", 32)
    optimizer: torch.optim.Optimizer = AdamW(groups, weight_decay=0.0, optim_bits=8, is_paged=paged)
    return optimizer


def forget_models() -> None:
    """Let go of the models that optimisers were made for, and of the places of weights with 32 bits."""
    if "bitsandbytes" in sys.modules:
        from bitsandbytes.optim import GlobalOptimManager

        GlobalOptimManager.get_instance().initialize()
