"""Weights that are shared out over the processes that train together (FSDP): each holds a part of them."""

import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from solon import models
from solon.libraries.transformers import layers
from solon.training.processes import processes

T = TypeVar("T")
INSIDE = ContextVar("INSIDE", default=False)  # whether this is ``within`` a model


def shared_out() -> bool:
    """Whether trained weights are, as ``accelerate launch`` and ``pipeline.launch`` say it to processes."""
    return processes() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def settle(accelerator: Accelerator) -> None:
    """Have models that are shared out give their results in the number type that they come in.

    Where they compute in bfloat16 accelerate has them round results to it. A token's log-probability would be
    off by up to 0.4 %, and what is learned from are small differences of such.
    """
    plugin: Any = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin and isinstance(plugin.mixed_precision_policy, MixedPrecisionPolicy):
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)


def exactly(part: nn.Module) -> None:
    """Have a part of a model that is to be shared out compute in its own number type, whatever the rest."""
    if shared_out():
        fully_shard(part)


def beside(model: Any, accelerator: Accelerator | None = None) -> Any:
    """A model that is read beside the one that is trained, on its device, and shared out if that one is.

    Then its layers' weights come together one after another in each pass, so all processes must make as many
    passes. It computes in its own number type, or in that of the ``accelerator``'s models.
    """
    if not shared_out():
        return model.to(models.best_device())
    options: dict[str, Any] = {"reshard_after_forward": True}
    if accelerator and (precision := accelerator.state.fsdp_plugin.mixed_precision_policy):
        options["mp_policy"] = precision
    model.requires_grad_(False)
    for layer in layers(model):
        fully_shard(layer, **options)
    return fully_shard(model, **options)


@torch.no_grad()
def within(model: nn.Module, function: Callable[[], T]) -> T:
    """What the function gives while weights of a model that is shared out come together as in its own pass.

    So what it runs may be a part of the model, or another one on the same layers.
    """
    if not isinstance(model, FSDPModule):
        return function()
    vars(model)["within"] = function
    register_fsdp_forward_method(model, "within")  # a name of ours, which it replaces
    before = INSIDE.set(True)
    try:
        result: T = vars(model)["within"]()
    finally:
        INSIDE.reset(before)
    return result


def runs_in_parts(model: nn.Module) -> bool:
    """Whether the model's trunk, say, can be called by itself: of one shared out that is so ``within`` it."""
    return INSIDE.get() or not isinstance(next(model.parameters()), DTensor)


def gathered(accelerator: Accelerator, model: Any) -> Mapping[str, Tensor] | None:
    """A trained model's weights, brought together by all for the first process; None where it has them.

    Of one with adapters those that are trained.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return None
    if isinstance(model, PeftModel):
        trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        return {name: whole(weight.detach()).cpu() for name, weight in trained}
    weights: Mapping[str, Tensor] = accelerator.get_state_dict(model)
    tied = accelerator.unwrap_model(model).all_tied_weights_keys  # written once, as elsewhere
    return {name: weight for name, weight in weights.items() if name not in tied}


def whole(weight: Tensor) -> Tensor:
    """The weight, brought together by all processes where it is shared out."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
