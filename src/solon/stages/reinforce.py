"""Reinforcement learning against the preference model: the RL-CAI model (paper, section 4.2)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase, set_seed
from trl import GRPOConfig, RLOOConfig

from solon import config, models
from solon.errors import SolonError
from solon.libraries.trl import GRPO, RLOO, add_metric
from solon.policy.kept_policies import KeepPolicies
from solon.policy.length_control import LengthControl
from solon.policy.rollouts import SampleLog, Sampler
from solon.policy.sample_logprobs import SharedPrompts
from solon.progress import Progress
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE, neutral_messages, reserved
from solon.records import Message, PromptRecord
from solon.seeds import generator
from solon.stages import ppo
from solon.store.record_file import RecordFile
from solon.training import preference_scores, processes, setup, trainers
from solon.training.metrics import require_finite

# Dialogues that end in the policy's answer, and the step that sampled them, to one score each.
Reward = Callable[[Sequence[Sequence[Message]], int], list[float]]


def train(
    prompts: Sequence[PromptRecord],
    policy: str,
    preference_model: str,
    out: Path,
    settings: config.Reinforce,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    """Train ``policy`` to answer as the preference model likes, held to its start by a KL penalty.

    The model is saved to ``out``. The learning rate is constant. Called again after a kill, it goes on from
    the last checkpoint in ``out``. Returns the last step's metrics, and ``stopped_at_kl`` where that step's
    KL passed ``kl_limit`` and ended the training early. The metrics are the same for all three algorithms:

    - ``reward``: the preference model's score, without the penalty, averaged over the step's samples; under
      ``length_control`` without what it owes to their length;
    - ``kl``: from the policy to its start, nats a sequence: the log-ratio summed over an answer's tokens and
      averaged over samples from the policy as it was when it sampled them (unbiased, so it may be negative);
    - ``entropy``: of the next token, nats a token;
    - ``length``: of an answer, tokens;
    - ``clip_fraction``: share of the policy's ratios that the clip holds back (whole answers in RLOO, tokens
      in GRPO and PPO);
    - ``loss`` and ``learning_rate``.

    What was sampled, with its score, goes to ``samples.jsonl`` in ``out``, and the policies of some of its
    steps to folders there (``kept_policies``). Answers are sampled in the
    engine's number type, as a copy of the policy. All three take the same prompts in the same order. Adapters
    are trained without dropout, which would make the policy that learns another than the one that sampled.

    Raises SolonError where too few prompts fit ``max_prompt_length``, or a loss or reward is not finite.
    """
    setup.settle_libraries()
    model = models.load_preference_model(preference_model).to(models.best_device())
    judge_tokenizer = models.load_tokenizer(preference_model)
    tokenizer = models.load_tokenizer(policy)

    samples = SampleLog(out, prompts, tokenizer) if processes.is_first() else None
    length = LengthControl(RecordFile(out / "samples.jsonl")) if settings.length_control else None

    def reward(dialogues: Sequence[Sequence[Message]], step: int) -> list[float]:
        if tokenizer.chat_template == HUMAN_ASSISTANT_TEMPLATE:
            dialogues = [without_opening_space(dialogue) for dialogue in dialogues]
        scores = preference_scores.score(model, judge_tokenizer, dialogues, settings.micro_batch_size)
        require_finite("reward", scores, step)
        of_all = gather_object(list(zip(dialogues, scores, strict=True)))  # those of all processes, in order
        if samples:
            samples.append(step, *zip(*of_all, strict=True))
        if length:
            first = processes.process() * len(scores)
            scores = length.controlled(step, *zip(*of_all, strict=True))[first : first + len(scores)]
        return scores

    schedule = prompts_by_step(within_length(prompts, tokenizer, settings), settings, seed)
    algorithm = ppo.train if settings.algorithm == "ppo" else _train_with_trl
    metrics = algorithm(schedule, policy, reward, out, settings, seed, progress)
    if metrics["kl"] > settings.kl_limit:
        metrics["stopped_at_kl"] = metrics["kl"]
    return metrics


def within_length(
    prompts: Sequence[PromptRecord], tokenizer: PreTrainedTokenizerBase, settings: config.Reinforce
) -> list[list[Message]]:
    """The prompts of at most ``max_prompt_length`` tokens, as engines see them.

    Raises SolonError where they fill no step.
    """
    forms = reserved(tokenizer)
    asked = [neutral_messages(record["prompt"], forms) for record in prompts]
    fitting = [
        prompt
        for prompt in asked
        if len(
            tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        )
        <= settings.max_prompt_length
    ]
    if len(fitting) < settings.prompts_per_step:
        raise SolonError(
            f"{len(fitting)} of {len(prompts)} prompts are at most max_prompt_length "
            f"({settings.max_prompt_length}) tokens long, but a step takes prompts_per_step "
            f"({settings.prompts_per_step}): give more prompts or change one of the two"
        )
    return fitting


def prompts_by_step(
    prompts: Sequence[list[Message]], settings: config.Reinforce, seed: int
) -> list[list[list[Message]]]:
    """Each step's prompts: an epoch takes all in a random order, except a rest that does not fill a step."""
    size = settings.prompts_per_step
    steps: list[list[list[Message]]] = []
    for epoch in range(settings.steps):
        order = generator(seed, "reinforce", "epoch", epoch).sample(range(len(prompts)), len(prompts))
        steps += [
            [prompts[index] for index in order[start : start + size]]
            for start in range(0, len(prompts) - size + 1, size)
        ]
        if len(steps) >= settings.steps:
            break
    return steps[: settings.steps]


def without_opening_space(dialogue: Sequence[Message]) -> list[Message]:
    """The dialogue as it is written elsewhere: the space after "Assistant:" belongs to the format."""
    *before, answer = dialogue
    return [*before, {"role": "assistant", "content": answer["content"].removeprefix(" ")}]


def _train_with_trl(
    schedule: Sequence[Sequence[list[Message]]],
    policy: str,
    reward: Reward,
    out: Path,
    settings: config.Reinforce,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    passes = settings.epochs_per_step

    def trl_reward(
        prompts: list[Any], completions: list[Any], trainer_state: Any, **_: Any
    ) -> list[float | None]:
        scores = reward(
            [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)],
            trainer_state.global_step // passes + 1,
        )
        return list(scores)

    settings_of, trainer_of = {"rloo": (RLOOConfig, MeasuredRLOO), "grpo": (GRPOConfig, MeasuredGRPO)}[
        settings.algorithm
    ]
    sequences = settings.prompts_per_step * settings.samples_per_prompt
    arguments = setup.common_arguments(out, seed, sequences, settings.micro_batch_size, settings.report_to)
    tokenizer = models.load_tokenizer(policy)
    rows = [{"prompt": prompt} for step in schedule for prompt in step]
    dataset = setup.conversational(rows, tokenizer, "prompt")
    set_seed(seed)
    trainer: Any = trainer_of(
        model=models.load_model(policy),
        reward_funcs=trl_reward,
        args=settings_of(
            **{**arguments, "logging_steps": passes},
            max_steps=settings.steps * passes,
            shuffle_dataset=False,  # TRL's shuffle begins anew where a killed run goes on
            save_steps=settings.save_steps * passes,  # never between two passes over the same samples
            num_iterations=passes,
            num_generations=settings.samples_per_prompt,
            max_completion_length=settings.max_tokens,
            temperature=settings.temperature,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="constant",
            epsilon=settings.clip_range,
            disable_dropout=True,
            # At 0 TRL drops the reference, and with it the measure of KL; this penalty is lost in rounding.
            beta=settings.kl_coefficient or 1e-30,
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=setup.lora_config(settings.lora, "CAUSAL_LM"),
    )
    trainer.sampler = Sampler(policy, settings, seed)
    trainer.add_callback(KeepPolicies(trainer, settings, out))
    with trainer.shared_prompts():
        return trainers.run(trainer, tokenizer, out, _columns, progress, passes, settings.kl_limit)


class OwnPolicy(trainers.Discreet, SharedPrompts):
    """Goes before a TRL trainer of RL: our sampler answers."""

    def answers(self: Any, prompts: list[list[int]]) -> list[list[int]]:
        answers: list[list[int]] = self.sampler.sample(
            self.accelerator.unwrap_model(self.model),
            prompts,
            self.state.global_step,
            self.accelerator.process_index,
        )
        return answers


class MeasuredRLOO(OwnPolicy, RLOO):
    """TRL's trainer with our sampler; its KL is the mean over all tokens of all answers."""


class MeasuredGRPO(OwnPolicy, GRPO):
    """GRPO with our sampler that logs the same KL estimate as RLOO and PPO.

    TRL logs the one inside its loss, per token.
    """

    def measure(self, logp: torch.Tensor, ref_logp: torch.Tensor, mask: torch.Tensor) -> None:
        kl = ppo.sequence_kl(logp, ref_logp, mask)
        add_metric(self, "sequence_kl", self.accelerator.gather(kl).mean().item())


def _columns(logs: dict[str, float]) -> dict[str, float]:
    length = logs["completions/mean_length"]
    return {
        "reward": logs["reward"],
        # RLOO logs the mean over all tokens of all answers: times the mean length, the mean over answers.
        "kl": logs["sequence_kl"] if "sequence_kl" in logs else logs["kl"] * length,
        "entropy": logs["entropy"],
        "length": length,
        "clip_fraction": logs["clip_ratio/region_mean"],
        "loss": logs["loss"],
        "learning_rate": logs["learning_rate"],
    }
