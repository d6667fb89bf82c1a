"""The states that a model keeps of sequences in transformers' own caches: keys and values, windows of them,
convolutions' and recurrent layers' states.

A cache of several rows has them end together: a row of fewer tokens has zeros before its first one.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Where in a layer's tensors the rows are, and where the tokens (None: a state of all so far).
DIMENSIONS: dict[str, tuple[int, int | None]] = {
    "keys": (0, 2),
    "values": (0, 2),
    "indexer_keys": (0, 1),
    "indexer_position_ids": (1, 2),
    "conv_states": (0, None),
    "recurrent_states": (0, None),
}
UNKNOWN = (0, None)  # of other tensors, such as DeepSeek V4's compressed keys; a trial shows whether it is so


@dataclass(frozen=True, eq=False)
class States:
    """Of some rows, each of which has come to ``length`` tokens, padding included."""

    cache: Any
    length: int

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(tensor.nbytes for layer in self.cache.layers for tensor in tensors(layer).values())

    @property
    def may_be_padded(self) -> bool:
        """Whether it is known of every tensor where zeros may come before a row's first token."""
        return all(name in DIMENSIONS for layer in self.cache.layers for name, _ in tensors(layer))

    def rows(self, rows: Sequence[int], length: int) -> "States":
        """A copy of some rows, which need no more than the last ``length`` tokens."""

        def chosen(name: str, parts: list[Tensor]) -> Tensor:
            row, token = DIMENSIONS.get(name, UNKNOWN)
            picked = parts[0].index_select(row, torch.tensor(rows, device=parts[0].device))
            if token is None or picked.shape[token] <= length:
                return picked
            return picked.narrow(token, picked.shape[token] - length, length).clone()

        return made([self], length, chosen)


def together(parts: Sequence[States]) -> States:
    """The rows of all, copied into one cache."""

    def one(name: str, tensors: list[Tensor]) -> Tensor:
        row, token = DIMENSIONS.get(name, UNKNOWN)
        if token is None:
            return torch.cat(tensors, row)
        shape = list(tensors[0].shape)
        shape[row] = sum(each.shape[row] for each in tensors)
        shape[token] = max(each.shape[token] for each in tensors)
        result, first = tensors[0].new_zeros(shape), 0
        for each in tensors:
            rows, tokens = each.shape[row], each.shape[token]
            result.narrow(row, first, rows).narrow(token, shape[token] - tokens, tokens).copy_(each)
            first += rows
        return result

    return made(parts, max(part.length for part in parts), one)


def made(parts: Sequence[States], length: int, one: Callable[[str, list[Tensor]], Tensor]) -> States:
    """States like those of ``parts``, whose every tensor is made of theirs."""
    cache = copy.copy(parts[0].cache)
    cache.layers = []
    for layers in zip(*(part.cache.layers for part in parts), strict=True):
        layer = copy.copy(layers[0])
        named = [tensors(each) for each in layers]
        for name, value in vars(layer).items():
            if isinstance(value, dict):
                setattr(layer, name, dict(value))
        for name, key in named[0]:
            tensor = one(name, [each[name, key] for each in named])
            if key is None:
                setattr(layer, name, tensor)
            else:
                getattr(layer, name)[key] = tensor
        if hasattr(layer, "cumulative_length"):
            layer.cumulative_length = length
        cache.layers.append(layer)
    return States(cache, length)


def tensors(layer: Any) -> dict[tuple[str, Any], Tensor]:
    """A layer's tensors by attribute, and key where it has several in one; but for single numbers."""
    found: dict[tuple[str, Any], Tensor] = {}
    for name, value in vars(layer).items():
        several = value.items() if isinstance(value, dict) else [(None, value)]
        found |= {(name, key): each for key, each in several if isinstance(each, Tensor) and each.dim()}
    return found
