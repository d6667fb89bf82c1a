"""What the algorithms share that TRL's trainers do: Solon samples, scores and measures in them."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from solon import config, models, trackers
from solon.adapter_folders import adapter_of
from solon.libraries.transformers import tensorboard_of
from solon.libraries.trl import (
    add_metric,
    references_by,
    settle_heads,
    without_copy,
    without_router_loss,
)
from solon.policy import importance
from solon.policy.kept_policies import KeepPolicies
from solon.policy.online import Reward, learned
from solon.policy.rollouts import Rollout
from solon.policy.sample_logprobs import SharedPrompts
from solon.policy.samplers import open_sampler
from solon.policy.schedule import Schedule
from solon.policy.task import Task
from solon.training import setup, sharing, trainers


class OwnPolicy(trainers.Discreet, SharedPrompts):
    """Goes before a TRL trainer of RL: our sampler answers."""

    rl: config.Reinforce
    sampled: list[Rollout]  # this process's answers of the step

    def answers(self: Any, prompts: list[list[int]]) -> list[list[int]]:
        self.sampled = self.sampler.sample(
            self.accelerator.unwrap_model(self.model),
            prompts,
            self.state.global_step,
            self.accelerator.process_index,
        )
        truncated = torch.tensor(
            [float(answer.truncated) for answer in self.sampled], device=self.accelerator.device
        )
        add_metric(self, "truncated", self.accelerator.gather(truncated).mean().item())
        return [answer.tokens for answer in self.sampled]

    def beside(self, width: int) -> dict[str, torch.Tensor]:
        return {
            "learned": torch.tensor(learned(self.sampled, self.rl), dtype=torch.float32)[:, None],
            "sampled_logprobs": importance.sampled_logprobs(self.sampled, width),
        }

    def shares(self: Any, logprobs: torch.Tensor, micro_batch: dict[str, Any]) -> torch.Tensor:
        if "shares" not in micro_batch:  # in the first pass, with the policy that was sampled from
            sampled = micro_batch["sampled_logprobs"]
            figures = torch.stack(importance.gap(logprobs, sampled)).float()
            total, count = self.accelerator.reduce(figures, "sum").tolist()
            add_metric(self, "sampler_gap", total)
            add_metric(self, "sampled_tokens", count)
            weights = importance.weights(logprobs, sampled, self.rl.importance_cap)
            micro_batch["shares"] = micro_batch["learned"] * weights
        shares: torch.Tensor = micro_batch["shares"]
        return shares

    def sequence_kl(self, logs: dict[str, float]) -> float:
        """The mean over answers of their log-ratio to the reference, nats, from the trainer's logs."""
        raise NotImplementedError

    def columns(self, logs: dict[str, float]) -> dict[str, float]:
        """Ours, of the trainer's logs."""
        return {
            "reward": logs["reward"],
            "kl": self.sequence_kl(logs),
            "entropy": logs["entropy"],
            "length": logs["completions/mean_length"],
            "truncated": logs["truncated"],
            "clip_fraction": logs["clip_ratio/region_mean"],
            "sampler_gap": logs["sampler_gap"] / max(logs["sampled_tokens"], 1),
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
        }


class SendSamples(TrainerCallback):  # type: ignore[misc]
    """Sends tables of samples to where the trainer sends its metrics."""

    def __init__(self, trainer: Any, settings: config.Reinforce, out: Path) -> None:
        self.passes = settings.epochs_per_step
        writer = partial(tensorboard_of, trainer)
        self.tables = trackers.SampleTables(settings.report_to, out, settings.steps, writer)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero and state.global_step % self.passes == 0:
            self.tables.send(state.global_step // self.passes)


def learn(
    task: Task, policy: Any, schedule: Schedule, reward: Reward, trainer_of: Any, arguments_of: Any
) -> dict[str, float]:
    """Train by a TRL trainer after ``OwnPolicy``, given with the class of its arguments."""
    settings, out = task.settings, task.out
    passes = settings.epochs_per_step

    def trl_reward(id: list[str], trainer_state: Any, **_: Any) -> list[float | None]:
        step = trainer_state.global_step // passes + 1
        trained = trainer.accelerator.unwrap_model(trainer.model)
        return list(sharing.within(trained, partial(reward, id, trainer.sampled, step)))

    arguments = setup.common_arguments(
        out, task.seed, *settings.per_step, settings.report_to, settings.optimizer
    )
    tokenizer = models.load_tokenizer(task.policy, role=task.role)
    rows = [record for step in schedule for record in step]
    dataset = setup.conversational(rows, tokenizer, "id", "prompt")
    with references_by(sharing.beside):
        trainer: Any = trainer_of(
            model=policy,
            reward_funcs=trl_reward,
            args=arguments_of(
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
                disable_dropout=True,  # of adapters too: the policy that sampled has none
                # At 0 TRL drops the reference, and with it the measure of KL; this is lost in rounding.
                beta=settings.kl_coefficient or 1e-30,
            ),
            train_dataset=dataset,
            processing_class=tokenizer,
            quantization_config=models.unpacking(task.policy),  # for the reference, which TRL loads
        )
    if not adapter_of(task.policy):
        without_copy(trainer)
    without_router_loss(trainer)
    settle_heads(trainer, settings.temperature)
    trainer.rl, trainer.sampler = settings, open_sampler(task, policy)
    trainer.add_callback(KeepPolicies(trainer, settings, out))
    trainer.add_callback(SendSamples(trainer, settings, out))
    with closing(trainer.sampler), trainer.shared_prompts():
        return trainers.run(
            trainer,
            tokenizer,
            out,
            trainer.columns,
            task.progress,
            passes,
            settings.kl_limit,
            {"left_out": task.left_out},
        )
