"""What all ways share that learn from answers the policy samples: their prompts, rewards, and records."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from accelerate.utils import gather_object
from peft import PeftModel
from torch import Tensor
from transformers import set_seed

from solon import adapters, config, models, scoring_heads
from solon.adapter_folders import adapter_of
from solon.policy.length_control import LengthControl
from solon.policy.rollouts import Rollout
from solon.policy.sample_log import SampleLog
from solon.policy.schedule import Schedule, prompts_by_step, within_length
from solon.policy.task import Task
from solon.prompts.dialogue import assistant
from solon.store.record_file import RecordFile
from solon.training import preference_scores, start
from solon.training.metrics import past_limit
from solon.training.processes import is_first, process

# Prompts' ids, the policy's answers to them, and the step that sampled these, to one score each. In several
# processes each gives its share of the step's, and all ask together.
Reward = Callable[[Sequence[str], Sequence[Rollout], int], list[float]]

# Trains the policy on each step's prompts by their answers' rewards; returns the last step's metrics.
Learn = Callable[[Task, Any, Schedule, Reward], dict[str, float]]


def train(task: Task, learn: Learn) -> dict[str, float]:
    """Have ``learn`` train the policy. See ``stages.reinforce.train`` for what is left and returned."""
    tokenizer = models.load_tokenizer(task.policy, role=task.role)
    assert task.preference_model  # ``stages.reinforce`` sees to it
    models.check(task.preference_model)  # refuses one that may only measure before prompts are counted
    prompts = within_length(task.records, tokenizer, task.settings, task.role.system)
    schedule = prompts_by_step(prompts, task.settings, task.seed)
    task = replace(task, left_out=len(task.records) - len(prompts))
    set_seed(task.seed)  # adapters start at random
    policy = start.policy(task.policy, task.settings, task.mark)
    metrics = learn(task, policy, schedule, rewards(task, scoring(task, policy)))
    if past_limit(metrics, task.settings.kl_limit):
        metrics["stopped_at_kl"] = metrics["kl"]
    return metrics


def scoring(task: Task, policy: Any) -> Callable[..., list[float]]:
    """``score`` by the preference model.

    Where that is adapters on the weights under the policy's own, it has no others.
    """
    name, settings = task.preference_model, task.settings
    assert name
    tokenizer, folder = models.load_tokenizer(name), adapter_of(name)
    if not (folder and isinstance(policy, PeftModel) and on_one_base(name, task.policy)):
        return partial(preference_scores.score, _own(name, settings).to(models.best_device()), tokenizer)
    scorer = adapters.scorer_on(policy, folder)

    def score(*dialogues: Any) -> list[float]:
        scorer.score.to(scorer.device)  # where the policy has gone since
        with adapters.under(policy, adapters.SCORER):
            return preference_scores.score(scorer, tokenizer, *dialogues)

    return score


def _own(name: str, settings: config.Reinforce) -> Any:
    """The preference model with weights of its own, held as those under the policy's adapters."""
    if settings.lora is None:
        return models.load_preference_model(name)
    dtype, in_4_bits = start.frozen(settings)
    if in_4_bits:
        return models.load_preference_model(name, dtype, in_4_bits=True)
    return scoring_heads.with_trunk_in(models.load_preference_model(name), dtype)


def on_one_base(one: str, other: str) -> bool:
    return models.resolve(models.whole(one)) == models.resolve(models.whole(other))


def rewards(task: Task, score: Callable[..., list[float]]) -> Reward:
    """What the policy learns from its answers to the task's prompts.

    That is the preference model's score, which goes to ``samples.jsonl``: under ``length_control`` corrected,
    and of an answer that was cut off less the ``truncation_penalty`` where ``truncated`` is "penalty".
    """
    settings = task.settings
    samples = SampleLog(task.out, task.records) if is_first() else None
    length = LengthControl(RecordFile(task.out / "samples.jsonl")) if settings.length_control else None
    asked = {record["id"]: record["prompt"] for record in task.records}

    def reward(prompts: Sequence[str], answers: Sequence[Rollout], step: int) -> list[float]:
        scores = score(
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
