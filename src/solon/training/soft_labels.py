"""Learning from pairs with soft labels: the loss, and trainers in which every pair of a step counts alike."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from solon.libraries.transformers import OwnBatches
from solon.libraries.trl import add_metric


def soft_label_loss(chosen: torch.Tensor, rejected: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between soft labels and the Bradley-Terry model, in nats, averaged over the pairs.

    With margin m = chosen - rejected and label p: -[p log sigma(m) + (1 - p) log sigma(-m)] (paper, section
    4.1; Bradley and Terry 1952). Its least value is the labels' entropy, at m = logit(p).
    All three arguments have shape (pairs,).
    """
    margin = chosen - rejected
    return -(probability * logsigmoid(margin) + (1 - probability) * logsigmoid(-margin)).mean()


class Labelled:
    """Goes before a collator of pairs: its batches then have each pair's ``probability``."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        labels = torch.tensor([example["probability"] for example in examples])
        return {**super().torch_call(examples), "probability": labels}  # type: ignore[misc]


class SoftLabels(OwnBatches):
    """Goes before a trainer whose batches have each pair's ``probability``."""

    def items_of_step(self: Any, batches: Sequence[dict[str, Any]], device: torch.device) -> int:
        count = sum(len(batch["probability"]) for batch in batches)
        return int(self.accelerator.gather(torch.tensor([count], device=device)).sum())

    def loss_of(
        self: Any,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        probability: torch.Tensor,
        num_items_in_batch: int,
    ) -> torch.Tensor:
        """The loss of a micro-batch's scores, in a step of so many pairs; logs accuracy and margin."""
        # The average is over micro-batches and processes: this one's weight is its share of the step's pairs.
        parts = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        weight = len(probability) * parts / num_items_in_batch
        margin = (chosen - rejected).detach()
        for name, value in (("accuracy", (margin > 0).float().mean()), ("margin", margin.mean())):
            add_metric(self, name, self.accelerator.gather(value * weight).mean().item())
        loss: torch.Tensor = self.pair_loss(chosen, rejected, probability) * weight
        return loss

    def pair_loss(
        self, chosen: torch.Tensor, rejected: torch.Tensor, probability: torch.Tensor
    ) -> torch.Tensor:
        """What is minimised, averaged over the pairs."""
        return soft_label_loss(chosen, rejected, probability)


def columns(logs: dict[str, float]) -> dict[str, float]:
    """Ours, of such a trainer's logs."""
    return {
        "loss": logs["loss"],
        "accuracy": logs["accuracy"],
        "margin": logs["margin"],
        "gradient_norm": logs["grad_norm"],
        "learning_rate": logs["learning_rate"],
    }
