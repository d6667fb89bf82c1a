"""A causal language model as the transformers engine loads it: with logits where they are wanted."""

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from solon.config import EngineSettings
from solon.inference.packed_linear import PackedLinear, pack
from solon.inference.precision import FOUR_BITS, choose_dtype
from solon.inference.sampling import not_finite
from solon.inference.trial import tokens_to_try
from solon.libraries.torch import can_pack
from solon.libraries.transformers import attention_of
from solon.models import load_model


class Wanted:
    """Has a head run on the wanted positions only: logits at all those of a prompt would fill memory.

    Apart from ``LoadedModel``, which the head would otherwise lead back to: it must go at its last use.
    """

    positions: tuple[Tensor, Tensor]  # places in the pass, and columns

    def __call__(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][self.positions],)


def load(name: str, settings: EngineSettings, device: torch.device) -> PreTrainedModel:
    """The model on its device, in the type that is set, or 4 bits. Raises SolonError where it cannot be."""
    dtype = choose_dtype(settings.dtype, device)
    return load_model(name, dtype, in_4_bits=settings.dtype == FOUR_BITS).to(device)


class LoadedModel:
    """A transformers causal language model on one device, and what it gives for a few tokens by itself.

    Each of its passes gives logits [wanted, vocabulary] at ``wanted.positions``. A ``network`` that is
    ``lent`` belongs to a training: it is as the engine runs it ``at_work`` alone. Raises SolonError where the
    model gives no finite numbers.
    """

    def __init__(self, name: str, network: PreTrainedModel, device: torch.device, lent: bool = False) -> None:
        self.name, self.device, self.network = name, device, network
        self.attention = attention_of(network)  # by which the engine runs it
        config = self.network.config.get_text_config()
        self.context: int = getattr(config, "max_position_embeddings", None) or 2**31
        self.tried = tokens_to_try(config.vocab_size)
        with torch.inference_mode():
            self.plain: Tensor = self.network(input_ids=self.tried.to(device), use_cache=False).logits
        if not self.plain.float().logsumexp(-1).isfinite().all():
            raise not_finite(name)
        self.takes = set(inspect.signature(type(network).forward).parameters)
        self.head: nn.Module = self.network.get_output_embeddings()
        self.wanted = Wanted()
        if lent:
            return
        self.head.register_forward_pre_hook(self.wanted)
        if device.type == "cpu" and can_pack(network.dtype):
            pack(self.network, self.head)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, a lent network is as the engine runs it, with whatever adapters it has."""
        usual, training = attention_of(self.network), self.network.training
        self.network.set_attn_implementation(self.attention)
        hook = self.head.register_forward_pre_hook(self.wanted)
        try:
            self.network.eval()
            yield
        finally:
            hook.remove()
            self.network.train(training)
            self.network.set_attn_implementation(usual)

    def cached(self, cache: Cache) -> dict[str, Any]:
        """The arguments of a pass that reads and writes a cache, by whichever name the model takes it."""
        names = [name for name in ("past_key_values", "cache_params") if name in self.takes]
        return {names[0] if names else "cache": cache, "use_cache": True}

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copy named weights, in the model's own names, over those it has."""
        for name, weight in weights:
            layer, kind = self.network.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            if kind == "weight" and isinstance(layer, PackedLinear):
                layer.load(weight)
            else:
                own = layer.get_parameter(kind)
                own.data = weight.to(self.device, own.dtype, copy=True)

    def unload(self) -> None:
        """Give the weights' memory back until ``load_weights`` brings all."""
        for weight in self.network.parameters():
            weight.data = weight.new_empty(0)
        for layer in self.network.modules():
            if isinstance(layer, PackedLinear):
                layer.load(torch.empty(0))
