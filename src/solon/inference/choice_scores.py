"""The log-probabilities that a model gives to choices (``scoring`` has the questions they answer)."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from solon.inference.cache import Stored
from solon.inference.prefill import Logits, Prefill
from solon.inference.prefix import LEAST_TRUNK, Tokens, common_length
from solon.inference.scoring import Scored

HEAD_ROWS = 16384  # of the head's weights are in float32 at a time


def choice_scores(read: Iterator[Logits], rows: list[Scored], head: nn.Module) -> list[dict[int, float]]:
    """The log-probabilities of each row's choices, by number; ``read`` runs the model, ``head`` included."""
    scores = [dict.fromkeys(row.choices, 0.0) for row in rows]
    parts: list[tuple[int, int, Tensor]] = []  # row, choice, and the sum of some of its tokens
    # Rounding matters where one token decides; over the many tokens of a text it averages out.
    letters = all(len(target) == 1 for row in rows for target in row.choices.values())
    with logits_in_float32(head) if letters else nullcontext():
        for number, position, output in read:
            row, logits = rows[number], output.float()
            # Not log_softmax: on a CPU it adds the vocabulary up in too few sums, and every logprob of a
            # long text is then too high by 2e-5 (torch 2.13, float32, AVX2).
            totals = logits.logsumexp(-1, keepdim=True)
            begin = position - row.start
            for choice, target in row.choices.items():
                tokens = torch.from_numpy(target[begin : begin + len(logits)]).to(logits.device)
                picked = logits.gather(-1, tokens[:, None]) - totals
                parts.append((number, choice, picked.sum(dtype=torch.float32)))
    sums = torch.stack([logprob for *_, logprob in parts]).tolist()  # together: each asking waits for a GPU
    for (number, choice, _), score in zip(parts, sums, strict=True):
        scores[number][choice] += score
    return scores


def beginning(prefill: Prefill, sequences: list[Tokens], most: int) -> Stored | None:
    """What all of them, in the order of their tokens, begin with, up to ``most`` tokens.

    None where it is too short to be kept apart. Accelerators read all sequences' own rows, and windowed
    attention does not see all of it.
    """
    model = prefill.model
    common = min(common_length(sequences[0], sequences[-1]), most)
    apart = model.device.type == "cpu" and model.window is None and len(sequences) > 1
    if not apart or common < LEAST_TRUNK:
        return None
    cache = model.cache(1)
    cache.reserve(1, common, used=0)
    deque(prefill(cache, 0, [sequences[0][:common]], [common]), maxlen=0)
    return cache.read(0, 0, common)


@contextmanager
def logits_in_float32(head: nn.Module) -> Iterator[None]:
    """Meanwhile the head's products are not rounded to the model's own type.

    bfloat16 has steps of 0.125 between 16 and 32, where most logits are. Of answers judged in both
    orders it made exact ties: 14 of 32 pairs with the embedded model.
    """

    def precise(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if output.dtype == torch.float32 or not isinstance(head, nn.Linear):
            return output.float()
        states, parts = inputs[0].float(), torch.split(head.weight, HEAD_ROWS)
        logits = torch.cat([nn.functional.linear(states, part.float()) for part in parts], dim=-1)
        return logits if head.bias is None else logits + head.bias

    handle = head.register_forward_hook(precise)
    try:
        yield
    finally:
        handle.remove()
