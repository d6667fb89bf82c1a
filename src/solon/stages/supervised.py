"""Supervised finetuning on revisions and helpful answers: the SL-CAI model (paper, section 3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from trl import SFTConfig

from solon import config, marks, models
from solon.libraries.trl import SFT, settle_heads, without_router_loss
from solon.progress import Progress
from solon.records import Example
from solon.role_settings import POLICY, Role
from solon.training import activations, packing, setup, start, trainers
from solon.training.preference_scores import tokens_of

IGNORED = -100  # the label of a token that has no part in the loss


def train(
    examples: Sequence[Example],
    model: str,
    out: Path,
    settings: config.Supervised,
    seed: int,
    progress: Progress,
    human_harm: bool = False,
    role: Role = POLICY,
) -> dict[str, float]:
    """Finetune ``model`` on the examples' completions and save it to ``out``.

    The learning rate is constant (paper, section 3.2). Of an example longer than ``max_length`` tokens the
    end is cut off; one whose prompt alone is that long is left out. Called again after a kill, it goes on
    from the last checkpoint in ``out``. Returns the last step's metrics: ``step``, ``loss`` (nats a
    completion token), ``accuracy`` (of the likeliest token), ``gradient_norm``, ``learning_rate``, and, the
    same in every line, ``left_out`` and ``cut_off`` (examples).
    Raises SolonError where there is nothing to train on, the loss is not finite, or ``model`` learned
    people's labels of harm, unless ``human_harm`` says that these were asked for by name.
    """
    setup.settle_libraries()
    mark = marks.inherited("supervised", examples, {"policy": model}, human_harm)
    tokenizer = models.load_tokenizer(model, role=role)
    dataset = setup.completions(examples, tokenizer, role.system)
    set_seed(seed)
    student = start.policy(model, settings, mark)
    with packing.packed(start.network_of(student)) as packs:
        trainer = Finetuner(
            model=student,
            args=SFTConfig(
                **setup.epoch_arguments(out, seed, settings),
                lr_scheduler_type="constant",
                completion_only_loss=True,
            ),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        without_router_loss(trainer)
        settle_heads(trainer)
        if packs:
            # Not as an argument: TRL tells the model its padding token only where the collator is TRL's.
            trainer.data_collator = packed_batch
        dialogues = [[*example["prompt"], *example["completion"]] for example in examples]
        whole = tokens_of(tokenizer, dialogues, system=role.system)
        longest = min(max(map(len, whole), default=0), settings.max_length)
        activations.settle(student, settings, longest * settings.micro_batch_size)
        too_long = sum(len(tokens) > settings.max_length for tokens in whole)
        left_out = len(dataset) - len(trainer.train_dataset)
        counts = {"left_out": left_out, "cut_off": too_long - left_out}
        return trainers.run(trainer, tokenizer, out, _columns, progress, counts=counts)


def packed_batch(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch for TRL's trainer without padding.

    TRL's own way to that needs flash attention: any other would attend across the whole row, under a mask.
    """
    batch = packing.pack([[example["input_ids"]] for example in examples], None)
    del batch["ends"]
    # A sequence's first token is not predicted: before it in the row is another sequence.
    labels = [label for example in examples for label in (IGNORED, *example["labels"][1:])]
    return {**batch, "labels": torch.tensor(labels)[None]}


class Finetuner(trainers.Discreet, SFT):
    """TRL's trainer."""


def _columns(logs: dict[str, float]) -> dict[str, float]:
    return {
        "loss": logs["loss"],
        "accuracy": logs["mean_token_accuracy"],
        "gradient_norm": logs["grad_norm"],
        "learning_rate": logs["learning_rate"],
    }
