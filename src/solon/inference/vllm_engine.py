"""The engine for GPUs, and for large models: vLLM in this process's own workers, with its prefix cache."""

from collections import deque
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from solon.adapter_folders import adapter_of
from solon.config import EngineSettings, on_server
from solon.errors import SetAside, SolonError, TooLong, first_line
from solon.inference.active import Active, begin
from solon.inference.dialogue_tokens import DialogueTokens, cut
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.precision import FOUR_BITS
from solon.inference.prefix import Tokens
from solon.inference.scoring import Scored, Sheet, room
from solon.inference.vllm_workers import generation_config, hand_over, open_workers, vllm_dtype
from solon.libraries.transformers import SOURCE, as_in_checkpoints
from solon.libraries.vllm import (
    MAX_LOGPROB_TOKEN_IDS,
    RequestOutput,
    RequestOutputKind,
    SamplingParams,
    reload_weights,
    shut_down,
    tokens_input,
)
from solon.models import load_config, load_model, load_tokenizer, resolve, whole
from solon.role_settings import DEFAULT, Role

NAMES_ONLY = {SOURCE, "transformers_version", "dtype", "torch_dtype", "use_cache"}
"""What two checkpoints of one architecture may differ in."""


class VLLMEngine(Engine):
    """A continuous batch of at most ``settings.batch_size`` sequences, scheduled by vLLM.

    The scheduler runs in this process and the model in workers of its own, so requests are scheduled in the
    order of this engine's making: two runs with the same requests in the same order give the same texts.
    Prompts with a beginning in common share its computation, in whole blocks of vLLM's cache (16 tokens on
    most GPUs, 32 here on a CPU).

    Raises SolonError where vLLM cannot run the model or has not the memory for it.
    """

    def __init__(self, model: str, settings: EngineSettings, role: Role = DEFAULT) -> None:
        self.role = role
        self.concurrency = settings.batch_size
        self.usage = Usage()
        self.dtype = vllm_dtype(settings)
        self._packed = settings.dtype == FOUR_BITS
        self._engine = open_workers(whole(model), settings, self.dtype)
        if adapter_of(model):
            self._hand_over(model)
        self.vllm_config = self._engine.vllm_config
        self._context = int(self.vllm_config.model_config.max_model_len)
        self._waiting: list[Active] = []
        self._writing: dict[str, Active] = {}  # by vLLM's id
        self._scoring: dict[str, Scored] = {}
        self._scores: deque[tuple[Scored, dict[int, float]]] = deque()
        self._completions: list[Completion | SetAside] = []
        self._ids: set[str] = set()
        self._number = 0
        self._adopt(model)

    def _adopt(self, model: str) -> None:
        """Take the name, the tokenizer and the dialogue format of ``model``."""
        self.model_name = model
        ends = SimpleNamespace(generation_config=generation_config(model))
        tokenizer = load_tokenizer(model, role=self.role)
        self._dialogue = DialogueTokens(tokenizer, ends, self.role.system)
        self._ends = sorted(self._dialogue.ends)
        self.thinks = self._dialogue.thinking.may_come and self.role.thoughts > 0

    def load(self, model: str, role: Role = DEFAULT) -> bool:
        """Read the weights of ``model`` into the running workers where it is another checkpoint of theirs.

        Nothing may be in flight (ValueError). Raises SolonError where the weights cannot be read; the engine
        must be closed then.
        """
        if self._ids or self._scoring:
            raise ValueError("requests are in flight")
        if on_server(model) or self._packed:  # packed once, as they are read
            return False
        if not alike(load_config(model), load_config(self.model_name)):
            return False
        if not same_tokens(load_tokenizer(model, role=role), self._dialogue.tokenizer):
            return False
        if adapter_of(model):
            self._hand_over(model)
        else:
            self._reload(resolve(model), model)
        self.forget()
        self.role = role
        self._adopt(model)
        return True

    def _reload(self, source: str, model: str) -> None:
        try:
            reload_weights(self._engine, source)
        except Exception as error:
            raise SolonError(
                f"vLLM could not read the weights of {model!r} from {source}: {first_line(error)}; "
                "start the run again, which goes on where it stopped"
            ) from error

    def _hand_over(self, model: str) -> None:
        """Adapters, merged into the weights that they are for, out of this process's memory.

        So they cost nothing while texts are made, and may be of any rank.
        """
        if self._packed:
            raise SolonError(
                f"vLLM takes no adapters on weights in 4 bits: export {model!r} ('solon export --merge'), or "
                "set engine.dtype to bfloat16"
            )
        network = load_model(model, getattr(torch, self.dtype))
        weights = as_in_checkpoints(network, network.named_parameters())
        merge = "merge its adapters ('solon export --merge')"
        hand_over(self._engine, model, weights, self.dtype, instead=merge)

    def forget(self) -> None:
        """Empty the prefix cache. Nothing may be in flight."""
        self._engine.reset_prefix_cache()

    def submit(self, request: Request) -> None:
        """Queue a request. Its id must not be in flight already (ValueError).

        Where the prompt leaves room for fewer than ``max_tokens`` tokens in the model's context, the text
        ends there, with finish "length".
        """
        if request.id in self._ids:
            raise ValueError(f"request {request.id!r} is in flight already")
        self._ids.add(request.id)
        _, prompt = self._dialogue.prompt(request.messages, request.prefill)
        try:
            left = room(self._context, prompt, request.id, self.model_name)
        except TooLong as error:
            self._completions.append(error)
            return
        self._waiting.append(begin(request, prompt, self._dialogue, left, self.role.thoughts))
        self.usage.requests += 1
        self.usage.tokens_naive += len(prompt)

    def poll(self) -> list[Completion | SetAside]:
        # Prompts with a beginning in common go in together, before what they share can be driven out.
        self._waiting.sort(key=lambda writing: writing.prompt.tolist())
        for writing in self._waiting:
            self._write(writing)
        self._waiting.clear()
        while self._writing and not self._completions:
            self._step()
        completions, self._completions = self._completions, []
        self._ids -= {completion.id for completion in completions}
        return completions

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        """Score every choice of every question, in the order of their prompts' tokens.

        Raises ValueError where a choice is empty.
        """
        sheet = Sheet(self._dialogue, questions, self._context, self.model_name, MAX_LOGPROB_TOKEN_IDS)
        yield from sheet.too_long
        self.usage.requests += len(questions)
        self.usage.tokens_naive += sheet.tokens
        waiting = deque(sheet.rows)
        try:
            while waiting or self._scoring or self._scores:
                while waiting and len(self._scoring) < self.concurrency:
                    self._ask(waiting.popleft())
                if not self._scores:
                    self._step()
                while self._scores:
                    yield from sheet.enter(*self._scores.popleft())
        finally:  # where the caller has had enough
            self._engine.abort_request(list(self._scoring))
            self._scoring.clear()
            self._scores.clear()

    def close(self) -> None:
        shut_down(self._engine)
        del self._engine
        self._waiting.clear()
        self._writing.clear()
        self._completions.clear()
        self._ids.clear()

    # Generation

    def _write(self, writing: Active) -> None:
        """Go on with it; where the model thinks first, up to the thought's end."""
        tokens = np.concatenate([writing.prompt, np.array(writing.generated, dtype=np.int64)])
        self._writing[self._add(tokens, self._sampling(writing))] = writing

    def _sampling(self, writing: Active) -> SamplingParams:
        request, thinking, done = writing.request, self._dialogue.thinking, len(writing.generated)
        most, stops, ends = writing.most - done, writing.stops, self._ends
        if writing.answer is not None:
            most = min(most, writing.answer + request.max_tokens - done)
        elif thinking.format:  # nothing tells vLLM whether it thinks, unless the template opens the thought
            most = writing.thoughts if thinking.opened else max(writing.thoughts, request.max_tokens)
            stops = (thinking.format.close,)
            ends = [token for token in ends if token not in self._dialogue.thought_ends]
        return SamplingParams(
            max_tokens=most,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed % 2**63,
            stop=list(stops),
            include_stop_str_in_output=writing.answer is None,
            skip_special_tokens=writing.answer is not None,
            stop_token_ids=ends,
            detokenize=bool(stops),  # only to find them; the text is made here
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _written(self, writing: Active, output: RequestOutput) -> None:
        """Take in what vLLM has made: a completion, or a thought after which the answer is to come."""
        [generated] = output.outputs
        self.usage.tokens_generated += len(generated.token_ids)
        if not writing.thoughts:
            self._completions.append(self._completion(writing, generated))
        elif completion := writing.take(generated.token_ids, self._dialogue):
            self._completions.append(completion)
            self.usage.thoughts_cut += writing.cut_short
        else:
            self._write(writing)

    def _completion(self, writing: Active, generated: Any) -> Completion:
        tokens, prefilled = list(generated.token_ids), bool(writing.request.prefill)
        ended = bool(tokens) and tokens[-1] in self._dialogue.ends
        thinking, text = self._dialogue.parted(tokens[:-1] if ended else tokens, prefilled)
        shorter = cut(text, writing.stops)
        finish: Literal["stop", "length"] = "length" if generated.finish_reason == "length" else "stop"
        if shorter is not None:  # vLLM looks for stop strings after it looks at the length
            text, finish = shorter, "stop"
        return Completion(writing.request.id, text, finish, len(tokens), thinking)

    # Scoring

    def _ask(self, row: Scored, anew: bool = False) -> None:
        """One token is generated, to have the distribution that it comes from.

        What comes before the choices is read from the cache, though vLLM by itself would compute a whole
        prompt whose log-probabilities are asked for: it has none for cached positions, and here it has them
        wherever they are needed. Where it has not (``_score``), the row is computed ``anew``.
        """
        params = SamplingParams(
            max_tokens=1,
            temperature=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            logprob_token_ids=sorted({int(target[-1]) for target in row.choices.values()}),
            prompt_logprobs=0 if len(row.tokens) > row.start + 1 else None,
            skip_reading_prefix_cache=anew,
        )
        self._scoring[self._add(row.tokens, params)] = row

    def _score(self, row: Scored, output: RequestOutput) -> None:
        if len(row.tokens) > row.start + 1 and (output.num_cached_tokens or 0) > row.start:
            self._ask(row, anew=True)
            return
        before = 0.0
        for position in range(row.start + 1, len(row.tokens)):
            # Counted from the end: some of vLLM's workers leave the cached positions out.
            logprobs = (output.prompt_logprobs or [])[position - len(row.tokens)]
            before += logprobs[int(row.tokens[position])].logprob
        last = output.outputs[0].logprobs[0]
        self._scores.append(
            (row, {choice: before + last[int(target[-1])].logprob for choice, target in row.choices.items()})
        )

    # vLLM

    def _add(self, tokens: Tokens, params: SamplingParams) -> str:
        self._number += 1
        name = str(self._number)
        self._engine.add_request(name, tokens_input(tokens.tolist()), params)
        return name

    def _step(self) -> None:
        try:
            outputs = self._engine.step()
        except RuntimeError as error:
            raise SolonError(
                f"vLLM has failed with {self.model_name!r}: {first_line(error)}; it says more above. Start "
                "the run again, which goes on where it stopped"
            ) from error
        for output in outputs:
            if not (isinstance(output, RequestOutput) and output.finished):
                continue
            prompt = output.prompt_token_ids or []
            self.usage.tokens_computed += len(prompt) - (output.num_cached_tokens or 0)
            if row := self._scoring.pop(output.request_id, None):
                self._score(row, output)
            elif writing := self._writing.pop(output.request_id, None):
                self._written(writing, output)


def alike(one: PreTrainedConfig, other: PreTrainedConfig) -> bool:
    """Whether two checkpoints are of one architecture and size."""
    first, second = one.to_dict(), other.to_dict()
    return all(first.get(name) == second.get(name) for name in (first.keys() | second.keys()) - NAMES_ONLY)


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    return bool(one.get_vocab() == other.get_vocab())
