"""What is made good for a sampler whose probabilities are not quite those of the policy that learns.

Both have the same weights, but an engine rounds otherwise than a training does, so its answers are not quite
the policy's own. As in importance sampling a token counts in the ratio of the two probabilities, token by
token, since an answer's product of ratios would vary the more the longer it is, and no more than a cap allows
(Ionides 2008, "Truncated importance sampling"; in RL Espeholt et al. 2018, arXiv:1802.01561, section 4.1; for
samplers of language models Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL
training", fengyao.notion.site/off-policy-rl).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from solon.policy.rollouts import Rollout


def sampled_logprobs(rollouts: Sequence[Rollout], width: int) -> Tensor:
    """[answers, width]: what tokens were drawn with, nats; NaN after an answer, and where it is not told."""
    table = torch.full((len(rollouts), width), torch.nan)
    for row, rollout in zip(table, rollouts, strict=True):
        row[: len(rollout.logprobs)] = torch.tensor(rollout.logprobs)
    return table


def gap(logp: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
    """How far log-probabilities are apart: the sum of distances over tokens, nats, and how many these are.

    ``logp`` are the policy's as it is trained, and ``sampled`` the sampler's, both [sequences, tokens].
    """
    distances = (logp - sampled).abs()
    return distances.nansum(), distances.isfinite().sum()


def weights(logp: Tensor, sampled: Tensor, cap: float | None) -> Tensor:
    """How often each token counts, of the shape of both; once where ``cap`` is None, or nothing is known."""
    if cap is None:
        return torch.ones_like(logp)
    return (logp - sampled).exp().clamp(max=cap).nan_to_num(1.0)
