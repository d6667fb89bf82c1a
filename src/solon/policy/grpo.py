"""Group relative policy optimisation, by TRL: rewards to one prompt are compared with their group's."""

from torch import Tensor
from trl import GRPOConfig

from solon.libraries.trl import GRPO, add_metric
from solon.policy import online, trl_trainers
from solon.policy.schedule import Schedule
from solon.policy.task import Task


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


def learn(task: Task, schedule: Schedule, reward: online.Reward) -> dict[str, float]:
    return trl_trainers.learn(task, schedule, reward, MeasuredGRPO, GRPOConfig)
