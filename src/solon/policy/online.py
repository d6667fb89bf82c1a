"""What all ways share that learn from answers the policy samples: their prompts, rewards, and records."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from accelerate.utils import gather_object
from torch import Tensor

from solon import config, models
from solon.policy.length_control import LengthControl
from solon.policy.rollouts import Rollout
from solon.policy.sample_log import SampleLog
from solon.policy.schedule import Schedule, prompts_by_step, within_length
from solon.policy.task import Task
from solon.prompts.dialogue import assistant
from solon.store.record_file import RecordFile
from solon.training import preference_scores
from solon.training.metrics import past_limit
from solon.training.processes import is_first, process

# Prompts' ids, the policy's answers to them, and the step that sampled these, to one score each. In several
# processes each gives its share of the step's, and all ask together.
Reward = Callable[[Sequence[str], Sequence[Rollout], int], list[float]]

# Trains the task's policy on each step's prompts by their answers' rewards; returns the last step's metrics.
Learn = Callable[[Task, Schedule, Reward], dict[str, float]]


def train(task: Task, learn: Learn) -> dict[str, float]:
    """Have ``learn`` train the policy. See ``stages.reinforce.train`` for what is left and returned."""
    tokenizer = models.load_tokenizer(task.policy, role=task.role)
    assert task.preference_model  # ``stages.reinforce`` sees to it
    models.check(task.preference_model)  # refuses one that may only measure before prompts are counted
    prompts = within_length(task.records, tokenizer, task.settings, task.role.system)
    schedule = prompts_by_step(prompts, task.settings, task.seed)
    task = replace(task, left_out=len(task.records) - len(prompts))
    metrics = learn(task, schedule, rewards(task))
    if past_limit(metrics, task.settings.kl_limit):
        metrics["stopped_at_kl"] = metrics["kl"]
    return metrics


def rewards(task: Task) -> Reward:
    """What the policy learns from its answers to the task's prompts.

    That is the preference model's score, which goes to ``samples.jsonl``: under ``length_control`` corrected,
    and of an answer that was cut off less the ``truncation_penalty`` where ``truncated`` is "penalty".
    """
    settings = task.settings
    assert task.preference_model
    model = models.load_preference_model(task.preference_model).to(models.best_device())
    judge_tokenizer = models.load_tokenizer(task.preference_model)
    samples = SampleLog(task.out, task.records) if is_first() else None
    length = LengthControl(RecordFile(task.out / "samples.jsonl")) if settings.length_control else None
    asked = {record["id"]: record["prompt"] for record in task.records}

    def reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
        scores = preference_scores.score(
            model,
            judge_tokenizer,
            [
                [*asked[prompt], assistant(answer.text)]
                for prompt, answer in zip(prompts, answers, strict=True)
            ],
            settings.micro_batch_size,
            [answer.truncated for answer in answers],
        )
        # Of all processes, in order.
        of_all = list(zip(*gather_object(list(zip(prompts, answers, scores, strict=True))), strict=True))
        if samples:
            samples.append(step, *of_all)
        if length:
            first = process() * len(scores)
            texts = [answer.text for answer in of_all[1]]
            scores = length.controlled(step, of_all[0], texts, of_all[2])[first : first + len(scores)]
        return [
            score - truncation_penalty(answer, settings)
            for score, answer in zip(scores, answers, strict=True)
        ]

    return reward


def truncation_penalty(answer: Rollout, settings: config.Reinforce) -> float:
    """What an answer's reward loses for having been cut off."""
    return settings.truncation_penalty if answer.truncated and settings.truncated == "penalty" else 0.0


def learned(answers: Sequence[Rollout], settings: config.Reinforce) -> list[bool]:
    """From which answers the policy learns; the others have a part in what they are compared with alone."""
    return [not (answer.truncated and settings.truncated == "mask") for answer in answers]


def sequence_kl(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    """Each answer's log-ratio of policy to reference, nats: over the policy's samples its mean is the KL.

    Arguments have shape (sequences, length), the result (sequences,).
    """
    return ((logp - ref_logp) * mask).sum(1)
