"""Group relative policy optimisation, by TRL: rewards to one prompt are compared with their group's.

As in its paper (Shao et al. 2024, arXiv:2402.03300, equations 3 and 4, section 4.1.2): an advantage is the
reward's distance from the group's mean in the group's deviations, each token has its ratio clipped, an
answer's loss is the mean over its tokens, and the KL penalty is in the loss, a token. (TRL's own default,
the loss of DAPO, takes the mean over all tokens of all answers.)
"""

from functools import partial
from typing import Any

from torch import Tensor
from trl import GRPOConfig

from solon.libraries.trl import GRPO, add_metric
from solon.policy import online, trl_trainers
from solon.policy.schedule import Schedule
from solon.policy.task import Task

Arguments = partial(GRPOConfig, loss_type="grpo", scale_rewards="group", importance_sampling_level="token")


class MeasuredGRPO(trl_trainers.OwnPolicy, GRPO):
    """GRPO with our sampler that logs the same KL estimate as RLOO and PPO.

    TRL logs the one inside its loss, per token.
    """

    def measure(self, logp: Tensor, ref_logp: Tensor, mask: Tensor) -> None:
        kl = online.sequence_kl(logp, ref_logp, mask)
        add_metric(self, "sequence_kl", self.accelerator.gather(kl).mean().item())

    def sequence_kl(self, logs: dict[str, float]) -> float:
        return logs["sequence_kl"]


def train(task: Task) -> dict[str, float]:
    return online.train(task, learn)


def learn(task: Task, policy: Any, schedule: Schedule, reward: online.Reward) -> dict[str, float]:
    return trl_trainers.learn(task, policy, schedule, reward, MeasuredGRPO, Arguments)
