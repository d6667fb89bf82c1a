"""REINFORCE leave-one-out, by TRL: a reward counts as far as it is above the mean of the prompt's others.

As in its paper (Ahmadian et al. 2024, arXiv:2402.14740, section 3.2): an answer is one action, and the KL
penalty is in its reward. TRL clips the answer's ratio too, which acts only where a step has several passes.
"""

from functools import partial
from typing import Any

from trl import RLOOConfig

from solon.libraries.trl import RLOO
from solon.policy import online, trl_trainers
from solon.policy.schedule import Schedule
from solon.policy.task import Task

Arguments = partial(RLOOConfig, normalize_advantages=False, reward_clip_range=None)


class MeasuredRLOO(trl_trainers.OwnPolicy, RLOO):
    """TRL's trainer with our sampler. It logs the KL's mean over all tokens of all answers."""

    def sequence_kl(self, logs: dict[str, float]) -> float:
        return logs["kl"] * logs["completions/mean_length"]


def train(task: Task) -> dict[str, float]:
    return online.train(task, learn)


def learn(task: Task, policy: Any, schedule: Schedule, reward: online.Reward) -> dict[str, float]:
    return trl_trainers.learn(task, policy, schedule, reward, MeasuredRLOO, Arguments)
