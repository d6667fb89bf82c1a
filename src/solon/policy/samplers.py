"""Which sampler answers in RL."""

from typing import Any

from solon.inference import naming_vllm
from solon.policy.rollouts import AnySampler, Sampler
from solon.policy.task import Task


def open_sampler(task: Task, model: Any) -> AnySampler:
    """For the ``model`` that is trained vLLM where ``engine.kind`` says so, else Solon's own engine.

    Raises SolonError where it cannot be opened.
    """
    if task.engine.kind == "vllm":
        with naming_vllm():
            from solon.policy.vllm_sampler import VLLMSampler
        return VLLMSampler(task)
    return Sampler(task.policy, task.settings, task.seed, task.role, model)
