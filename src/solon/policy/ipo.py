"""Identity preference optimisation on soft labels, by TRL (Azar et al. 2023, arXiv:2310.12036, equation 17).

As direct preference optimisation, but that the squared distance of the margin from its goal is least, so that
sure labels pull the policy no further than the goal. As in TRL, and by it in the paper's own experiments, an
answer's log-ratio to the reference is averaged over its tokens.
"""

from typing import Any

import torch

from solon.policy import dpo
from solon.policy.task import Task


def train(task: Task) -> dict[str, float]:
    """As ``dpo.train``, with its metrics; ``loss`` is in squared nats a token."""
    return dpo.train(task, SoftLabelIPO)


class SoftLabelIPO(dpo.SoftLabelDPO):
    def rewards(self, ratios: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        averaged: torch.Tensor = super().rewards(ratios / lengths, lengths)
        return averaged

    def pair_loss(
        self: Any, chosen: torch.Tensor, rejected: torch.Tensor, probability: torch.Tensor
    ) -> torch.Tensor:
        """p (d - 1/2b)^2 + (1 - p) (d + 1/2b)^2, averaged over the pairs, where b is beta (the paper's tau).

        d is the difference of the log-ratios and p the label: with p 1 the paper's loss, with p 0 that of the
        pair turned round. Its least value is at d = (2p - 1) / 2b. All arguments have shape (pairs,).
        """
        margin, goal = (chosen - rejected) / self.beta, 1 / (2 * self.beta)
        loss = probability * (margin - goal) ** 2 + (1 - probability) * (margin + goal) ** 2
        mean: torch.Tensor = loss.mean()
        return mean
