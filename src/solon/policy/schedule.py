"""Which prompts come in which step: for every algorithm the same."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from solon import config
from solon.errors import SolonError
from solon.prompts.template_turns import TemplateTurns
from solon.records import PromptRecord
from solon.seeds import generator

Schedule = Sequence[Sequence[PromptRecord]]  # each step's prompts, as engines see them


def within_length(
    prompts: Sequence[PromptRecord],
    tokenizer: PreTrainedTokenizerBase,
    settings: config.Reinforce,
    system: str | None = None,
) -> list[PromptRecord]:
    """The prompts of at most ``max_prompt_length`` tokens, as engines see them after the text ``system``.

    Raises SolonError where they fill no step.
    """
    turns = TemplateTurns(tokenizer)
    asked: list[PromptRecord] = [
        {**record, "prompt": turns(record["prompt"], system or "")} for record in prompts
    ]
    fitting = [record for record in asked if length(record, tokenizer) <= settings.max_prompt_length]
    if len(fitting) < settings.prompts_per_step:
        raise SolonError(
            f"{len(fitting)} of {len(prompts)} prompts are at most max_prompt_length "
            f"({settings.max_prompt_length}) tokens long, but a step takes prompts_per_step "
            f"({settings.prompts_per_step}): give more prompts or change one of the two"
        )
    return fitting


def length(record: PromptRecord, tokenizer: PreTrainedTokenizerBase) -> int:
    """The prompt's tokens, as engines see it."""
    tokens = tokenizer.apply_chat_template(record["prompt"], add_generation_prompt=True, return_dict=True)
    return len(tokens["input_ids"])


def prompts_by_step(
    prompts: Sequence[PromptRecord], settings: config.Reinforce, seed: int
) -> list[list[PromptRecord]]:
    """Each step's prompts: an epoch takes all in a random order, except a rest that does not fill a step."""
    size = settings.prompts_per_step
    steps: list[list[PromptRecord]] = []
    for epoch in range(settings.steps):
        order = generator(seed, "reinforce", "epoch", epoch).sample(range(len(prompts)), len(prompts))
        steps += [
            [prompts[index] for index in order[start : start + size]]
            for start in range(0, len(prompts) - size + 1, size)
        ]
        if len(steps) >= settings.steps:
            break
    return steps[: settings.steps]
