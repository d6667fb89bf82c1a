"""Direct preference optimisation on soft labels, by TRL (Rafailov et al. 2023, arXiv:2305.18290).

The policy learns from labelled pairs and samples nothing. Its reward for an answer y to x is beta times
log pi(y | x) / pi_ref(y | x), where the reference pi_ref is what it began as (equation 5), and beta is what
RL calls ``kl_coefficient`` (equation 3). These rewards take the place of a preference model's scores in the
paper's loss on soft labels. Where all labels are 1 that is the loss of DPO (equation 7), and where all are
the same that of its conservative form.
"""

from typing import Any

import datasets
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from transformers import PreTrainedTokenizerBase, set_seed
from trl import DPOConfig

from solon import models
from solon.adapter_folders import adapter_of
from solon.errors import SolonError
from solon.libraries.trl import (
    DPO,
    DPOCollator,
    fused_logprobs,
    references_by,
    settle_heads,
    without_copy,
    without_router_loss,
)
from solon.policy.kept_policies import KeepPolicies
from solon.policy.sample_logprobs import packed_answers, padded_answers, with_reference
from solon.policy.task import Task
from solon.training import activations, packing, setup, sharing, start, trainers
from solon.training.soft_labels import Labelled, SoftLabels, columns


def train(task: Task, trainer_of: Any = None) -> dict[str, float]:
    """``steps`` optimiser steps of ``prompts_per_step`` pairs each, drawn anew when all have been seen.

    The metrics are ``loss`` (nats a pair), ``accuracy`` (share of pairs with the chosen answer's reward
    ahead), ``margin`` (of the rewards), ``gradient_norm``, ``learning_rate``, which is constant, and
    ``pairs_left_out``, the same in every line.
    """
    settings, out = task.settings, task.out
    tokenizer = models.load_tokenizer(task.policy, role=task.role)
    pairs = in_tokens(task, tokenizer)
    arguments = setup.common_arguments(
        out, task.seed, *settings.per_step, settings.report_to, settings.optimizer
    )
    set_seed(task.seed)
    policy = start.policy(task.policy, settings, task.mark)
    with references_by(sharing.beside):
        trainer: Any = (trainer_of or SoftLabelDPO)(
            model=policy,
            ref_model=None if settings.lora else setup.without_dropout(models.load_model(task.policy)),
            args=DPOConfig(
                **arguments,
                max_steps=settings.steps,
                save_steps=settings.save_steps,
                learning_rate=settings.learning_rate,
                lr_scheduler_type="constant",
                beta=settings.kl_coefficient,
                max_length=None,  # what is too long is left out and counted
                disable_dropout=True,  # of adapters too, as in RL
            ),
            data_collator=Collator(pad_token_id=tokenizer.pad_token_id),
            train_dataset=pairs,
            processing_class=tokenizer,
        )
    if not adapter_of(task.policy):
        without_copy(trainer)
    without_router_loss(trainer)
    settle_heads(trainer)
    both = max(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in pairs
    )
    activations.settle(policy, settings, both * settings.per_step[1], copies=0 if settings.lora else 1)
    trainer.add_callback(KeepPolicies(trainer, settings, out))
    counts = {"pairs_left_out": len(task.records) - len(pairs)}
    with packing.all_packed(with_reference(trainer)) as trainer.packs:
        return trainers.run(trainer, tokenizer, out, columns, task.progress, counts=counts)


def in_tokens(task: Task, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
    """The pairs that fit ``max_prompt_length`` and ``max_tokens`` together, as the trainer takes them."""
    limit, rows = task.settings.max_prompt_length + task.settings.max_tokens, []
    pairs = setup.conversational(
        task.records, tokenizer, "prompt", "chosen", "rejected", "probability", system=task.role.system
    )
    for pair, record in zip(pairs, task.records, strict=True):
        cut = record.get("cut") or ("", "")  # such an answer has no end of its turn
        prompt, chosen = setup.in_tokens(tokenizer, [*pair["prompt"], *pair["chosen"]], not cut[0])
        _, rejected = setup.in_tokens(tokenizer, [*pair["prompt"], *pair["rejected"]], not cut[1])
        row = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        if len(prompt) + max(len(chosen), len(rejected)) <= limit:
            rows.append(row | {"probability": pair["probability"]})
    if not rows:
        raise SolonError(
            f"no pair fits reinforce.max_prompt_length and max_tokens together ({limit} tokens): raise them"
        )
    return datasets.Dataset.from_list(rows)


class Collator(Labelled, DPOCollator):  # type: ignore[misc]
    """TRL's batch of pairs, the chosen before the rejected, with each pair's probability."""


class SoftLabelDPO(trainers.Discreet, SoftLabels, DPO):
    """TRL's trainer knows hard labels only; this one minimises the soft-label loss."""

    columns = ("prompt_ids", "chosen_ids", "rejected_ids", "probability")
    packs = False  # both answers to a prompt go through the models after it in one row

    def compute_loss(
        self: Any,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int = 1,
    ) -> Tensor:
        with torch.no_grad(), self.reference() as reference:
            began = self.logprobs(reference, inputs)
        ratios = self.logprobs(model, inputs) - began
        chosen, rejected = self.rewards(ratios, inputs["completion_mask"].sum(1)).chunk(2)
        loss: Tensor = self.loss_of(chosen, rejected, inputs["probability"], num_items_in_batch)
        return loss

    def rewards(self: Any, ratios: Tensor, lengths: Tensor) -> Tensor:
        """Of answers by their log-ratios to the reference, nats, and their tokens; all [sequences]."""
        scaled: Tensor = self.beta * ratios
        return scaled

    def logprobs(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        """log P(answer | prompt) in nats, [sequences], in the order of TRL's batch.

        With the answer's end, unless it was cut off.
        """
        tokens, lengths = batch["input_ids"], batch["completion_mask"].sum(1).tolist()
        sequences = [
            ids[seen].cpu().numpy() for ids, seen in zip(tokens, batch["attention_mask"].bool(), strict=True)
        ]
        half = len(sequences) // 2
        order = [place + side * half for place in range(half) for side in range(2)]  # a prompt's together
        lay_out = packed_answers if self.packs else padded_answers
        rows, places = lay_out([sequences[one] for one in order], [lengths[one] for one in order])
        logprobs = fused_logprobs(model, send_to_device(rows, tokens.device))[0].flatten()
        return torch.stack([logprobs[place].sum() for place in places]).view(half, 2).T.flatten()
