"""Attention over cached rows: what rows have in common at the beginning is read once for all of them.

Decoding under long few-shot prompts spends most of its time on reading keys and values. Rows that begin
alike form a trunk: their queries attend to one copy of it together, each attends to the rest of its own row,
and the two results are weighed by their softmax denominators (Juravsky et al. 2024, arXiv:2402.05099).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from solon.errors import UnsupportedModel
from solon.inference.cache import Stored
from solon.libraries.torch import attend
from solon.libraries.transformers import sdpa_mask

NAME = "solon-rows"  # of this attention, as transformers knows it


@dataclass(frozen=True)
class Trunk:
    """Sequences of a forward pass whose first ``length`` cached tokens are the same; 0 where none are."""

    places: Sequence[int]  # in the pass
    length: int
    width: int  # columns that the longest of them has in use


@dataclass(frozen=True)
class Pass:
    """Where a forward pass reads the cache: its sequences' rows, and what they share."""

    rows: slice | Tensor
    trunks: Sequence[Trunk]  # on a CPU every sequence is in one of them; elsewhere they are not looked at
    base: Stored | None = None  # what all begin with, and the rows go on from; then there are no trunks


def rows_attention(
    module: Any,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    *,
    cached: Pass,
    **options: Any,
) -> tuple[Tensor, None]:
    """What a model's attention calls.

    ``query`` is [sequences, heads, tokens, width]; ``keys`` and ``values`` are the whole cache, [rows, key
    heads, columns, width]; the mask is added to scores, [sequences, 1, tokens, columns in use]. The result is
    [sequences, tokens, heads, width]. Raises UnsupportedModel for kinds of attention that it has not.
    """
    if options.get("softcap") is not None or options.get("s_aux") is not None:
        raise UnsupportedModel("its attention caps its scores or has sinks")
    sequences, heads, tokens, size = query.shape
    # Query heads that share a key head become more queries of it, so that keys are not repeated.
    folded = query.reshape(sequences, keys.shape[1], -1, size)
    mask = attention_mask.expand(-1, heads // keys.shape[1], -1, -1).reshape(
        sequences, 1, folded.shape[2], -1
    )
    if cached.base:
        base_keys, base_values = (states[module.layer_idx][None] for states in cached.base)
        own = slice(0, mask.shape[-1])
        mine = keys[cached.rows, :, own], values[cached.rows, :, own]
        result = joined(folded, (base_keys, base_values), mine, mask, scaling)
    else:
        attention = by_trunks if query.device.type == "cpu" else on_accelerator
        result = attention(folded, keys, values, mask, scaling, cached)
    return result.reshape(sequences, heads, tokens, size).transpose(1, 2), None


def on_accelerator(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float | None, cached: Pass
) -> Tensor:
    """Every sequence to its own row; ``query`` and the result are [sequences, key heads, queries, width]."""
    rows, width = cached.rows, mask.shape[-1]
    return scaled_dot_product_attention(
        query, keys[rows, :, :width], values[rows, :, :width], mask, scale=scaling
    )


def by_trunks(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float | None, cached: Pass
) -> Tensor:
    """The same, where what sequences share is read once."""
    result = torch.empty_like(query)
    for trunk in cached.trunks:
        places = slice(None) if len(trunk.places) == len(query) else torch.tensor(trunk.places)
        result[places] = _trunk(query[places], keys, values, mask[places], scaling, cached, trunk)
    return result


def _trunk(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    scaling: float | None,
    cached: Pass,
    trunk: Trunk,
) -> Tensor:
    """Attention of one trunk; ``query`` and the result are [sequences, key heads, queries, width]."""
    numbers = torch.arange(len(keys))[cached.rows]
    whole = len(trunk.places) == len(numbers)
    # A slice is read where it lies; any other choice of rows is copied together.
    rows = cached.rows if whole else numbers[torch.tensor(trunk.places)]
    own = slice(trunk.length, trunk.width)
    mine = keys[rows, :, own], values[rows, :, own]
    if not trunk.length:
        return attend(query, *mine, mask[..., own], scaling)[0]
    first = int(numbers[trunk.places[0]])
    row, beginning = slice(first, first + 1), slice(0, trunk.length)
    return joined(query, (keys[row, :, beginning], values[row, :, beginning]), mine, mask[..., own], scaling)


def joined(query: Tensor, beginning: Stored, mine: Stored, mask: Tensor, scaling: float | None) -> Tensor:
    """Attention to a beginning that all have, and behind it to what each has, where the mask allows.

    ``query`` and the result are [sequences, key heads, queries, width]; keys and values [1 or sequences, key
    heads, columns, width].
    """
    own, own_total = attend(query, *mine, mask, scaling)
    sequences, heads, queries, size = query.shape
    together = query.transpose(0, 1).reshape(1, heads, sequences * queries, size)
    shared, shared_total = attend(together, *beginning, None, scaling)
    shared = shared.view(heads, sequences, queries, size).transpose(0, 1)
    shared_total = shared_total.view(heads, sequences, queries).transpose(0, 1)
    # Of both parts together the shared one has exp(a) / (exp(a) + exp(b)) of the softmax's weight.
    weight = (shared_total - own_total).sigmoid()[..., None]
    return torch.lerp(own.float(), shared.float(), weight).to(query.dtype)


AttentionInterface.register(NAME, rows_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
