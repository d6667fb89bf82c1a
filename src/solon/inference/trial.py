"""Whether a model computes the same in two ways: tried at the start, on a few tokens."""

import torch
from torch import Tensor

from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.prefix import Tokens
from solon.prompts.dialogue import user

TRIED = 24  # tokens: more than windows and chunks are long in tests, and soon computed
SHORT, LONG = "Why?", "Why do the people in the north drink so much tea?"
# Total variation from which two distributions are told apart. With the embedded model rounding came to 4e-6
# and 0.02.
APART = {torch.float32: 1e-4}
APART_ROUNDED = 0.1  # in a type of 16 bits


def tokens_to_try(vocabulary: int) -> Tensor:
    """[2, tokens]: any tokens, none of them twice; and the same in the other order."""
    tokens = torch.arange(5, 5 + 3 * TRIED, 3) % vocabulary
    return torch.stack([tokens, tokens.flip(0)])


def prompts_to_try(dialogue: DialogueTokens) -> tuple[Tokens, Tokens]:
    """Two that begin alike, of different lengths."""
    return dialogue.prompt([user(SHORT)], "")[1], dialogue.prompt([user(LONG)], "")[1]


def agree(one: Tensor, other: Tensor) -> bool:
    """Whether two rows of logits are the same distribution, but for rounding."""
    distance = (one.float().softmax(-1) - other.float().softmax(-1)).abs().sum(-1).max() / 2
    return bool(distance < APART.get(one.dtype, APART_ROUNDED))
