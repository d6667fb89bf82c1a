"""The preference model, trained on soft labels (paper, section 4.1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed
from trl import RewardConfig

from solon import config, marks, models
from solon.libraries.trl import DataCollatorForPreference, Reward
from solon.progress import Progress
from solon.records import PreferenceRecord
from solon.role_settings import POLICY, Role
from solon.sources import harm_labels
from solon.training import activations, packing, setup, start, trainers
from solon.training.soft_labels import Labelled, SoftLabels, columns


def train(
    preferences: Sequence[PreferenceRecord],
    model: str,
    out: Path,
    settings: config.PreferenceModel,
    seed: int,
    progress: Progress,
    human_harm: bool = False,
    role: Role = POLICY,
) -> dict[str, float]:
    """Train ``model`` with a scoring head on the labelled pairs and save it to ``out``.

    The learning rate falls linearly to zero. Pairs longer than ``max_length`` tokens are left out. Called
    again after a kill, it goes on from the last checkpoint in ``out``. Returns the last step's metrics:
    ``step``, ``loss`` (nats a pair), ``accuracy`` (share of pairs with the chosen answer ahead), ``margin``,
    ``gradient_norm``, ``learning_rate``, and ``left_out`` (pairs, the same in every line).
    Raises SolonError where there is nothing to train on, the loss is not finite, or people's labels of harm
    are among the pairs' (see ``sources.harm_labels``) or what ``model`` learned, unless ``human_harm`` says
    that they were asked for by name.
    """
    harm_labels.refuse(harm_labels.of_records(preferences, "the labels"), settings.vouched_for)
    setup.settle_libraries()
    mark = marks.inherited("preference-model", preferences, {"policy": model}, human_harm)
    tokenizer = models.load_tokenizer(model, role=role)
    labelled = [_hard(record) for record in preferences] if settings.labels == "hard" else preferences
    dataset = setup.conversational(labelled, tokenizer, "prompt", "chosen", "rejected", "probability")
    set_seed(seed)  # before loading: the head is new and drawn at random
    scorer = start.scorer(model, settings, mark)
    with packing.packed_scores(start.network_of(scorer)) as packs:
        collator = PackedCollator if packs else SoftLabelCollator
        trainer = SoftLabelTrainer(
            model=scorer,
            args=RewardConfig(
                **setup.epoch_arguments(out, seed, settings),
                lr_scheduler_type="linear",
                disable_dropout=False,  # done above; here it would also undo lora.dropout
            ),
            data_collator=collator(pad_token_id=tokenizer.pad_token_id),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        fitting = trainer.train_dataset
        longest = max(map(len, [*fitting["chosen_ids"], *fitting["rejected_ids"]]), default=0)
        activations.settle(scorer, settings, 2 * longest * settings.micro_batch_size)
        left_out = len(dataset) - len(fitting)
        return trainers.run(trainer, tokenizer, out, columns, progress, counts={"left_out": left_out})


def _hard(record: PreferenceRecord) -> PreferenceRecord:
    """With a label of 0 or 1 (paper, section 4); where neither answer is likelier there is none to take."""
    return {**record, "probability": 1.0 if record["probability"] > 0.5 else 0.5}


class SoftLabelCollator(Labelled, DataCollatorForPreference):  # type: ignore[misc]
    """TRL's batch of pairs, with each pair's probability."""


class PackedCollator(SoftLabelCollator):
    """The same batch without padding, and with what chosen and rejected begin with only once."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        pairs = [(example["chosen_ids"], example["rejected_ids"]) for example in examples]
        batch = packing.pack(pairs, self.pad_token_id)
        ends = batch.pop("ends").view(-1, 2).T.flatten()  # the chosen before the rejected, as TRL has them
        labels = torch.tensor([example["probability"] for example in examples])
        return {**batch, "ends": ends, "probability": labels}


class SoftLabelTrainer(trainers.Discreet, SoftLabels, Reward):
    """TRL's trainer knows hard labels only; this one minimises the soft-label loss."""

    columns = ("chosen_ids", "rejected_ids", "probability")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int = 1,
    ) -> Any:
        probability = inputs.pop("probability")
        outputs = model(**inputs, use_cache=False)
        chosen, rejected = outputs.logits.squeeze(-1).float().chunk(2)
        loss = self.loss_of(chosen, rejected, probability, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss
