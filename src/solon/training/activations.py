"""Activations: what a pass keeps for its backward pass, and when it is computed a second time instead.

Then a layer keeps its input alone, and a backward pass runs each layer forward once more (Chen et al. 2016,
arXiv:1604.06174): gradients are the same, a third more time is taken.
"""

from typing import Any

import torch
from torch import nn

from solon import models
from solon.errors import SolonError
from solon.inference.memory import device_memory, group_limits
from solon.libraries.transformers import Conv1D, recompute_activations
from solon.training import start
from solon.training.processes import processes
from solon.training_settings import OnDevice

# Bytes beside the weights of each that is trained: its gradient, and AdamW's two moments.
TRAINED = {"adamw": 4 + 8, "adamw-8bit": 4 + 2, "paged-adamw-8bit": 4 + 2}

# Norms, attention and the cast inputs of adapters keep numbers of their own beside the matrices' inputs and
# outputs: a quarter more in a Llama of 8 billion parameters.
MORE = 1.25


def settle(model: Any, settings: OnDevice, tokens: int, copies: int = 0) -> None:
    """Have a model, which adapters may be around, compute its activations twice where ``settings`` say so.

    At most so many ``tokens`` go through it at once, and so many ``copies`` of it are on the device too.
    Raises SolonError where it must, and transformers has no way to for its family.
    """
    network = start.network_of(model)
    if not settings.computes_twice(needed(network, settings, tokens, copies), memory()):
        return
    try:
        recompute_activations(network)
    except ValueError:
        if settings.gradient_checkpointing is True:
            raise SolonError(
                f"gradient_checkpointing is true, but transformers has no way to it for models of the family "
                f"{network.config.model_type}: set it to false, and lower micro_batch_size to save memory"
            ) from None


def needed(network: Any, settings: OnDevice, tokens: int, copies: int) -> float:
    """Bytes that a training takes of its device where activations are kept."""
    held = float(sum(weight.nbytes for weight in network.parameters()))
    lora = settings.lora
    trained: float = lora.rank * sum(linear_widths(network)) if lora else network.num_parameters()
    kept = tokens * kept_of_token(network, adapters=lora is not None)
    return held * (1 + copies) + trained * TRAINED[settings.optimizer] + kept


def kept_of_token(network: Any, adapters: bool) -> float:
    """Bytes of activations for each token, from the widths of the network's matrices alone.

    On CUDA products are bfloat16's; elsewhere they are of the weights' type, but adapters make float32 of
    their inputs.
    """
    bytes_each: int = 4 if adapters else network.dtype.itemsize
    if models.best_device() == "cuda":
        bytes_each = 2
    return MORE * bytes_each * sum(linear_widths(network))


def linear_widths(network: Any) -> list[int]:
    """Inputs and outputs of each linear layer but the head; of a stack of experts, of those for one token."""
    heads = {id(head) for head in (network.get_output_embeddings(), getattr(network, "score", None))}
    text = network.config.get_text_config()
    chosen = getattr(text, "num_experts_per_tok", None) or 1
    widths = []
    for name, layer in network.named_modules():
        if "lora_" in name or id(layer) in heads:
            continue
        if isinstance(layer, nn.Linear):
            widths.append(layer.in_features + layer.out_features)
        elif isinstance(layer, Conv1D):
            widths.append(sum(layer.weight.shape))
        for weight in layer.parameters(recurse=False):
            if weight.dim() == 3 and weight.shape[0] > 1 and "expert" in name:
                widths.append(chosen * sum(weight.shape[1:]))
    return widths


def memory() -> float:
    """Bytes that the device of this process has, in use or not."""
    device = torch.device(models.best_device())
    if device.type == "cuda":
        return device_memory(device)
    return min([device_memory(device), *group_limits()]) / processes()
