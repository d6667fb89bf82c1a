"""What we use of TRL beyond what it promises to keep. Read in 1.16.0."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer, RewardTrainer, RLOOTrainer, SFTTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference  # RewardTrainer's own: pads pairs
from trl.trainer.utils import disable_dropout_in_model, split_tensor_dict

__all__ = ["DataCollatorForPreference", "disable_dropout_in_model"]


def add_metric(trainer: Any, name: str, value: float) -> None:
    """Have the trainer's next log give, under this name, the mean of such values since the last one."""
    trainer._metrics["train"][name].append(value)


def fused_logprobs(model: Any, row: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of ``shift_labels``, and entropies of the distributions that they come from.

    Both have the row's shape, 0 where the label is -100, at the trainer's temperature. For a model that
    RLOOTrainer or GRPOTrainer was given: they change its ``forward``.
    """
    output = model(**row, fused_lm_head=True)
    return output.log_probs, output.entropy


class NoTelemetry:
    """Goes before a TRL trainer, which then tells its makers nothing."""

    def _send_telemetry(self) -> None:
        pass


class SFT(NoTelemetry, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer for supervised finetuning."""


class Reward(NoTelemetry, RewardTrainer):  # type: ignore[misc]
    """TRL's trainer for preference models."""


class OwnSamples(NoTelemetry):
    """Goes before RLOOTrainer and GRPOTrainer: samples and their log-probabilities are of our making."""

    # Of a micro-batch's answers those that are learned from, [sequences, 1]; None before its loss is computed
    with_gradient: Tensor | None = None

    def answers(self, prompts: list[list[int]]) -> list[list[int]]:
        """What the policy of now answers to each prompt, both as tokens."""
        raise NotImplementedError

    def learned(self) -> list[bool]:
        """Of each of the answers just given, whether it is learned from."""
        raise NotImplementedError

    def logprobs(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        length: int,
        batch_size: int | None,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor | None] | None:
        """Log-probability, and entropy where wanted, of the last ``length`` tokens of padded sequences.

        Each [sequences, length], 0 where ``attention_mask`` is 0. At most ``batch_size`` sequences go through
        the model at once. None: TRL is to compute them its way.
        """
        raise NotImplementedError

    def _prepare_inputs(self: Any, generation_batch: Any) -> Any:
        """TRL's without its shuffle, so that a prompt's answers stay in one micro-batch.

        All micro-batches of a step add up to one update, so their order is nothing to training.
        """
        count = self.args.steps_per_generation
        if self._step % (count * self.num_iterations) == 0 or self._buffered_inputs is None:
            sampled = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(sampled, count)
        return self._buffered_inputs[self._step % count]

    def _generate_and_score_completions(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        return batch | {"learned": torch.tensor(self.learned(), device=self.accelerator.device)}

    def _compute_loss(self: Any, model: Any, inputs: dict[str, Any]) -> Any:
        self.with_gradient = inputs["learned"][:, None]
        return super()._compute_loss(model, inputs)  # type: ignore[misc]

    def _get_per_token_logps_and_entropies(
        self: Any,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **rest: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """TRL's loss is a function of these alone, so an answer without gradient here is not learned from."""
        ours = self.logprobs(model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy)
        if ours is not None:
            (logprobs, entropies), mixture = (
                ours,
                None,
            )  # the last is what mixtures of experts add to the loss
        else:
            logprobs, entropies, mixture = super()._get_per_token_logps_and_entropies(  # type: ignore[misc]
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **rest
            )
        if torch.is_grad_enabled() and self.with_gradient is not None:
            logprobs = torch.where(self.with_gradient, logprobs, logprobs.detach())
        return logprobs, entropies, mixture


class RLOO(OwnSamples, RLOOTrainer):  # type: ignore[misc]
    """TRL's trainer by RLOO. Its ``kl`` is the mean over all tokens of all answers."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> list[list[int]]:
        return self.answers(prompt_ids)


class GRPO(OwnSamples, GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer by GRPO."""

    def measure(self, logp: Tensor, ref_logp: Tensor, mask: Tensor) -> None:
        """Called once for every sample, with log-probabilities of the policy that drew it and the reference.

        All are [sequences, tokens]. Where a step's samples are passed over once, the policy's own are those
        of that pass: TRL makes no other for them.
        """
        raise NotImplementedError

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> tuple[list[list[int]], None]:
        return self.answers(prompt_ids), None  # the second is what vLLM would tell of its sampling

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if (logp := batch.get("old_per_token_logps")) is not None:
            self.measure(logp, batch["ref_per_token_logps"], batch["completion_mask"])
        return batch

    def _get_per_token_logps_and_entropies(
        self, *args: Any, **options: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        outputs = super()._get_per_token_logps_and_entropies(*args, **options)
        self.last_logprobs = outputs[0].detach()
        return outputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        loss = super()._compute_loss(model, inputs)
        if inputs.get("old_per_token_logps") is None:
            self.measure(self.last_logprobs, inputs["ref_per_token_logps"], inputs["completion_mask"])
        return loss
