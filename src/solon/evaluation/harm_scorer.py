"""A model that rates how harmful an assistant was, learned from people's ratings (paper, section 4.5).

It is an ordinary ``AutoModelForSequenceClassification`` with one label, whose score is the rating, marked as
one that may measure and never train (``measuring_only``).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import get_peft_model
from transformers import PreTrainedTokenizerBase, Trainer, set_seed
from trl import RewardConfig

from solon import config, models
from solon.errors import SolonError
from solon.evaluation.harm_ratings import Rated
from solon.measuring_only import MARK
from solon.stages import packing, preference_scores, training


def train(
    rated: Sequence[Rated],
    model: str,
    out: Path,
    settings: config.HarmScorer,
    seed: int,
    progress: training.Progress,
) -> dict[str, float]:
    """Train ``model`` with a scoring head to give people's ratings, by an L2 loss, and save it to ``out``.

    The learning rate falls linearly to zero. Conversations longer than ``max_length`` tokens are left out.
    Called again after a kill, it goes on from the last checkpoint in ``out``. Returns the last step's
    metrics: ``step``, ``loss`` (mean squared error), ``rmse`` (its root, in points of the scale),
    ``gradient_norm`` and ``learning_rate``. Raises SolonError where there is nothing to train on or the loss
    is not finite.
    """
    if not rated:
        raise SolonError("there is nothing to train on: all conversations are held out; give more of them")
    training.settle_libraries()
    tokenizer = models.load_tokenizer(model)
    rows = [
        {"input_ids": tokens, "rating": each.rating}
        for each, tokens in zip(
            rated, preference_scores.tokens_of(tokenizer, [each.dialogue for each in rated]), strict=True
        )
        if len(tokens) <= settings.max_length
    ]
    set_seed(seed)  # before loading: the head is new and drawn at random
    scorer = training.without_dropout(models.load_preference_model(model))
    setattr(scorer.config, MARK, True)
    with packing.packed_scores(scorer) as packs:
        if lora := training.lora_config(settings.lora, "SEQ_CLS"):
            scorer = get_peft_model(scorer, lora)
        trainer = ScorerTrainer(
            model=scorer,
            args=RewardConfig(
                **training.epoch_arguments(out, seed, settings),
                lr_scheduler_type="linear",
                remove_unused_columns=False,  # the collator needs the ratings
            ),
            data_collator=Collator(tokenizer, packs),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            compute_loss_func=l2_loss,
        )
        return training.run(trainer, tokenizer, out, _columns, progress)


class Collator:
    """A batch of conversations, packed where the model can read that and padded on the right otherwise."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, packs: bool) -> None:
        self.tokenizer = tokenizer
        self.packs = packs

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        tokens = [example["input_ids"] for example in examples]
        if self.packs:
            batch = packing.pack([[each] for each in tokens], self.tokenizer.pad_token_id)
        else:
            batch = dict(self.tokenizer.pad({"input_ids": tokens}, padding_side="right", return_tensors="pt"))
        return {**batch, "labels": torch.tensor([example["rating"] for example in examples])}


class ScorerTrainer(training.Discreet, Trainer):  # type: ignore[misc]
    """transformers' own trainer."""


def l2_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """A micro-batch's part of the mean squared error over all conversations of its optimiser step."""
    errors: torch.Tensor = outputs.logits.squeeze(-1).float() - labels
    return (errors**2).sum() / num_items_in_batch


def _columns(logs: dict[str, float]) -> dict[str, float]:
    return {
        "loss": logs["loss"],
        "rmse": math.sqrt(logs["loss"]),
        "gradient_norm": logs["grad_norm"],
        "learning_rate": logs["learning_rate"],
    }
