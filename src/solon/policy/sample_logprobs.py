"""Log-probabilities of sampled answers for TRL's RL trainers, a prompt computed once for all its answers.

TRL pads a micro-batch to its longest prompt and answer, and runs the prompt again for each of its samples,
forward and backward, in the policy and in the reference. Here a micro-batch is one row of ``packing``. For a
model that cannot read that it has a row for each sequence, with padding after it alone: padding before it may
change what a model with states, convolutions or absolute positions makes of a text.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from solon.inference.prefix import Tokens
from solon.libraries.trl import OwnSamples, fused_logprobs
from solon.policy.rollouts import AnySampler
from solon.training.packing import all_packed, pack


class SharedPrompts(OwnSamples):
    """Goes before a TRL trainer of RL, which then must train under ``shared_prompts``."""

    sampler: AnySampler
    packs = False

    @contextmanager
    def shared_prompts(self: Any) -> Iterator[None]:
        """Inside, prompts are shared, unless the models have another than plain attention."""
        with all_packed(with_reference(self)) as self.packs:
            yield
        self.packs = False

    def logprobs(
        self: Any,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        length: int,
        batch_size: int | None,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor | None]:
        lengths = attention_mask[:, -length:].sum(1).tolist()
        sequences = [
            ids[seen].cpu().numpy() for ids, seen in zip(input_ids, attention_mask.bool(), strict=True)
        ]
        size = batch_size or len(sequences)
        logprobs, entropies = [], []
        for start in range(0, len(sequences), size):
            part = slice(start, start + size)
            lay_out = packed_answers if self.packs else padded_answers
            rows, places = lay_out(sequences[part], lengths[part])
            with self.accelerator.autocast():
                logprob, entropy = fused_logprobs(model, send_to_device(rows, input_ids.device))
            logprobs.append(_padded(logprob.flatten(), places, length))
            if with_entropy:
                entropies.append(_padded(entropy.flatten(), places, length))
        return torch.cat(logprobs), torch.cat(entropies) if with_entropy else None


def with_reference(trainer: Any) -> list[PreTrainedModel]:
    """The trainer's policy and its reference: with adapters that is the same model without them."""
    policy = trainer.model.get_base_model() if isinstance(trainer.model, PeftModel) else trainer.model
    return [policy] if trainer.ref_model is None else [policy, trainer.ref_model]


def packed_answers(
    sequences: Sequence[Tokens], lengths: Sequence[int]
) -> tuple[dict[str, Any], list[Tensor]]:
    """One row of the sequences, each a prompt and then an answer of the length given, not empty.

    The row has the answers' tokens as ``shift_labels`` where they are predicted. The places of these come
    with it, for each sequence. Neighbours with the same prompt share it but for its last token: what comes
    after that differs, and a place has one label.
    """
    numbered = zip(sequences, lengths, strict=True)
    groups = [
        (len(prompt), [sequence for sequence, _ in group])
        for prompt, group in groupby(numbered, key=lambda pair: pair[0][: len(pair[0]) - pair[1]].tolist())
    ]
    row = pack([group for _, group in groups], None, [size - 1 for size, _ in groups])
    labels = torch.full_like(row["input_ids"], -100)
    places = []
    for end, sequence, length in zip(row.pop("ends").tolist(), sequences, lengths, strict=True):
        places.append(torch.arange(end - length, end))
        labels[0, places[-1]] = torch.from_numpy(np.asarray(sequence[len(sequence) - length :]))
    return row | {"shift_labels": labels}, places


def padded_answers(
    sequences: Sequence[Tokens], lengths: Sequence[int]
) -> tuple[dict[str, Any], list[Tensor]]:
    """The same in a row for each sequence; places are counted through all rows.

    No mask is needed: a token sees nothing that comes after it, and nothing is read at the padding.
    """
    width = max(map(len, sequences))
    tokens = torch.zeros(len(sequences), width, dtype=torch.long)
    labels = torch.full_like(tokens, -100)
    places = []
    for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        end = len(sequence) - 1
        tokens[row, : end + 1] = torch.from_numpy(sequence)
        labels[row, end - length : end] = tokens[row, end - length + 1 : end + 1]
        places.append(row * width + torch.arange(end - length, end))
    return {"input_ids": tokens, "shift_labels": labels}, places


def _padded(values: Tensor, places: Sequence[Tensor], width: int) -> Tensor:
    """[sequences, width]: each sequence's values, 0 after them."""
    rows = torch.nn.utils.rnn.pad_sequence([values[place] for place in places], batch_first=True)
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))
