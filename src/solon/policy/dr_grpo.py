"""GRPO without its two biases, by TRL (Liu et al. 2025, arXiv:2503.20783, section 3.2).

GRPO divides an answer's advantage by its group's deviation, so that prompts with nearly equal rewards count
most, and its loss by its length, so that long answers which are bad are corrected least. Here an advantage is
the reward less the group's mean, and all answers' tokens are divided by one constant, ``max_tokens``.
"""

from functools import partial
from typing import Any

from trl import GRPOConfig

from solon.policy import online, trl_trainers
from solon.policy.grpo import MeasuredGRPO
from solon.policy.schedule import Schedule
from solon.policy.task import Task

Arguments = partial(GRPOConfig, loss_type="dr_grpo", scale_rewards="none", importance_sampling_level="token")


def train(task: Task) -> dict[str, float]:
    return online.train(task, learn)


def learn(task: Task, policy: Any, schedule: Schedule, reward: online.Reward) -> dict[str, float]:
    return trl_trainers.learn(task, policy, schedule, reward, MeasuredGRPO, Arguments)
