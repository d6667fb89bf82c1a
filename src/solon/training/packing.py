"""Sequences packed into one row: no padding, and what some of them begin with goes through the model once.

A preference model sees the same beginning again and again: of a chosen and a rejected answer, of many samples
for one prompt. Sequences that begin alike form a group, laid out as their common tokens and then the rest of
each, its branch. Positions go on from the common part in every branch, and attention lets a branch see the
common part and itself. So every token's state is what it would be in a row of its own, and gradients are too:
those of the common tokens add up. Groups do not see each other.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from types import MethodType
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from solon.inference.prefix import Tokens, common_length
from solon.libraries.transformers import (
    GenericForSequenceClassification,
    attention_of,
    sdpa_attention_forward,
)
from solon.training import sharing

NAME = "solon-packed"  # of this attention, as transformers knows it

# For each group the masks of its branches, each [1, 1, branch, common + branch]: True where a token is seen.
# They also tell the lengths.
Branches = Sequence[Sequence[Tensor]]


def pack(
    groups: Sequence[Sequence[Sequence[int] | Tokens]], pad: int | None, shared: Sequence[int] | None = None
) -> dict[str, Any]:
    """The inputs of a model under ``packed_scores``: one row, and where each sequence's score is read.

    ``groups`` holds token sequences, not empty, and those of a group are best ones that begin alike: they
    share all that they have in common, or as much as ``shared`` says for each group. As in transformers' own
    classifiers, a score is read at the last token that is not ``pad``; what comes after it has no part in
    the score and is left out. ``ends`` has the groups' sequences one after another.
    """
    tokens, positions, ends, branches = [], [], [], []
    place = 0
    for number, group in enumerate(groups):
        sequences = [_without_end(np.asarray(sequence), pad) for sequence in group]
        common = min(common_length(sequences[0], sequence) for sequence in sequences)
        if shared:
            common = min(common, shared[number])
        tokens.append(sequences[0][:common])
        positions.append(np.arange(common))
        place += common
        beginning, masks = place, []
        for sequence in sequences:
            length = len(sequence) - common
            tokens.append(sequence[common:])
            positions.append(np.arange(common, len(sequence)))
            masks.append(torch.ones(1, 1, length, len(sequence), dtype=torch.bool).tril(common))
            place += length
            ends.append((place if length else beginning) - 1)
        branches.append(masks)
    return {
        "input_ids": torch.tensor(np.concatenate(tokens))[None],
        "position_ids": torch.tensor(np.concatenate(positions))[None],
        "branches": branches,
        "ends": torch.tensor(ends),
    }


def _without_end(sequence: Tokens, pad: int | None) -> Tokens:
    """The sequence up to its last token that is not ``pad`` (up to its first where all are)."""
    kept = np.flatnonzero(sequence != pad)
    return sequence[: kept[-1] + 1 if len(kept) else 1]


def packed_attention(
    module: Any,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    attention_mask: None,
    *,
    branches: Branches = (),
    **options: Any,
) -> tuple[Tensor, None]:
    """What a model's attention calls.

    ``query`` is [1, heads, tokens, width], ``keys`` and ``values`` [1, key heads, tokens, width]; the result
    is [1, tokens, heads, width]. Where a model does not hand ``branches`` on, the row is one sequence: that
    is how such a model is found out.
    """
    if not branches:
        attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, keys, values, None, **options)
        return attended
    lengths = [
        length
        for masks in branches
        for length in (masks[0].shape[3] - masks[0].shape[2], *(mask.shape[2] for mask in masks))
    ]
    # Parted at once: the gradient of a slice would be a whole row of zeros for each slice.
    parts = zip(*(torch.split(states, lengths, dim=2) for states in (query, keys, values)), strict=True)
    outputs = []
    for masks in branches:
        queries, common_keys, common_values = next(parts)
        if queries.shape[2]:
            outputs.append(
                sdpa_attention_forward(module, queries, common_keys, common_values, None, **options)[0]
            )
        for mask in masks:
            queries, own_keys, own_values = next(parts)
            if queries.shape[2]:
                seen = torch.cat([common_keys, own_keys], 2), torch.cat([common_values, own_values], 2)
                outputs.append(sdpa_attention_forward(module, queries, *seen, mask, **options)[0])
    return torch.cat(outputs, dim=1), None


# transformers makes a mask only for attention that it has a mask for; this one needs none.
AttentionInterface.register(NAME, packed_attention)


@contextmanager
def packed(model: PreTrainedModel) -> Iterator[bool]:
    """Inside, where this yields True, the model takes ``pack``'s rows (without ``ends``).

    It yields False, and says so on the log once, for a model where something else than plain attention makes
    a token's state depend on others. That one stays as it is, for padded batches.
    """
    packs = _attends_plainly(model)
    if not packs:
        _say_that_it_pads(type(model).__name__)
    with _attention(model) if packs else nullcontext():
        yield packs


@contextmanager
def all_packed(models: Sequence[PreTrainedModel]) -> Iterator[bool]:
    """The same for several models: all of them take rows, or none does."""
    with ExitStack() as stack:
        packs = all(stack.enter_context(packed(model)) for model in models)
        if not packs:
            stack.close()
        yield packs


@contextmanager
def packed_scores(model: PreTrainedModel) -> Iterator[bool]:
    """The same for a classifier: it takes what ``pack`` gives, and its ``logits`` are [sequences, 1]."""
    if not isinstance(model, GenericForSequenceClassification):
        _say_that_it_pads(type(model).__name__)
        yield False
        return
    with packed(model) as packs:
        if packs:
            # The model itself is still what is called, so that what wraps it does its part: adapters, FSDP...
            model.forward = MethodType(_scores, model)
        try:
            yield packs
        finally:
            model.__dict__.pop("forward", None)


@contextmanager
def _attention(model: PreTrainedModel) -> Iterator[None]:
    usual = attention_of(model)
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _scores(
    model: Any, input_ids: Tensor, position_ids: Tensor, branches: Branches, ends: Tensor, **_: Any
) -> SequenceClassifierOutputWithPast:
    states = _states(model, input_ids, position_ids=position_ids, branches=branches)
    return SequenceClassifierOutputWithPast(logits=model.score(states[0, ends]))


def _states(model: Any, input_ids: Tensor, **inputs: Any) -> Tensor:
    """After the last layer, [rows, tokens, width]."""
    body = getattr(model, model.base_model_prefix)
    states: Tensor = body(input_ids, use_cache=False, **inputs).last_hidden_state
    return states


def _attends_plainly(model: PreTrainedModel) -> bool:
    """Whether packing leaves every state as it is: by the configuration, and tried on two short sequences.

    Only the configuration tells of attention in windows, which short sequences fit into. Whatever else is
    not plain attention shows in the trial.
    """
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    windows = kinds - {"full_attention"} if kinds else getattr(text, "sliding_window", None)
    if windows or attention_of(model) not in {"sdpa", NAME} or model.device.type == "meta":
        return False
    return sharing.within(model, partial(_as_alone, model))


@torch.no_grad()
def _as_alone(model: PreTrainedModel) -> bool:
    """Whether two sequences have the states in one row that they have in rows of their own."""
    if not sharing.runs_in_parts(model):
        return False
    sequences = [[5, 6, 7, 8, 9, 10], [5, 6, 9, 8]]
    inputs = send_to_device(pack([sequences], None), model.device)
    ends = inputs.pop("ends")
    try:
        alone = [_states(model, torch.tensor([tokens], device=model.device))[0, -1] for tokens in sequences]
        with _attention(model):
            states = _states(model, **inputs)[0, ends]
    except Exception:  # the libraries raise all sorts where a family has no place for this
        return False
    tolerance = torch.finfo(states.dtype).eps ** 0.5
    return bool((states - torch.stack(alone)).norm() < tolerance * states.norm())


@cache
def _say_that_it_pads(name: str) -> None:
    logging.getLogger(__name__).warning(
        "batches of %s are padded, and nothing in them is shared: packing needs plain attention to all "
        "tokens before",
        name,
    )
