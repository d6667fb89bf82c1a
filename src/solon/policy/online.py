"""What all ways share that learn from answers the policy samples: their prompts, rewards, and records."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor
from transformers import set_seed

from solon import config, models
from solon.policy.length_control import LengthControl
from solon.policy.preference_model import preference_model
from solon.policy.rewards import SumOfRewards
from solon.policy.rollouts import Rollout
from solon.policy.sample_log import SampleLog
from solon.policy.schedule import Schedule, length, prompts_by_step, within_length
from solon.policy.task import Task
from solon.store.record_file import RecordFile
from solon.training import activations, start
from solon.training.metrics import past_limit
from solon.training.processes import FromFirst, is_first, process

# Prompts' ids, the policy's answers to them, and the step that sampled these, to one score each. In several
# processes each gives its share of the step's, and all ask together.
Reward = Callable[[Sequence[str], Sequence[Rollout], int], list[float]]

# Prompts' ids and the policy's answers to them to the preference model's scores of these.
Scores = Callable[[Sequence[str], Sequence[Rollout]], list[float]]

# Trains the policy on each step's prompts by their answers' rewards; returns the last step's metrics.
Learn = Callable[[Task, Any, Schedule, Reward], dict[str, float]]


def train(task: Task, learn: Learn) -> dict[str, float]:
    """Have ``learn`` train the policy. See ``stages.reinforce.train`` for what is left and returned."""
    tokenizer = models.load_tokenizer(task.policy, role=task.role)
    if task.preference_model:
        models.check(task.preference_model)  # refuses one that may only measure before prompts are counted
    prompts = within_length(task.records, tokenizer, task.settings, task.role.system)
    schedule = prompts_by_step(prompts, task.settings, task.seed)
    task = replace(task, left_out=len(task.records) - len(prompts))
    set_seed(task.seed)  # adapters start at random
    policy = start.policy(task.policy, task.settings, task.mark)
    _settle_activations(policy, task.settings, max(length(record, tokenizer) for record in prompts))
    scores_of = preference_model(task, policy) if task.settings.needs_preference_model else None
    with rewards(task, scores_of) as reward:
        metrics = learn(task, policy, schedule, reward)
    if past_limit(metrics, task.settings.kl_limit):
        metrics["stopped_at_kl"] = metrics["kl"]
    return metrics


def _settle_activations(policy: Any, settings: config.Reinforce, prompt: int) -> None:
    """For answers to prompts of at most so many tokens. Without adapters two models more are in memory."""
    tokens = settings.per_step[1] * (prompt + settings.max_tokens)
    activations.settle(policy, settings, tokens, copies=0 if settings.lora else 2)


@contextmanager
def rewards(task: Task, scores_of: Scores | None) -> Iterator[Reward]:
    """What the policy learns from its answers to the task's prompts, while it trains.

    That is ``reinforce.reward``, which goes to ``samples.jsonl``: under ``length_control`` corrected, and of
    an answer that was cut off less the ``truncation_penalty`` where ``truncated`` is "penalty".
    """
    settings = task.settings
    samples = SampleLog(task.out, task.records) if is_first() else None
    length = LengthControl(RecordFile(task.out / "samples.jsonl")) if settings.length_control else None
    summed = SumOfRewards(task, samples) if samples and settings.sums_rewards else None
    share_out = FromFirst()

    def reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
        scores = scores_of(prompts, answers) if scores_of else [0.0] * len(answers)
        # Of all processes, in order.
        of_all = list(zip(*gather_object(list(zip(prompts, answers, scores, strict=True))), strict=True))
        first = process() * len(scores)
        if settings.sums_rewards:
            given = share_out(summed(step, *of_all) if summed else [])
            of_all[2] = tuple(each.reward for each in given)
            for answer, each in zip(answers, given[first:], strict=False):
                answer.rated = each.rated
        elif samples:
            samples.append(step, *of_all)
        scores = list(of_all[2][first : first + len(scores)])
        if length:
            texts = [answer.text for answer in of_all[1]]
            scores = length.controlled(step, of_all[0], texts, of_all[2])[first : first + len(scores)]
        return [
            score - truncation_penalty(answer, settings)
            for score, answer in zip(scores, answers, strict=True)
        ]

    with closing(summed) if summed else nullcontext():
        yield reward


def truncation_penalty(answer: Rollout, settings: config.Reinforce) -> float:
    """What an answer's reward loses for having been cut off."""
    return settings.truncation_penalty if answer.truncated and settings.truncated == "penalty" else 0.0


def learned(answers: Sequence[Rollout], settings: config.Reinforce) -> list[bool]:
    """From which answers the policy learns; the others have a part in what they are compared with alone."""
    return [answer.rated and not (answer.truncated and settings.truncated == "mask") for answer in answers]


def sequence_kl(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    """Each answer's log-ratio of policy to reference, nats: over the policy's samples its mean is the KL.

    Arguments have shape (sequences, length), the result (sequences,).
    """
    return ((logp - ref_logp) * mask).sum(1)
