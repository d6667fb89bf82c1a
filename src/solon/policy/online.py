"""What all ways share that learn from answers the policy samples: their prompts, rewards, and records."""

from collections.abc import Callable, Sequence
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor

from solon import models
from solon.policy.length_control import LengthControl
from solon.policy.sample_log import SampleLog
from solon.policy.schedule import Schedule, prompts_by_step, within_length
from solon.policy.task import Task
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE
from solon.records import Message
from solon.store.record_file import RecordFile
from solon.training import preference_scores
from solon.training.metrics import past_limit, require_finite
from solon.training.processes import is_first, process

# Prompts' ids, the dialogues that end in the policy's answers to them, and the step that sampled these, to
# one score each. In several processes each gives its share of the step's, and all ask together.
Reward = Callable[[Sequence[str], Sequence[Sequence[Message]], int], list[float]]

# Trains the task's policy on each step's prompts by their answers' rewards; returns the last step's metrics.
Learn = Callable[[Task, Schedule, Reward], dict[str, float]]


def train(task: Task, learn: Learn) -> dict[str, float]:
    """Have ``learn`` train the policy. See ``stages.reinforce.train`` for what is left and returned."""
    tokenizer = models.load_tokenizer(task.policy)
    reward = rewards(task, tokenizer)
    schedule = prompts_by_step(
        within_length(task.records, tokenizer, task.settings), task.settings, task.seed
    )
    metrics = learn(task, schedule, reward)
    if past_limit(metrics, task.settings.kl_limit):
        metrics["stopped_at_kl"] = metrics["kl"]
    return metrics


def rewards(task: Task, tokenizer: Any) -> Reward:
    """The preference model's scores, which go to ``samples.jsonl``, under ``length_control`` corrected."""
    model = models.load_preference_model(task.preference_model).to(models.best_device())
    judge_tokenizer = models.load_tokenizer(task.preference_model)
    samples = SampleLog(task.out, task.records) if is_first() else None
    length = LengthControl(RecordFile(task.out / "samples.jsonl")) if task.settings.length_control else None

    def reward(prompts: Sequence[str], dialogues: Sequence[Sequence[Message]], step: int) -> list[float]:
        if tokenizer.chat_template == HUMAN_ASSISTANT_TEMPLATE:
            dialogues = [without_opening_space(dialogue) for dialogue in dialogues]
        scores = preference_scores.score(model, judge_tokenizer, dialogues, task.settings.micro_batch_size)
        require_finite("reward", scores, step)
        of_all = gather_object(
            list(zip(prompts, dialogues, scores, strict=True))
        )  # of all processes, in order
        if samples:
            samples.append(step, *zip(*of_all, strict=True))
        if length:
            first = process() * len(scores)
            scores = length.controlled(step, *list(zip(*of_all, strict=True))[1:])[
                first : first + len(scores)
            ]
        return scores

    return reward


def without_opening_space(dialogue: Sequence[Message]) -> list[Message]:
    """The dialogue as it is written elsewhere: the space after "Assistant:" belongs to the format."""
    *before, answer = dialogue
    return [*before, {"role": "assistant", "content": answer["content"].removeprefix(" ")}]


def sequence_kl(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    """Each answer's log-ratio of policy to reference, nats: over the policy's samples its mean is the KL.

    Arguments have shape (sequences, length), the result (sequences,).
    """
    return ((logp - ref_logp) * mask).sum(1)
