"""The policy's answers during RL, sampled by Solon's engine from a copy of the policy's weights.

``generate`` of transformers pads a batch to its longest prompt, computes a prompt anew for each of its
samples, and carries answers that have ended on until the last one ends; the engine does none of these.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from torch.distributed.tensor import DTensor

from solon import config
from solon.errors import NotFinite, SolonError, UnsupportedModel
from solon.inference.dialogue_tokens import DialogueTokens, cut
from solon.inference.transformers_engine import TransformersEngine
from solon.libraries.peft import merged_weights
from solon.libraries.torch import packs_bfloat16
from solon.models import best_device, load_tokenizer
from solon.role_settings import POLICY, Role
from solon.seeds import derive_seed
from solon.texts.written import whole_characters
from solon.training.processes import processes


@dataclass(frozen=True)
class Rollout:
    """An answer that the policy sampled."""

    tokens: list[int]  # with its end, unless it was cut off
    text: str  # as the engine gives it, without half a character where it was cut off
    truncated: bool  # ``max_tokens`` came before its end
    thinking: str = ""  # what it thought first, which the reward does not see


class Sampler:
    """Samples whole distributions: no top-p or top-k, since the ratios of policies assume it.

    The copy is in bfloat16 where the processor has it. Models that the engine cannot run sample by
    ``generate``.
    """

    def __init__(self, policy: str, settings: config.Reinforce, seed: int, role: Role = POLICY) -> None:
        self.settings, self.seed = settings, seed
        self._tokenizer = load_tokenizer(policy, role=role)
        self._engine: TransformersEngine | None = None
        size = settings.prompts_per_step * settings.samples_per_prompt // processes()
        with suppress(UnsupportedModel):
            self._engine = TransformersEngine(
                policy, config.EngineSettings(batch_size=size, dtype=number_type()), role
            )

    @property
    def has_engine(self) -> bool:
        return self._engine is not None

    def sample(self, model: Any, prompts: Sequence[Sequence[int]], step: int, process: int) -> list[Rollout]:
        """An answer to each prompt, which is given as tokens.

        Answer i of a ``step`` is drawn from a seed of its own, so that a killed run which goes on samples the
        same, and several processes, each with its share of the answers, sample what one would. Raises
        SolonError where the policy's probabilities are no longer finite.
        """
        try:
            if self._engine:
                answers = self._by_engine(self._engine, model, prompts, step, process)
            else:
                answers = self._by_generate(model, prompts, step, process)
        except NotFinite as error:
            raise SolonError(
                "the policy no longer gives finite probabilities: training has diverged; lower learning_rate "
                "and run the stage again"
            ) from error
        dialogue = DialogueTokens(self._tokenizer, model)
        return [
            Rollout(answer, whole_characters(said.text), not ended, said.thinking)
            for answer in answers
            for said, ended in [dialogue.written(answer)]
        ]

    def _by_engine(
        self,
        engine: TransformersEngine,
        model: Any,
        prompts: Sequence[Sequence[int]],
        step: int,
        process: int,
    ) -> list[list[int]]:
        first = process * len(prompts)
        engine.load_weights(plain_weights(model))
        # In the engine's own number type, whatever the training around it computes in.
        with torch.autocast(engine.device.type, enabled=False):
            answers = engine.continue_tokens(
                [np.array(prompt, dtype=np.int64) for prompt in prompts],
                [derive_seed(self.seed, "rollout", step, first + number) for number in range(len(prompts))],
                self.settings.max_tokens,
                self.settings.temperature,
            )
        engine.unload()  # the update needs the memory
        return answers

    @torch.no_grad()
    def _by_generate(
        self, model: Any, prompts: Sequence[Sequence[int]], step: int, process: int
    ) -> list[list[int]]:
        dialogue = DialogueTokens(self._tokenizer, model)
        inputs = self._tokenizer.pad(
            {"input_ids": [list(prompt) for prompt in prompts]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        torch.manual_seed(derive_seed(self.seed, "rollout", step, process))
        try:
            tokens = model.generate(
                **inputs,
                max_new_tokens=self.settings.max_tokens,
                do_sample=True,
                temperature=self.settings.temperature,
                top_k=0,  # whatever the model's own defaults are
                top_p=1.0,
                repetition_penalty=1.0,
                eos_token_id=sorted(dialogue.ends),
                pad_token_id=self._tokenizer.pad_token_id,
            )
        except RuntimeError as error:
            if "probability tensor contains" in str(error):
                raise NotFinite from error
            raise
        return [up_to_end(answer, dialogue) for answer in tokens[:, inputs["input_ids"].shape[1] :].tolist()]


def number_type() -> Literal["auto", "bfloat16", "float32"]:
    """Nothing is timed on a CPU: a run that goes on after a kill must choose as it did before.

    What the processor has is not always used: oneDNN may be limited to less.
    """
    if best_device() != "cpu":
        return "auto"
    has = torch.cpu.get_capabilities()
    native = has.get("avx512_bf16") or has.get("amx_bf16")
    return "bfloat16" if native and packs_bfloat16() else "float32"


def up_to_end(answer: list[int], dialogue: DialogueTokens) -> list[int]:
    """The answer without what follows its first end.

    ``generate`` looks for no stop strings, so what comes after one is thrown away here.
    """
    places = [place for place, token in enumerate(answer, 1) if token in dialogue.ends]
    answer = answer[: places[0]] if places else answer
    if cut(dialogue.text(answer, prefilled=False), dialogue.stops(())) is None:
        return answer
    return next(answer[:size] for size in range(1, len(answer) + 1) if dialogue.written(answer[:size])[1])


@torch.no_grad()
def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The model's weights in its own names, adapters merged in; the model itself is left as it is.

    Those that are shared out over processes (FSDP) are gathered one at a time, so all must ask together.
    """
    for name, weight in merged_weights(model) if isinstance(model, PeftModel) else model.named_parameters():
        yield name, weight.full_tensor() if isinstance(weight, DTensor) else weight
