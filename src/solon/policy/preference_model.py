"""The preference model as RL asks it: on the weights under the policy's adapters, where it is for these."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from peft import PeftModel

from solon import adapters, config, models, scoring_heads
from solon.adapter_folders import adapter_of
from solon.policy.rollouts import Rollout
from solon.policy.task import Task
from solon.prompts.dialogue import assistant
from solon.training import preference_scores, sharing, start


def preference_model(task: Task, policy: Any) -> Callable[[Sequence[str], Sequence[Rollout]], list[float]]:
    """The preference model's score of each answer, given with its prompt's id."""
    score = scoring(task, policy)
    asked = {record["id"]: record["prompt"] for record in task.records}

    def scores(prompts: Sequence[str], answers: Sequence[Rollout]) -> list[float]:
        return score(
            [
                [*asked[prompt], assistant(answer.text)]
                for prompt, answer in zip(prompts, answers, strict=True)
            ],
            task.settings.micro_batch_size,
            [answer.truncated for answer in answers],
        )

    return scores


def scoring(task: Task, policy: Any) -> Callable[..., list[float]]:
    """``score`` by the preference model.

    Where that is adapters on the weights under the policy's own, it has no others; it must be asked
    ``sharing.within`` the policy then.
    """
    name, settings = task.preference_model, task.settings
    assert name  # ``stages.reinforce`` sees to it
    tokenizer, folder = models.load_tokenizer(name), adapter_of(name)
    if not (folder and isinstance(policy, PeftModel) and on_one_base(name, task.policy)):
        own = sharing.beside(alone(name, settings))
        by_it = partial(preference_scores.score, own, tokenizer)
        return lambda *dialogues: sharing.within(own, partial(by_it, *dialogues))
    scorer = adapters.scorer_on(policy, folder)

    def score(*dialogues: Any) -> list[float]:
        scorer.score.to(scorer.device)  # where the policy has gone since
        with adapters.under(policy, adapters.SCORER):
            return preference_scores.score(scorer, tokenizer, *dialogues)

    return score


def alone(name: str, settings: config.Reinforce) -> Any:
    """The preference model on weights of its own, in the type of those under the policy's adapters.

    It gives the scores that it gives on these.
    """
    if settings.lora is None:
        return models.load_preference_model(name)
    dtype, in_4_bits = start.frozen(settings)
    if folder := adapter_of(name):
        base = models.load_preference_model(models.whole(name), dtype, in_4_bits=in_4_bits)
        return adapters.put(scoring_heads.in_float32(base), folder, "SEQ_CLS").get_base_model()
    if in_4_bits:
        return models.load_preference_model(name, dtype, in_4_bits=True)
    return scoring_heads.with_trunk_in(models.load_preference_model(name), dtype)


def on_one_base(one: str, other: str) -> bool:
    return models.resolve(models.whole(one)) == models.resolve(models.whole(other))
