"""The policy's answers during RL, sampled by Solon's engines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from solon import config
from solon.errors import NotFinite, SolonError, UnsupportedModel
from solon.inference.active import Answer
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.plain_engine import PlainEngine
from solon.inference.precision import native_type
from solon.inference.transformers_engine import TransformersEngine
from solon.libraries.peft import merged_weights
from solon.models import best_device, load_tokenizer
from solon.role_settings import POLICY, Role
from solon.seeds import derive_seed
from solon.texts.written import whole_characters
from solon.training import sharing
from solon.training.processes import processes

DIVERGED = (
    "the policy no longer gives finite probabilities: training has diverged; lower learning_rate and run the "
    "stage again"
)


@dataclass
class Rollout:
    """An answer that the policy sampled."""

    tokens: list[int]  # with its end, unless it was cut off
    text: str  # as the engine gives it, without half a character where it was cut off
    truncated: bool  # ``max_tokens`` came before its end
    thinking: str = ""  # what it thought first, which the reward does not see
    rated: bool = True  # else the feedback model gave it no reward, and it is not learned from
    logprobs: Sequence[float] = ()  # that the tokens were drawn with, nats, where the sampler tells


class AnySampler(Protocol):
    """What samples the policy's answers."""

    def sample(self, model: Any, prompts: Sequence[Sequence[int]], step: int, process: int) -> list[Rollout]:
        """An answer of ``model`` as it is now to each prompt, which is given as tokens.

        Answer i of a ``step`` is drawn from a seed of its own, so that a killed run which goes on samples the
        same, and several processes, each with its share of the answers, sample what one would. All must ask
        together. Raises SolonError where the policy's probabilities are no longer finite.
        """

    def close(self) -> None:
        """Give back what it holds. Nothing can be sampled any more."""


class Sampler:
    """Samples whole distributions: no top-p or top-k, since the ratios of policies assume it.

    A ``model`` with adapters is sampled from where it is. One whose weights are all trained, or shared out,
    is sampled from a copy, which is in bfloat16 where the processor has it.
    """

    def __init__(
        self,
        policy: str,
        settings: config.Reinforce,
        seed: int,
        role: Role = POLICY,
        model: Any = None,
    ) -> None:
        self.settings, self.seed = settings, seed
        self._tokenizer = load_tokenizer(policy, role=role)
        size = self.settings.prompts_per_step * self.settings.samples_per_prompt // processes()
        asked = config.EngineSettings(batch_size=size, dtype=number_type())
        lends = isinstance(model, PeftModel) and not sharing.shared_out()
        self._lent = model.get_base_model() if lends else None
        self._engine: TransformersEngine | PlainEngine
        try:
            self._engine = TransformersEngine(policy, asked, role, self._lent)
        except UnsupportedModel:
            self._engine = PlainEngine(policy, asked, role=role, lent=self._lent)

    def sample(self, model: Any, prompts: Sequence[Sequence[int]], step: int, process: int) -> list[Rollout]:
        """See ``AnySampler``."""
        try:
            # In the engine's own number type, whatever the training around it computes in.
            with torch.autocast(self._engine.device.type, enabled=False), self._with_weights(model):
                answers = self._engine.continue_tokens(
                    [np.array(prompt, dtype=np.int64) for prompt in prompts],
                    seeds(self.seed, step, process * len(prompts), len(prompts)),
                    self.settings.max_tokens,
                    self.settings.temperature,
                )
        except NotFinite as error:
            raise SolonError(DIVERGED) from error
        return written(answers, DialogueTokens(self._tokenizer, model))

    def close(self) -> None:
        self._engine.close()

    @contextmanager
    def _with_weights(self, model: Any) -> Iterator[None]:
        if self._lent is not None:
            with self._engine.at_work():
                yield
            return
        self._engine.load_weights(plain_weights(model))
        yield
        self._engine.unload()  # the update needs the memory


def seeds(seed: int, step: int, first: int, count: int) -> list[int]:
    """Of ``count`` answers of a step, from the ``first`` on."""
    return [derive_seed(seed, "rollout", step, number) for number in range(first, first + count)]


def written(answers: Sequence[Answer], dialogue: DialogueTokens) -> list[Rollout]:
    return [
        Rollout(tokens, whole_characters(said.text), not ended, said.thinking, logprobs=logprobs)
        for tokens, logprobs in answers
        for said, ended in [dialogue.written(tokens)]
    ]


def number_type() -> Literal["auto", "bfloat16", "float32"]:
    """Nothing is timed on a CPU: a run that goes on after a kill must choose as it did before."""
    if best_device() != "cpu":
        return "auto"
    return "bfloat16" if native_type() == torch.bfloat16 else "float32"


@torch.no_grad()
def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The model's weights in its own names, adapters merged in; the model itself is left as it is.

    Those that are shared out over processes (FSDP) are gathered one at a time, so all must ask together.
    """
    for name, weight in merged_weights(model) if isinstance(model, PeftModel) else model.named_parameters():
        yield name, sharing.whole(weight)
