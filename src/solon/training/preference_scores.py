"""What a preference model, or another scorer, gives dialogues. Nothing here trains or needs what does."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import torch
from accelerate.utils import send_to_device
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from solon import models
from solon.errors import NotFinite
from solon.prompts.template_turns import TemplateTurns
from solon.records import Message
from solon.training import packing


def scorer(folder: str, batch_size: int) -> Callable[..., list[float]]:
    """``score`` by the preference model, or harm scorer, in ``folder``. SolonError where there is none."""
    model = models.load_preference_model(folder, trained=True).to(models.best_device())
    return partial(score, model, models.load_tokenizer(folder), batch_size=batch_size)


def tokens_of(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Sequence[Message]],
    truncated: Sequence[bool] | None = None,
    system: str | None = None,
) -> list[list[int]]:
    """Each dialogue, which ends in an assistant's turn, as a scorer reads it.

    Where the turn is said to be ``truncated``, no end is written after it. The text ``system`` comes first.
    """
    turns = TemplateTurns(tokenizer)
    return [
        tokenizer.apply_chat_template(
            turns(dialogue, system or ""),
            tokenize=True,
            return_dict=True,
            continue_final_message=open_ended,
        )["input_ids"]
        for dialogue, open_ended in zip(dialogues, truncated or [False] * len(dialogues), strict=True)
    ]


@torch.no_grad()
def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Sequence[Message]],
    batch_size: int,
    truncated: Sequence[bool] | None = None,
) -> list[float]:
    """The preference model's score of each dialogue, which ends in an assistant's turn, in the order given.

    Dialogues become tokens exactly as in training, and ``truncated`` ones by the same template without the
    end of their last turn. ``batch_size`` of them go through the model at once, and those that answer one
    prompt share it; scores depend on neither, nor on the autocast that training may be under: everywhere the
    model computes in its own number type. Raises NotFinite where one is not a finite number.
    """
    tokens = tokens_of(tokenizer, dialogues, truncated)
    pad = model.config.get_text_config().pad_token_id
    scores = [0.0] * len(tokens)
    with torch.autocast(model.device.type, enabled=False), packing.packed_scores(model) as packs:
        # In the tokens' order one prompt's dialogues come together; where they are padded, like lengths do.
        order = sorted(range(len(tokens)), key=lambda index: tokens[index] if packs else len(tokens[index]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            if packs:
                prompts = groupby(batch, key=lambda index: dialogues[index][:-1])
                inputs = packing.pack([[tokens[index] for index in group] for _, group in prompts], pad)
            else:
                inputs = tokenizer.pad(
                    {"input_ids": [tokens[index] for index in batch]},
                    padding_side="right",
                    return_tensors="pt",
                )
            logits = model(**send_to_device(inputs, model.device), use_cache=False).logits.squeeze(-1).float()
            for index, value in zip(batch, logits.tolist(), strict=True):
                scores[index] = value
    if not all(map(math.isfinite, scores)):
        raise NotFinite(
            f"model {model.name_or_path!r} gives scores that are not finite numbers: its weights are "
            "damaged, or training has diverged; train it again with a lower learning_rate, or name another"
        )
    return scores
