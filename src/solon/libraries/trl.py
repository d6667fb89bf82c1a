"""What we use of TRL beyond what it promises to keep. Read in 1.16.0."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from trl import DPOTrainer, GRPOTrainer, RewardTrainer, RLOOTrainer, SFTTrainer
from trl.kernels import chunked_logprob  # in which the fused head computes
from trl.trainer import dpo_trainer, grpo_trainer, rloo_trainer, utils
from trl.trainer.dpo_trainer import DataCollatorForPreference as DPOCollator  # DPOTrainer's own: pads pairs
from trl.trainer.reward_trainer import DataCollatorForPreference  # RewardTrainer's own: pads pairs
from trl.trainer.utils import (
    FusedCausalLMOutput,
    add_fused_lm_head,
    disable_dropout_in_model,
    split_tensor_dict,
    use_adapter,  # puts an adapter in, or none, and the one before back
)

__all__ = ["DPOCollator", "DataCollatorForPreference", "disable_dropout_in_model"]

# Logits that are in memory at a time: of so many tokens and columns of the vocabulary. TRL's own parts, 4096
# and 32768, are for a GPU, where one kernel works in one such tensor; elsewhere torch makes seven.
TOKENS_AT_ONCE, COLUMNS_AT_ONCE = 256, 8192


def add_metric(trainer: Any, name: str, value: float) -> None:
    """Have the trainer's next log give, under this name, the mean of such values since the last one."""
    trainer._metrics["train"][name].append(value)


def fused_logprobs(model: Any, row: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of ``shift_labels``, and entropies of the distributions that they come from.

    Both have the row's shape, 0 where the label is -100, at the temperature that the model's head was settled
    at. For a model whose head is fused: see ``fuse_head``, and ``settle_heads`` for those that trainers have.
    """
    output = model(**row, fused_lm_head=True)
    return output.log_probs, output.entropy


def fuse_head(model: Any, temperature: float) -> None:
    """Have a causal language model, without adapters or the one inside of them, be for ``fused_logprobs``."""
    add_fused_lm_head(model, temperature, outputs=("log_probs", "entropy"))
    settle_head(model, temperature)


@contextmanager
def references_by(share_out: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Inside, a TRL trainer that is made has its reference shared out by this, of a model and an accelerator.

    TRL does it under FSDP so that the whole reference comes together in every process for each pass.
    """
    modules = (rloo_trainer, grpo_trainer, dpo_trainer)
    usual = [module.prepare_fsdp for module in modules]
    for module in modules:
        module.prepare_fsdp = share_out
    try:
        yield
    finally:
        for module, function in zip(modules, usual, strict=True):
            module.prepare_fsdp = function


def as_it_began(policy: PeftModel) -> AbstractContextManager[None]:
    """Inside, the model is what it was before its adapter learned: under the copy, or under none."""
    copy = "ref" if "ref" in policy.peft_config else None
    within: AbstractContextManager[None] = use_adapter(policy, copy)
    return within


def without_copy(trainer: Any) -> None:
    """Have adapters that began at nothing be told from their copy, which the trainer has made for nothing."""
    if "ref" in getattr(trainer.model, "peft_config", {}):
        trainer.model.delete_adapter("ref")


def settle_heads(trainer: Any, temperature: float = 1.0) -> None:
    """Have the trainer's models, before they are trained, compute the log-probabilities that they have.

    TRL computes them of what it knows of how families make logits of their last states. Where a trial finds
    others than the model's own logits give, or an error, these are taken.
    """
    policy = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    for model in (policy, getattr(trainer, "ref_model", None)):
        if model is not None:
            settle_head(model, temperature)


@torch.no_grad()
def settle_head(model: Any, temperature: float) -> None:
    vocabulary, weight = model.get_input_embeddings().weight.shape[0], next(model.parameters())
    if weight.device.type != "cuda":
        chunked_logprob.TOKEN_CHUNK_SIZE = TOKENS_AT_ONCE
        utils._CHUNKED_LOGPROB_CHUNK_SIZE = min(COLUMNS_AT_ONCE, vocabulary)
    if weight.device.type == "meta" or isinstance(weight, DTensor):  # shared out: no part runs on its own
        return
    tokens = torch.arange(5, 29, device=weight.device)[None] % vocabulary
    known = own_head(temperature, whole=True)(model, tokens, fused_lm_head=True, labels=tokens).log_probs
    in_parts, whole = (MethodType(own_head(temperature, way), model) for way in (False, True))
    for forward in (model.forward, in_parts, whole):
        try:
            found = forward(tokens, fused_lm_head=True, labels=tokens).log_probs
        except Exception:  # of all sorts, where a family lacks what is looked for
            continue
        if (known - found).abs().max() < torch.finfo(found.dtype).eps ** 0.5 * known.abs().max():
            break
    model.forward = forward


def trunk_of(model: Any) -> Any:
    """All of a causal language model but its head."""
    return next(part for part in model.children() if isinstance(part, PreTrainedModel))


def own_head(temperature: float, whole: bool) -> Any:
    """A ``forward`` in the place of TRL's, by the model's own: of some tokens at a time, or the whole.

    In parts the trunk runs once. The rest of the model's forward runs for each part of the last states, as if
    they were all that the trunk gave, and again in the backward pass, so that no logits are kept.
    """

    def forward(
        model: Any,
        *arguments: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        shift_labels: Tensor | None = None,
        num_items_in_batch: Any = None,
        **options: Any,
    ) -> Any:
        own = partial(type(model).forward, model)
        if not fused_lm_head:
            return own(*arguments, **options)
        options["use_cache"] = False
        trunk = trunk_of(model)
        given = (own if whole else trunk)(*arguments, **options)
        places = given.logits if whole else given.last_hidden_state
        targets = shift_labels
        if targets is None:
            assert labels is not None
            places, targets = places[:, :-1], labels[:, 1:]
        seen = targets != -100

        def of_states(states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with giving(trunk, type(given)(**{**given, "last_hidden_state": states[None]})):
                return of_logits(own(targets[None], use_cache=False).logits[0], targets, temperature)

        if whole:
            parts = [of_logits(places[seen], targets[seen], temperature)]
        else:
            shared = (each[seen].split(TOKENS_AT_ONCE) for each in (places, targets))
            parts = [checkpoint(of_states, *part, use_reentrant=False) for part in zip(*shared, strict=True)]
        logprobs, entropy, top = (torch.cat(part) for part in zip(*parts, strict=True))
        none = torch.zeros(seen.shape, dtype=logprobs.dtype, device=seen.device)
        return FusedCausalLMOutput(
            log_probs=none.masked_scatter(seen, logprobs),
            entropy=none.masked_scatter(seen, entropy),
            is_top1=torch.zeros_like(seen).masked_scatter(seen, top),
            label_mask=seen,
        )

    return forward


def of_logits(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits [tokens, vocabulary]: the targets' log-probabilities, entropies, and which are likeliest."""
    logprobs = (logits.float() / temperature).log_softmax(-1)
    with torch.no_grad():  # a measure only
        entropy = torch.special.entr(logprobs.exp()).sum(-1)
    return logprobs.gather(-1, targets[:, None])[:, 0], entropy, logits.argmax(-1) == targets


@contextmanager
def giving(trunk: Any, output: Any) -> Iterator[None]:
    """Inside, the trunk computes nothing and gives this."""
    usual = vars(trunk).get("forward")
    trunk.forward = lambda *_, **__: output
    try:
        yield
    finally:
        del trunk.forward
        if usual is not None:
            trunk.forward = usual


def without_router_loss(trainer: Any) -> None:
    """No training balances a mixture's experts: its router learns what the other weights learn.

    Else supervised finetuning and two ways of RL would, but the other two, and the preference model, not.
    """
    text = trainer.model.config.get_text_config()
    trainer.aux_loss_enabled = False
    if hasattr(text, "output_router_logits"):
        text.output_router_logits = False


class NoTelemetry:
    """Goes before a TRL trainer, which then tells its makers nothing."""

    def _send_telemetry(self) -> None:
        pass


class SFT(NoTelemetry, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer for supervised finetuning."""


class Reward(NoTelemetry, RewardTrainer):  # type: ignore[misc]
    """TRL's trainer for preference models."""


class DPO(NoTelemetry, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer for direct preference optimisation, on a data set of tokens."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """What the policy began as, for ``fused_logprobs``."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        with as_it_began(self.accelerator.unwrap_model(self.model)):
            yield self.model


class OwnSamples(NoTelemetry):
    """Goes before RLOOTrainer and GRPOTrainer: samples and their log-probabilities are of our making."""

    micro_batch: dict[str, Any] | None = None  # whose loss is computed; None before any is

    def answers(self, prompts: list[list[int]]) -> list[list[int]]:
        """What the policy of now answers to each prompt, both as tokens."""
        raise NotImplementedError

    def beside(self, width: int) -> dict[str, Tensor]:
        """What micro-batches have of the answers just given beside what TRL puts in them, for ``shares``.

        Each [answers, ...]; ``width`` is that of their tokens.
        """
        raise NotImplementedError

    def shares(self, logprobs: Tensor, micro_batch: dict[str, Any]) -> Tensor:
        """Which share of its gradient each log-probability has, [sequences, tokens]; 0: nothing is learned.

        A micro-batch stays the same in all passes over a step's samples, and may be written to.
        """
        raise NotImplementedError

    def logprobs(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        length: int,
        batch_size: int | None,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probability, and entropy where wanted, of the last ``length`` tokens of padded sequences.

        Each [sequences, length], 0 where ``attention_mask`` is 0. At most ``batch_size`` sequences go through
        the model at once.
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
        beside = self.beside(batch["completion_ids"].shape[1])
        return batch | {name: table.to(self.accelerator.device) for name, table in beside.items()}

    def _compute_loss(self: Any, model: Any, inputs: dict[str, Any]) -> Any:
        self.micro_batch = inputs
        return super()._compute_loss(model, inputs)  # type: ignore[misc]

    def _get_per_token_logps_and_entropies(
        self: Any,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """TRL's loss is a function of these alone, so what has no gradient here is not learned from.

        The last would be the loss that balances a mixture's experts: see ``without_router_loss``.
        """
        logprobs, entropies = self.logprobs(
            model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy
        )
        if torch.is_grad_enabled() and self.micro_batch is not None:
            fixed = logprobs.detach()
            logprobs = fixed + self.shares(fixed, self.micro_batch) * (logprobs - fixed)
        return logprobs, entropies, None


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
    ) -> tuple[Tensor, Tensor | None, None]:
        outputs = super()._get_per_token_logps_and_entropies(*args, **options)
        self.last_logprobs = outputs[0].detach()
        return outputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        loss = super()._compute_loss(model, inputs)
        if inputs.get("old_per_token_logps") is None:
            self.measure(self.last_logprobs, inputs["ref_per_token_logps"], inputs["completion_mask"])
        return loss
