"""A model that rates how harmful an assistant was, learned from people's ratings (paper, section 4.5).

It is an ordinary ``AutoModelForSequenceClassification`` with one label, whose score is the rating, marked as
one that learned people's labels of harm: it may measure and never train (``marks``).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PreTrainedTokenizerBase, Trainer, set_seed
from trl import RewardConfig

from solon import config, marks, models
from solon.config import Config
from solon.errors import SolonError
from solon.evaluation import human_ratings
from solon.evaluation.human_ratings import Rated
from solon.evaluation.raters import by_scorer
from solon.progress import Progress, Watcher
from solon.sources.tables import HUB
from solon.store.files import file_hash, write_atomically
from solon.training import activations, packing, preference_scores, setup, start, trainers


def make(source: str, model: str, out: Path, asked: Config, watcher: Watcher | None = None) -> dict[str, Any]:
    """Train a scorer on a source's rated conversations and measure it on those held out, if there are any.

    Both figures, and where the ratings came from, are in ``ratings.json`` in ``out`` as well. See
    ``human_ratings.read`` for ``source``.
    """
    watcher = watcher or Watcher()
    settings = asked.harm_scorer
    rated = human_ratings.read(source, settings.held_out)
    learned = [conversation for conversation in rated if conversation.split == "train"]
    with watcher.stage("Harm scorer"):
        train(learned, model, out, settings, asked.seed, partial(watcher.advance, "steps"))
    figures: dict[str, Any] = {"conversations": len(learned)}
    if held_out := [conversation for conversation in rated if conversation.split == "held-out"]:
        with watcher.stage("Ratings"):
            rate = by_scorer(str(out), settings.micro_batch_size)
            figures["held-out"] = human_ratings.measure(
                held_out, rate, asked.evaluation.bootstrap, asked.seed, watcher
            )
    origin = {"source": source, "hash": "" if source.startswith(HUB) else file_hash(Path(source))}
    write_atomically(out / "ratings.json", json.dumps({**origin, **figures}, indent=2) + "\n")
    return figures


def train(
    rated: Sequence[Rated],
    model: str,
    out: Path,
    settings: config.HarmScorer,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    """Train ``model`` with a scoring head to give people's ratings, by an L2 loss, and save it to ``out``.

    The learning rate falls linearly to zero. Conversations longer than ``max_length`` tokens are left out.
    Called again after a kill, it goes on from the last checkpoint in ``out``. Returns the last step's
    metrics: ``step``, ``loss`` (mean squared error), ``rmse`` (its root, in points of the scale),
    ``gradient_norm``, ``learning_rate``, and ``left_out`` (conversations, the same in every line). Raises
    SolonError where there is nothing to train on, the loss is not finite, or ``model`` itself learned
    people's labels of harm.
    """
    mark = marks.inherited("harm-scorer", map(asdict, rated), {"start": model}, labels=[marks.HUMAN_HARM])
    if not rated:
        raise SolonError("there is nothing to train on: all conversations are held out; give more of them")
    setup.settle_libraries()
    tokenizer = models.load_tokenizer(model)
    rows = [
        {"input_ids": tokens, "rating": conversation.rating}
        for conversation, tokens in zip(
            rated,
            preference_scores.tokens_of(tokenizer, [conversation.dialogue for conversation in rated]),
            strict=True,
        )
        if len(tokens) <= settings.max_length
    ]
    set_seed(seed)  # before loading: the head is new and drawn at random
    scorer = start.scorer(model, settings, mark)
    with packing.packed_scores(start.network_of(scorer)) as packs:
        trainer = ScorerTrainer(
            model=scorer,
            args=RewardConfig(
                **setup.epoch_arguments(out, seed, settings),
                lr_scheduler_type="linear",
                remove_unused_columns=False,  # the collator needs the ratings
            ),
            data_collator=Collator(tokenizer, packs),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            compute_loss_func=l2_loss,
        )
        longest = max((len(row["input_ids"]) for row in rows), default=0)  # type: ignore[arg-type]
        activations.settle(scorer, settings, longest * settings.micro_batch_size)
        left_out = len(rated) - len(rows)
        return trainers.run(trainer, tokenizer, out, _columns, progress, counts={"left_out": left_out})


class Collator:
    """A batch of conversations, packed where the model can read that and padded on the right otherwise."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, packs: bool) -> None:
        self.tokenizer = tokenizer
        self.packs = packs

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        tokens = [example["input_ids"] for example in examples]
        if self.packs:
            batch = packing.pack([[sequence] for sequence in tokens], self.tokenizer.pad_token_id)
        else:
            batch = dict(self.tokenizer.pad({"input_ids": tokens}, padding_side="right", return_tensors="pt"))
        return {**batch, "labels": torch.tensor([example["rating"] for example in examples])}


class ScorerTrainer(trainers.Discreet, Trainer):  # type: ignore[misc]
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
