"""What the algorithms share that TRL's trainers do: Solon samples, scores and measures in them."""

from typing import Any

from transformers import set_seed

from solon import marks, models
from solon.policy.kept_policies import KeepPolicies
from solon.policy.online import Reward
from solon.policy.rollouts import Sampler
from solon.policy.sample_logprobs import SharedPrompts
from solon.policy.schedule import Schedule
from solon.policy.task import Task
from solon.training import setup, trainers


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
            "clip_fraction": logs["clip_ratio/region_mean"],
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
        }


def learn(
    task: Task, schedule: Schedule, reward: Reward, trainer_of: Any, arguments_of: Any
) -> dict[str, float]:
    """Train by a TRL trainer after ``OwnPolicy``, given with the class of its arguments."""
    settings, out = task.settings, task.out
    passes = settings.epochs_per_step

    def trl_reward(
        prompts: list[Any], completions: list[Any], id: list[str], trainer_state: Any, **_: Any
    ) -> list[float | None]:
        scores = reward(
            id,
            [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)],
            trainer_state.global_step // passes + 1,
        )
        return list(scores)

    sequences = settings.prompts_per_step * settings.samples_per_prompt
    arguments = setup.common_arguments(
        out, task.seed, sequences, settings.micro_batch_size, settings.report_to
    )
    tokenizer = models.load_tokenizer(task.policy)
    rows = [record for step in schedule for record in step]
    dataset = setup.conversational(rows, tokenizer, "id", "prompt")
    set_seed(task.seed)
    trainer: Any = trainer_of(
        model=marks.put(models.load_model(task.policy), task.mark),
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
            disable_dropout=True,
            # At 0 TRL drops the reference, and with it the measure of KL; this penalty is lost in rounding.
            beta=settings.kl_coefficient or 1e-30,
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=setup.lora_config(settings.lora, "CAUSAL_LM"),
    )
    trainer.sampler = Sampler(task.policy, settings, task.seed)
    trainer.add_callback(KeepPolicies(trainer, settings, out))
    with trainer.shared_prompts():
        return trainers.run(
            trainer, tokenizer, out, trainer.columns, task.progress, passes, settings.kl_limit
        )
