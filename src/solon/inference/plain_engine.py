"""The engine for every other causal language model: transformers' own generation and plain forward passes.

What makes ``TransformersEngine`` fast depends on how a model attends. This one leaves everything to the
model: states of recurrent layers, convolutions, latent attention, sinks, chunks. Texts are sampled in batches
by ``generate``, each request from draws of its own; choices are scored by whole passes. Nothing is shared.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from solon.config import EngineSettings
from solon.errors import SetAside, TooLong
from solon.inference.active import Active, Answer, begin, continuing
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.loaded_model import load
from solon.inference.memory import fewer
from solon.inference.prefix import Tokens
from solon.inference.sampling import sample
from solon.inference.scoring import Scored, Sheet, room
from solon.inference.trial import agree, prompts_to_try
from solon.models import best_device, load_tokenizer
from solon.role_settings import DEFAULT, Role

SCORED_LOGITS = 2**28  # logits of one pass of scoring, at most: a gigabyte in float32


class PlainEngine(Engine):
    """Batches of at most ``settings.batch_size`` requests, each made to its end.

    Prompts of different lengths are in one batch, padded on the left, where a trial has shown that the model
    reads them the same so; else only those of one length are. Two runs with the same requests in the same
    order give the same texts. Where memory does not suffice, it goes on with half as many. A network that is
    ``lent`` stays a training's: the engine runs it ``at_work`` alone.

    Raises SolonError where the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        settings: EngineSettings,
        reason: str = "",
        role: Role = DEFAULT,
        lent: PreTrainedModel | None = None,
    ) -> None:
        self.model_name, self.role = model, role
        self.concurrency = settings.batch_size
        self.usage = Usage()
        self.device = torch.device(best_device() if settings.device == "auto" else settings.device)
        self._network: Any = lent or load(model, settings, self.device)
        self.dtype = str(self._network.dtype).removeprefix("torch.")
        tokenizer = load_tokenizer(model, role=role)
        self._dialogue = DialogueTokens(tokenizer, self._network, role.system)
        self.thinks = self._dialogue.thinking.may_come and role.thoughts > 0
        if not lent:
            self._network.generation_config = GenerationConfig()  # its own would change how it is sampled
        config = self._network.config.get_text_config()
        self.context: int = getattr(config, "max_position_embeddings", None) or 2**31
        self._reason = reason
        self._too_long: list[TooLong] = []
        self._waiting: deque[Active] = deque()
        self._ids: set[str] = set()
        self._pads: bool | None = None  # whether prompts of different lengths may be in one batch

    def submit(self, request: Request) -> None:
        if request.id in self._ids:
            raise ValueError(f"request {request.id!r} is in flight already")
        self._ids.add(request.id)
        _, prompt = self._dialogue.prompt(request.messages, request.prefill)
        try:
            left = self._room(prompt, request.id)
        except TooLong as error:
            self._too_long.append(error)
            return
        self._waiting.append(begin(request, prompt, self._dialogue, left, self.role.thoughts))
        self.usage.requests += 1
        self.usage.tokens_naive += len(prompt)

    @torch.inference_mode()
    def poll(self) -> list[Completion | SetAside]:
        self._explain()
        finished: list[Completion | SetAside] = [*self._too_long]
        self._too_long.clear()
        while not finished and self._waiting:
            batch = self._batch()
            try:
                finished += self._generate(batch)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                continue
            done = {id(sequence) for sequence in batch}
            self._waiting = deque(sequence for sequence in self._waiting if id(sequence) not in done)
        self._ids -= {result.id for result in finished}
        return finished

    @torch.inference_mode()
    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        """Score every choice of every question. Raises ValueError where a choice is empty."""
        self._explain()
        sheet = Sheet(self._dialogue, questions, self.context, self.model_name)
        yield from sheet.too_long
        self.usage.requests += len(questions)
        self.usage.tokens_naive += sheet.tokens
        waiting = deque(sorted(sheet.rows, key=lambda row: len(row.tokens)))  # like lengths together
        while waiting:
            batch = list(islice(waiting, self._rows_at_a_time(waiting)))
            try:
                scores = [
                    self._scores(row, logits) for row, logits in zip(batch, self._logits(batch), strict=True)
                ]
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                continue
            for row_scores in scores:
                yield from sheet.enter(waiting.popleft(), row_scores)

    def continue_tokens(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], max_tokens: int, temperature: float
    ) -> list[Answer]:
        """The tokens sampled after each prompt's; see ``TransformersEngine.continue_tokens``."""
        sequences = continuing(prompts, seeds, max_tokens, temperature, self._dialogue, self._room)
        self._waiting += sequences
        while self._waiting:
            self.poll()
        return [(sequence.generated, sequence.logprobs) for sequence in sequences]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, a lent network answers."""
        own, training = self._network.generation_config, self._network.training
        self._network.generation_config = GenerationConfig()
        try:
            self._network.eval()
            yield
        finally:
            self._network.train(training)
            self._network.generation_config = own

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copy named weights, in the model's own names, over those it has. Nothing may be in flight."""
        for name, weight in weights:
            own = self._network.get_parameter(name)
            own.data = weight.to(self.device, own.dtype, copy=True)

    def unload(self) -> None:
        """Give the weights' memory back until ``load_weights`` brings all. Nothing may be in flight."""
        for weight in self._network.parameters():
            weight.data = weight.new_empty(0)

    def forget(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        del self._network
        self._waiting.clear()
        self._ids.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _room(self, tokens: Tokens, name: str) -> int:
        return room(self.context, tokens, name, self.model_name)

    def _explain(self) -> None:
        if self._reason:
            self.say(
                f"{self.model_name} runs by transformers' own generation, which shares no prompts: "
                f"{self._reason}"
            )
            self._reason = ""

    def _batch(self) -> list[Active]:
        """Of those that wait longest, as many as may be generated together."""
        first = list(islice(self._waiting, self.concurrency))
        if len({len(sequence.prompt) for sequence in first}) > 1:
            if self._pads is None:
                self._pads = self._reads_padded()
            if not self._pads:
                return [sequence for sequence in first if len(sequence.prompt) == len(first[0].prompt)]
        return first

    def _generate(self, batch: Sequence[Active]) -> list[Completion]:
        for sequence in batch:
            sequence.restart()
        tokens, mask = self._padded([sequence.prompt for sequence in batch])
        drawn = Drawn(batch, self._dialogue, self.device, self.model_name)
        self._network.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=max(sequence.most for sequence in batch),
            do_sample=False,  # of the one token that each row has drawn
            pad_token_id=self._dialogue.tokenizer.pad_token_id,
            eos_token_id=None,  # rows are ended by ``drawn``
            logits_processor=LogitsProcessorList([drawn]),
            stopping_criteria=StoppingCriteriaList([Ended(drawn)]),
        )
        self.usage.tokens_computed += sum(len(sequence.prompt) for sequence in batch)
        self.usage.tokens_generated += sum(len(sequence.generated) for sequence in batch)
        self.usage.thoughts_cut += sum(sequence.cut_short for sequence in batch)
        return [drawn.completions[row] for row in range(len(batch))]

    def _padded(self, prompts: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """[rows, longest]: the prompts, padded on the left, and where they are."""
        longest = max(map(len, prompts))
        tokens = torch.full((len(prompts), longest), self._dialogue.tokenizer.pad_token_id)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.from_numpy(prompt)
            mask[row, longest - len(prompt) :] = 1
        return tokens.to(self.device), mask.to(self.device)

    def _reads_padded(self) -> bool:
        """Whether what the model makes of a prompt does not depend on padding before it."""
        short, long = prompts_to_try(self._dialogue)
        first = [self._first_logits([short])[0], self._first_logits([short, long])[0]]
        return agree(*first)

    def _first_logits(self, prompts: Sequence[Tokens]) -> Tensor:
        """[prompts, vocabulary]: of the second token that ``generate`` takes, which is read from a cache."""
        tokens, mask = self._padded(prompts)
        made = self._network.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=2,
            do_sample=False,
            pad_token_id=self._dialogue.tokenizer.pad_token_id,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits: Tensor = made.logits[-1]
        return logits

    def _rows_at_a_time(self, waiting: deque[Scored]) -> int:
        size = self._network.get_output_embeddings().weight.shape[0]
        longest, rows = 0, 0
        for row in islice(waiting, self.concurrency):
            longest = max(longest, len(row.tokens))
            if rows and (rows + 1) * longest * size > SCORED_LOGITS:
                break
            rows += 1
        return rows

    def _logits(self, rows: Sequence[Scored]) -> Iterator[Tensor]:
        """Of each row, [choice tokens, vocabulary]. Padding comes after a row, where nothing sees it."""
        longest = max(len(row.tokens) for row in rows)
        tokens = torch.full((len(rows), longest), self._dialogue.tokenizer.pad_token_id)
        for number, row in enumerate(rows):
            tokens[number, : len(row.tokens)] = torch.from_numpy(row.tokens)
        logits = self._network(input_ids=tokens.to(self.device), use_cache=False).logits
        self.usage.tokens_computed += sum(len(row.tokens) for row in rows)
        for number, row in enumerate(rows):
            yield logits[number, row.start : len(row.tokens)].float()

    def _scores(self, row: Scored, logits: Tensor) -> dict[int, float]:
        totals = logits.logsumexp(-1, keepdim=True)  # not log_softmax: see ``choice_scores``
        scores = {}
        for choice, target in row.choices.items():
            picked = logits.gather(-1, torch.from_numpy(target)[:, None].to(logits.device)) - totals
            scores[choice] = float(picked.sum())
        return scores

    def _halve(self, error: Exception) -> None:
        """Work on half as many at a time; what was begun is made anew, by the same draws. See ``fewer``."""
        self.concurrency, told = fewer(error, self.concurrency, self.model_name)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(told)


class Drawn(LogitsProcessor):  # type: ignore[misc]
    """Leaves of each row's logits the token that its request draws, and knows when a request has ended."""

    def __init__(
        self, batch: Sequence[Active], dialogue: DialogueTokens, device: torch.device, model: str
    ) -> None:
        self.completions: dict[int, Completion] = {}
        self._batch, self._dialogue, self._model = batch, dialogue, model
        requests = [sequence.request for sequence in batch]
        self._temperature = torch.tensor([request.temperature for request in requests], device=device)
        self._top_p = torch.tensor([request.top_p for request in requests], device=device)

    def __call__(self, _: Tensor, scores: Tensor) -> Tensor:
        """[rows, vocabulary]: 0 at the token drawn, else minus infinity."""
        draws = torch.tensor([sequence.draws.random() for sequence in self._batch], device=scores.device)
        tokens, logprobs = sample(
            scores, self._temperature.float(), self._top_p.float(), draws, model=self._model
        )
        drawn = zip(self._batch, tokens.tolist(), logprobs.tolist(), strict=True)
        for row, (sequence, token, logprob) in enumerate(drawn):
            if row not in self.completions:
                if completion := sequence.add(token, self._dialogue, logprob):
                    self.completions[row] = completion
                tokens[row] = sequence.generated[-1]
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0)


class Ended(StoppingCriteria):  # type: ignore[misc]
    """Which rows have ended."""

    def __init__(self, drawn: Drawn) -> None:
        self._drawn = drawn

    def __call__(self, input_ids: Tensor, _: Tensor, **__: Any) -> Tensor:
        rows = range(len(input_ids))
        return torch.tensor([row in self._drawn.completions for row in rows], device=input_ids.device)
