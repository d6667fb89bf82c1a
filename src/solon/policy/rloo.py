"""REINFORCE leave-one-out, by TRL: a reward counts as far as it is above the mean of the prompt's others."""

from trl import RLOOConfig

from solon.libraries.trl import RLOO
from solon.policy import online, trl_trainers
from solon.policy.schedule import Schedule
from solon.policy.task import Task


class MeasuredRLOO(trl_trainers.OwnPolicy, RLOO):
    """TRL's trainer with our sampler. It logs the KL's mean over all tokens of all answers."""

    def sequence_kl(self, logs: dict[str, float]) -> float:
        return logs["kl"] * logs["completions/mean_length"]


def train(task: Task) -> dict[str, float]:
    return online.train(task, learn)


def learn(task: Task, schedule: Schedule, reward: online.Reward) -> dict[str, float]:
    return trl_trainers.learn(task, schedule, reward, MeasuredRLOO, RLOOConfig)
