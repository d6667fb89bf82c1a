"""The default engine: any transformers causal language model, on the CPU, one CUDA device or MPS."""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from solon.config import EngineSettings
from solon.errors import SetAside, TooLong, first_line
from solon.inference.active import Active, begin
from solon.inference.cache import FinishedSequences
from solon.inference.cached_model import CachedModel, Group
from solon.inference.choice_scores import choice_scores
from solon.inference.cuda_graphs import DecodeGraphs
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.memory import MEMORY_SHARE, device_memory, fewer, out_of_memory
from solon.inference.precision import choose_dtype
from solon.inference.prefill import Prefill
from solon.inference.prefix import Tokens
from solon.inference.sampling import sample
from solon.inference.scoring import Sheet, room
from solon.models import best_device, load_tokenizer
from solon.role_settings import DEFAULT, Role


class TransformersEngine(Engine):
    """A continuous batch of at most ``settings.batch_size`` sequences; waiting ones replace finished ones.

    Prompts with a common beginning share its computation, whether they wait together, one of them is being
    continued, or it finished lately. What a request gets depends on the others by rounding alone. Two runs
    with the same requests in the same order give the same texts. Where memory does not suffice, it goes on
    with half as many sequences at a time.

    Raises SolonError where the model cannot be loaded or is not a plain attention model.
    """

    def __init__(self, model: str, settings: EngineSettings, role: Role = DEFAULT) -> None:
        self.model_name, self.role = model, role
        self.concurrency = settings.batch_size
        self.usage = Usage()
        self.device = torch.device(best_device() if settings.device == "auto" else settings.device)
        dtype = choose_dtype(settings.dtype, self.device)
        self.dtype = str(dtype).removeprefix("torch.")
        self._model = CachedModel(model, dtype, self.device)
        tokenizer = load_tokenizer(model, role=role)
        self._dialogue = DialogueTokens(tokenizer, self._model.network, role.system)
        self.thinks = self._dialogue.thinking.may_come and role.thoughts > 0
        self._records = self.device.type == "cuda"  # decoding steps as graphs
        self.forget()
        self._too_long: list[TooLong] = []
        self._waiting: deque[Active] = deque()
        self._active: list[Active] = []
        self._ids: set[str] = set()
        self._groups: list[Group] | None = None  # of the active sequences; None where they have changed

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
                    finished += self._decode()
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
        return finished

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
                scores = choice_scores(self._prefill, batch)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                continue
            for row_scores in scores:
                yield from sheet.enter(waiting.popleft(), row_scores)

    def continue_tokens(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], max_tokens: int, temperature: float
    ) -> list[list[int]]:
        """The tokens sampled after each prompt's, up to the end of the answer, which is among them.

        It ends as any text does: with the model's end of turn, or where a base model would write the human's
        next turn (``DialogueTokens.written`` tells which part is the text). For training, where the tokens
        themselves count. Nothing else may be in flight.
        """
        sequences = [
            Active(
                Request(str(number), (), max_tokens=max_tokens, temperature=temperature, seed=seed),
                prompt,
                self._dialogue.stops(()),
                min(max_tokens, self._room(prompt, str(number))),
                random.Random(seed),
            )
            for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]
        self._waiting += sequences
        while self._active or self._waiting:
            self.poll()
        return [sequence.generated for sequence in sequences]

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
        self._cache = self._model.cache(self.concurrency)
        self._graphs: DecodeGraphs | None = None
        finished = FinishedSequences(self.concurrency, device_memory(self.device) // MEMORY_SHARE)
        self._prefill = Prefill(self._model, finished, self._count)

    def close(self) -> None:
        del self._model, self._cache, self._graphs, self._prefill
        self._waiting.clear()
        self._active.clear()
        self._ids.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _room(self, tokens: Tokens, name: str) -> int:
        return room(self._model.context, tokens, name, self.model_name)

    def _count(self, tokens: int) -> None:
        self.usage.tokens_computed += tokens

    def _halve(self, error: Exception) -> None:
        """Work on half as many at a time; those under way begin again, with the same draws. See ``fewer``."""
        self.concurrency, told = fewer(error, self.concurrency, self.model_name)
        for sequence in self._active:
            sequence.restart()
        self._waiting.extendleft(reversed(self._active))
        self._active.clear()
        self._groups = None
        self.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(told)

    def _admit(self, count: int) -> list[Completion]:
        first, sequences = len(self._active), list(islice(self._waiting, count))
        longest = max(len(sequence.prompt) + sequence.most for sequence in sequences)
        if self._cache.reserve(first + count, longest, used=first):
            self._graphs = None  # they read the cache where it was
        logits: list[Tensor] = [torch.empty(0)] * len(sequences)
        prompts = [sequence.prompt for sequence in sequences]
        wanted = [len(prompt) - 1 for prompt in prompts]
        there = [sequence.prompt for sequence in self._active]
        for row, _, last in self._prefill(self._cache, first, prompts, wanted, there):
            logits[row] = last
        self._active += sequences
        for _ in sequences:
            self._waiting.popleft()
        self._groups = None
        return self._sample(first, torch.cat(logits))

    def _decode(self) -> list[Completion]:
        count = len(self._active)
        tokens = torch.tensor([[sequence.generated[-1]] for sequence in self._active])
        positions = torch.tensor(
            [[len(sequence.prompt) + len(sequence.generated) - 1] for sequence in self._active]
        )
        if self._records and (logits := self._replay(tokens, positions)) is not None:
            return self._sample(0, logits)
        wanted = (torch.arange(count), torch.zeros(count, dtype=torch.long))
        if self._groups is None:  # sequences have come or gone since
            prompts = [sequence.prompt for sequence in self._active]
            self._groups = self._model.alike(prompts, [len(prompt) for prompt in prompts])
        rows = slice(0, count)
        return self._sample(
            0, self._model.forward(self._cache, rows, tokens, positions, wanted, self._groups)
        )

    def _replay(self, tokens: Tensor, positions: Tensor) -> Tensor | None:
        """The step as a CUDA graph; None, now and later, where the model's pass cannot be recorded."""
        if self._graphs is None:
            step = partial(self._model.step, self._cache)
            self._graphs = DecodeGraphs(self._cache.rows, self.device, step)
        try:
            return self._graphs.run(tokens, positions)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._records, self._graphs = False, None
            self.say(
                f"Decoding steps of {self.model_name} cannot be recorded as a CUDA graph "
                f"({first_line(error)}): they are launched kernel by kernel, which is slower."
            )
            return None

    def _sample(self, first: int, logits: Tensor) -> list[Completion]:
        """Give every active sequence from row ``first`` on its next token; finish those that end with it."""
        sequences = self._active[first:]
        tokens = sample(
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
        for sequence, token in zip(sequences, tokens.tolist(), strict=True):
            if completion := sequence.add(token, self._dialogue):
                completions.append(completion)
                self.usage.thoughts_cut += sequence.cut_short
        self._remove({completion.id for completion in completions})
        self.usage.tokens_generated += len(sequences)
        return completions

    def _remove(self, ids: set[str]) -> None:
        """Take finished sequences out; the last rows move into their places, so active rows stay dense."""
        rows = [row for row, sequence in enumerate(self._active) if sequence.request.id in ids]
        # First what takes memory: where it fails, all of them are still here.
        for row in reversed(rows):
            self._prefill.finished.keep(self._active[row].tokens, partial(self._cache.read, row))
        for row in reversed(rows):
            sequence = self._active[row]
            last = self._active.pop()
            if last is not sequence:
                self._active[row] = last
                self._cache.copy(len(self._active), [row], 0, len(last.tokens))
        if ids:
            self._ids -= ids
            self._groups = None
