"""How models are trained, and how the policy is optimised."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from solon.engine_settings import Count, Positive, Section
from solon.errors import SolonError
from solon.optimisers import OPTIMISERS
from solon.reward_settings import ASKED, COMPARISON, PREFERENCE_MODEL, Rewards, weights

Probability = Annotated[float, Field(ge=0, le=1)]


def fits_micro_batches(sequences: int, micro_batch_size: int, what: str) -> None:
    if sequences > micro_batch_size and sequences % micro_batch_size:
        raise ValueError(
            f"{what} is {sequences}, no multiple of micro_batch_size {micro_batch_size}; change one of them"
        )


def shares_out(sequences: int, micro_batch_size: int, processes: int) -> tuple[int, int]:
    """Sequences a process's forward pass, and forward passes a step, for so many sequences a step in all.

    Raises ValueError where they cannot be shared out evenly.
    """
    share, rest = divmod(sequences, processes)
    micro = min(micro_batch_size, share)
    if rest or share % micro:
        raise ValueError(
            f"a step of {sequences} sequences, which {processes} training processes cannot share in "
            f"micro-batches of {micro or micro_batch_size}: change one of the three"
        )
    return micro, share // micro


class Lora(Section):
    rank: Positive = 16
    alpha: Positive = 32
    dropout: Probability = 0.0


FULL = 0.9  # of a device's memory: past it "gradient_checkpointing: auto" computes activations twice


class OnDevice(Section):
    """What a training holds in its device's memory."""

    lora: Lora | None = None  # adapters on frozen weights; None: all weights are trained
    # of frozen weights, under adapters; auto: bfloat16 where the device computes in it well, else float32
    weights: Literal["auto", "float32", "bfloat16", "4bit"] = "auto"
    # activations are computed a second time in the backward pass; auto: where they would fill the device
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"] = "adamw"

    def check_shared_out(self) -> None:
        """Raises ValueError for what bitsandbytes cannot do where weights are shared out (FSDP)."""
        if self.weights == "4bit":
            raise ValueError("FSDP cannot share out weights in 4 bits: set weights to bfloat16, or take DDP")
        if self.optimizer != "adamw":
            raise ValueError(
                f"FSDP cannot share out the state of optimizer {self.optimizer}: set it to adamw, which FSDP "
                "divides by the number of processes, or take DDP"
            )

    @model_validator(mode="after")
    def has_frozen_weights(self) -> Self:
        if self.lora is None and self.weights in {"bfloat16", "4bit"}:
            raise ValueError(
                f"weights is {self.weights}, but without lora all weights are trained, in float32: set lora, "
                "or leave weights out"
            )
        return self

    def computes_twice(self, needs: float, memory: float) -> bool:
        """Whether activations are, where a training that keeps them needs so many bytes of so many."""
        if self.gradient_checkpointing == "auto":
            return needs > FULL * memory
        return self.gradient_checkpointing


class Training(OnDevice):
    """What the three training stages have in common."""

    epochs: Positive = 1  # paper, section 3.2: one epoch
    learning_rate: float = Field(default=1e-5, gt=0)
    batch_size: Positive = 16  # examples an optimiser step
    micro_batch_size: Positive = 8  # examples a forward pass; batch_size must be a multiple of it
    max_length: Positive = 1024  # tokens
    save_steps: Positive = 50  # a killed run goes on from the last multiple of this
    report_to: list[Literal["wandb", "tensorboard", "trackio"]] = Field(default=[])

    @model_validator(mode="after")
    def whole_micro_batches(self) -> "Training":
        fits_micro_batches(self.batch_size, self.micro_batch_size, "batch_size")
        return self


class GeneratedPrompts(Section):
    """How many prompts of each set the assistant writes, after the training prompts as examples."""

    red_team: Count = 0
    helpful: Count = 0


class Reinforce(OnDevice):
    """RL against the preference model (paper, section 4.2)."""

    algorithm: Literal["rloo", "grpo", "dr-grpo", "ppo", "dpo", "ipo"] = "rloo"
    # of samples: one by its name, or a sum, each with its weight. rating and comparison: the feedback model
    # judges them itself, without a preference model (Lee et al. 2023, arXiv:2309.00267: direct RLAIF)
    reward: Rewards = PREFERENCE_MODEL
    steps: Positive = 200
    prompts_per_step: Positive = 16
    samples_per_prompt: Positive = 4
    micro_batch_size: Positive = 16  # sequences a forward pass
    epochs_per_step: Positive = 1  # passes over each step's samples (mu in GRPO, epochs in PPO)
    minibatches: Positive = 4  # optimiser steps a pass, PPO only (Ouyang et al. 2022, appendix C.4: 8)
    learning_rate: float = Field(default=1e-6, gt=0)
    kl_coefficient: float = Field(default=0.05, ge=0)
    # nats a sequence; past it RL stops with its checkpoint (.inf: never)
    kl_limit: float = Field(default=20.0, gt=0, allow_inf_nan=True)
    length_control: bool = False  # takes off the scores what goes with an answer's length
    # at most so often does a token count for being likelier in training than its sampler had it; null: once
    importance_cap: float | None = Field(default=2.0, ge=1)
    clip_range: float = Field(default=0.2, gt=0)  # PPO's epsilon (Schulman et al. 2017, section 3)
    discount: float = Field(default=1.0, gt=0, le=1)  # gamma, PPO only
    gae_lambda: float = Field(default=0.95, ge=0, le=1)  # PPO only
    value_coefficient: float = Field(default=0.1, ge=0)  # PPO only
    temperature: float = Field(default=1.0, gt=0)
    max_tokens: Positive = 128
    # answers that max_tokens cuts off: learned from as they are, not learned from, or at a cost
    truncated: Literal["keep", "mask", "penalty"] = "keep"
    truncation_penalty: float = Field(default=1.0, ge=0)  # that cost, in points of the reward
    max_prompt_length: Positive = 512
    generate: GeneratedPrompts = GeneratedPrompts()  # more prompts, for RL alone (paper, section 4.2)
    checkpoints: Count = 0  # policies kept on the way and evaluated too (paper, Figure 8)
    save_steps: Positive = 20
    report_to: list[Literal["wandb", "tensorboard", "trackio"]] = Field(default=[])

    @property
    def learns_from(self) -> Literal["samples", "pairs"]:
        """Answers that the policy samples, or labelled pairs."""
        return OPTIMISERS[self.algorithm].learns_from

    @property
    def rewards(self) -> dict[str, float]:
        """The weights of what rewards samples, by its name; none where the algorithm learns from pairs."""
        return weights(self.reward) if self.learns_from == "samples" else {}

    @property
    def needs_preference_model(self) -> bool:
        """Whether the policy learns from a preference model's scores."""
        return PREFERENCE_MODEL in self.rewards

    @property
    def sums_rewards(self) -> bool:
        """Whether anything but a preference model's score as it is rewards samples."""
        return self.rewards not in ({}, {PREFERENCE_MODEL: 1})

    @property
    def asks_feedback(self) -> bool:
        """Whether the feedback model is asked about samples."""
        return any(name in ASKED for name in self.rewards)

    def scored_by(self, preference_model: str | None) -> dict[str, str]:
        """The model whose scores the policy learns from, by its role; none where it needs none.

        Raises SolonError where there must be one and is none.
        """
        if not self.needs_preference_model:
            return {}
        if preference_model is None:
            raise SolonError(
                "reinforce.reward is the score of a preference model, and none is given: give its folder, or "
                "another reward"
            )
        return {"preference model": preference_model}

    @property
    def per_step(self) -> tuple[int, int]:
        """Sequences a step and a forward pass, or pairs where the algorithm learns from these."""
        if self.learns_from == "pairs":
            return self.prompts_per_step, max(1, self.micro_batch_size // 2)
        return self.prompts_per_step * self.samples_per_prompt, self.micro_batch_size

    @model_validator(mode="after")
    def learns_from_pairs(self) -> "Reinforce":
        if self.learns_from == "samples":
            return self
        if not self.kl_coefficient:
            raise ValueError(f"kl_coefficient is 0, but {self.algorithm} divides by it; give more")
        usual = type(self).model_fields
        for name in (
            "reward",
            "epochs_per_step",
            "length_control",
            "importance_cap",
            "truncated",
            "generate",
        ):
            if getattr(self, name) != usual[name].default:
                raise ValueError(
                    f"{name} is for algorithms that sample answers, and {self.algorithm} learns from pairs; "
                    "leave it out"
                )
        return self

    @model_validator(mode="after")
    def whole_micro_batches(self) -> "Reinforce":
        sequences, micro_batch = self.per_step
        fits_micro_batches(sequences, micro_batch, "what a step learns from")
        fewest = OPTIMISERS[self.algorithm].samples
        if self.samples_per_prompt < fewest:
            raise ValueError(
                f"samples_per_prompt is {self.samples_per_prompt}, but {self.algorithm} compares samples; "
                f"give {fewest} or more"
            )
        if COMPARISON in self.rewards and self.samples_per_prompt < 2:
            raise ValueError("reward compares the samples of a prompt: give samples_per_prompt 2 or more")
        if self.length_control and sequences == 1:
            raise ValueError(
                "length_control compares a step's answers, and a step has one: raise prompts_per_step or "
                "samples_per_prompt"
            )
        if self.checkpoints >= self.steps:
            raise ValueError(
                f"checkpoints is {self.checkpoints}, but only {self.steps - 1} steps come before the last of "
                f"steps ({self.steps}); change one of the two"
            )
        return self
