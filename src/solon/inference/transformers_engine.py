"""The default engine: transformers' causal language models, on the CPU, one CUDA device or MPS."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from solon.config import EngineSettings
from solon.errors import SetAside, TooLong, UnsupportedModel
from solon.inference.active import Active, Answer, begin, continuing
from solon.inference.cached_model import CachedModel
from solon.inference.cached_rows import CachedRows
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.loaded_model import LoadedModel, load
from solon.inference.memory import fewer
from solon.inference.prefix import Tokens
from solon.inference.rows import Rows
from solon.inference.sampling import sample
from solon.inference.scoring import Sheet, room
from solon.inference.state_rows import StateRows
from solon.models import best_device, load_tokenizer
from solon.role_settings import DEFAULT, Role


class TransformersEngine(Engine):
    """A continuous batch of at most ``settings.batch_size`` sequences; waiting ones replace finished ones.

    Prompts with a common beginning share its computation, whether they wait together, one of them is being
    continued, or it finished lately. What a request gets depends on the others by rounding alone. Two runs
    with the same requests in the same order give the same texts. Where memory does not suffice, it goes on
    with half as many sequences at a time.

    A network that is ``lent`` stays a training's: the engine runs it ``at_work`` alone, in whatever number
    type it is.

    Raises SolonError where the model cannot be loaded, UnsupportedModel where its states can be neither kept
    in the rows of a cache nor copied.
    """

    def __init__(
        self, model: str, settings: EngineSettings, role: Role = DEFAULT, lent: PreTrainedModel | None = None
    ) -> None:
        self.model_name, self.role = model, role
        self.concurrency = settings.batch_size
        self.usage = Usage()
        self.device = torch.device(best_device() if settings.device == "auto" else settings.device)
        network = lent or load(model, settings, self.device)
        self.dtype = str(network.dtype).removeprefix("torch.")
        self._model = LoadedModel(model, network, self.device, lent is not None)
        with self._model.at_work() if lent else nullcontext():
            self._rows = self._open_rows()
        del self._model.plain  # tried: the whole vocabulary's logits are no longer needed
        self._dialogue = DialogueTokens(load_tokenizer(model, role=role), self._model.network, role.system)
        self.thinks = self._dialogue.thinking.may_come and role.thoughts > 0
        self._too_long: list[TooLong] = []
        self._waiting: deque[Active] = deque()
        self._active: list[Active] = []
        self._ids: set[str] = set()

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
            room_left = self._room(prompt, request.id)
        except TooLong as error:
            self._too_long.append(error)
            return
        self._waiting.append(begin(request, prompt, self._dialogue, room_left, self.role.thoughts))
        self.usage.requests += 1
        self.usage.tokens_naive += len(prompt)

    @torch.inference_mode()
    def poll(self) -> list[Completion | SetAside]:
        finished: list[Completion | SetAside] = [*self._too_long]
        self._ids -= {error.id for error in self._too_long}
        self._too_long.clear()
        while not finished and (self._active or self._waiting):
            ready = min(self.concurrency - len(self._active), len(self._waiting))
            try:
                # A pass for one new prompt takes nearly as long as one for several, but while prompts wait
                # for each other their rows are idle: with n rows at work it is best at about sqrt(n) of them
                # (the square-root law of order quantities).
                if ready and ready * ready >= len(self._active):
                    finished += self._admit(ready)
                else:
                    finished += self._sample(0, self._rows.step(self._active))
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
        return finished

    @torch.inference_mode()
    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        """Score every choice of every question, in the order of their prompts' tokens.

        Raises ValueError where a choice is empty.
        """
        sheet = Sheet(self._dialogue, questions, self._model.context, self.model_name)
        yield from sheet.too_long
        self.usage.requests += len(questions)
        self.usage.tokens_naive += sheet.tokens
        waiting = deque(sheet.rows)
        while waiting:
            batch = list(islice(waiting, self.concurrency))
            try:
                scores = self._rows.scores(batch)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                continue
            for row_scores in scores:
                yield from sheet.enter(waiting.popleft(), row_scores)

    def continue_tokens(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], max_tokens: int, temperature: float
    ) -> list[Answer]:
        """The tokens sampled after each prompt's, up to the end of the answer, which is among them.

        It ends as any text does: with the model's end of turn, or where a base model would write the human's
        next turn (``DialogueTokens.written`` tells which part is the text). For training, where the tokens
        themselves count. Nothing else may be in flight.
        """
        sequences = continuing(prompts, seeds, max_tokens, temperature, self._dialogue, self._room)
        self._waiting += sequences
        while self._active or self._waiting:
            self.poll()
        return [(sequence.generated, sequence.logprobs) for sequence in sequences]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, a lent network answers; nothing is kept afterwards, since its weights may change."""
        with self._model.at_work():
            yield
        self.forget()

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copy named weights, in the model's own names, over those it has. Nothing may be in flight."""
        self._model.load_weights(weights)
        self.forget()

    def unload(self) -> None:
        """Give the weights' memory back until ``load_weights`` brings all. Nothing may be in flight."""
        self._model.unload()
        self.forget()

    def forget(self) -> None:
        """Drop all keys and values, which are those of the weights so far. Nothing may be in flight."""
        self._rows.forget(self.concurrency)

    def _open_rows(self) -> Rows:
        try:
            model = CachedModel(self._model)
        except UnsupportedModel:
            return StateRows(self._model, self.concurrency, self._count)
        return CachedRows(model, self.concurrency, self._count, self._tell)

    def close(self) -> None:
        del self._model, self._rows
        self._waiting.clear()
        self._active.clear()
        self._ids.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _room(self, tokens: Tokens, name: str) -> int:
        return room(self._model.context, tokens, name, self.model_name)

    def _tell(self, text: str) -> None:
        self.say(text)  # as it is by then: whoever opened the engine may replace it

    def _count(self, tokens: int) -> None:
        self.usage.tokens_computed += tokens

    def _halve(self, error: Exception) -> None:
        """Work on half as many at a time; those under way begin again, with the same draws. See ``fewer``."""
        self.concurrency, told = fewer(error, self.concurrency, self.model_name)
        for sequence in self._active:
            sequence.restart()
        self._waiting.extendleft(reversed(self._active))
        self._active.clear()
        self.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(told)

    def _admit(self, count: int) -> list[Completion]:
        first, sequences = len(self._active), list(islice(self._waiting, count))
        logits = self._rows.admit(self._active, sequences)
        self._active += sequences
        for _ in sequences:
            self._waiting.popleft()
        return self._sample(first, logits)

    def _sample(self, first: int, logits: Tensor) -> list[Completion]:
        """Give every active sequence from row ``first`` on its next token; finish those that end with it."""
        sequences = self._active[first:]
        tokens, logprobs = sample(
            logits,
            *(
                torch.tensor(values, dtype=torch.float32, device=self.device)
                for values in (
                    [sequence.request.temperature for sequence in sequences],
                    [sequence.request.top_p for sequence in sequences],
                    [sequence.draws.random() for sequence in sequences],
                )
            ),
            model=self.model_name,
        )
        completions = []
        for sequence, token, logprob in zip(sequences, tokens.tolist(), logprobs.tolist(), strict=True):
            if completion := sequence.add(token, self._dialogue, logprob):
                completions.append(completion)
                self.usage.thoughts_cut += sequence.cut_short
        self._remove({completion.id for completion in completions})
        self.usage.tokens_generated += len(sequences)
        return completions

    def _remove(self, ids: set[str]) -> None:
        rows = [row for row, sequence in enumerate(self._active) if sequence.request.id in ids]
        if rows:
            self._rows.remove(self._active, rows)
        self._ids -= ids
