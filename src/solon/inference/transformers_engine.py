"""The default engine: any transformers causal language model, on the CPU, one CUDA device or MPS."""

import os
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from solon.config import EngineSettings
from solon.errors import SolonError, TooLong, UnsupportedModel, first_line
from solon.inference.attention import NAME, Pass, Trunk
from solon.inference.cache import FinishedSequences, RowCache, Stored
from solon.inference.cuda_graphs import DecodeGraphs
from solon.inference.dialogue_tokens import DialogueTokens, cut
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.packed_linear import PackedLinear, pack
from solon.inference.precision import choose_dtype
from solon.inference.prefix import LEAST_TRUNK, Stretch, Tokens, alike, common_length, plan
from solon.inference.sampling import sample
from solon.inference.scoring import Scored, Sheet, room
from solon.libraries.torch import can_pack
from solon.models import best_device, load_model, load_tokenizer

# At most this many prompt tokens, padding included, in one forward pass: as many as keep the device busy.
PASS_TOKENS = {"cpu": 2048, "mps": 2048, "cuda": 8192}
LEAST_MATCH = 16  # tokens; a shorter common beginning is computed rather than copied
HEAD_ROWS = 16384  # of the head's weights are in float32 at a time
MEMORY_SHARE = 8  # finished sequences are kept in at most this part (1/8) of the device's memory


@dataclass
class Active:
    """A sequence that is being generated; its place in ``TransformersEngine._active`` is its cache row."""

    request: Request
    prompt: Tokens
    stops: tuple[str, ...]
    most: int  # tokens that may be generated
    draws: random.Random
    generated: list[int] = field(default_factory=list)

    def restart(self) -> None:
        self.draws, self.generated = random.Random(self.request.seed), []

    @property
    def tokens(self) -> Tokens:
        """The tokens whose keys and values are in the cache: the last generated one has not been run yet."""
        return np.concatenate([self.prompt, np.array(self.generated[:-1], dtype=np.int64)])


class TransformersEngine(Engine):
    """A continuous batch of at most ``settings.batch_size`` sequences; waiting ones replace finished ones.

    Prompts with a common beginning share its computation, whether they wait together, one of them is being
    continued, or it finished lately. What a request gets depends on the others by rounding alone. Two runs
    with the same requests in the same order give the same texts. Where memory does not suffice, it goes on
    with half as many sequences at a time.

    Raises SolonError where the model cannot be loaded or is not a plain attention model.
    """

    def __init__(self, model: str, settings: EngineSettings) -> None:
        self.model_name = model
        self.concurrency = settings.batch_size
        self.usage = Usage()
        self.device = torch.device(best_device() if settings.device == "auto" else settings.device)
        dtype = choose_dtype(settings.dtype, self.device)
        self.dtype = str(dtype).removeprefix("torch.")
        self._model = load_model(model, dtype).to(self.device)
        self._model.set_attn_implementation(NAME)
        config = self._model.config.get_text_config()
        self._layers: int = config.num_hidden_layers
        self._layer_types = set(getattr(config, "layer_types", None) or ())
        self._window: int | None = getattr(config, "sliding_window", None)
        if unknown := self._layer_types - {"full_attention", "sliding_attention"}:
            raise UnsupportedModel(
                f"model {model!r} has {' and '.join(sorted(unknown))} layers, which the transformers engine "
                "cannot run: use another engine for it, or another model"
            )
        self._context: int = getattr(config, "max_position_embeddings", None) or 2**31
        self._dialogue = DialogueTokens(load_tokenizer(model), self._model)
        # The head runs on the wanted positions only: logits at all positions of a prompt would fill memory.
        self._wanted: tuple[Tensor, Tensor] | None = None
        head = self._model.get_output_embeddings()
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0][self._wanted],))
        if self.device.type == "cpu" and can_pack(dtype):
            pack(self._model, head)
        self._records = self.device.type == "cuda"  # decoding steps as graphs
        self.forget()
        self._too_long: list[TooLong] = []
        self._waiting: deque[Active] = deque()
        self._active: list[Active] = []
        self._ids: set[str] = set()
        self._groups: list[tuple[list[int], int]] | None = (
            None  # of the active sequences; None where they have changed
        )

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
            most = min(request.max_tokens, self._room(prompt, request.id))
        except TooLong as error:
            self._too_long.append(error)
            return
        self._waiting.append(
            Active(
                request,
                prompt,
                self._dialogue.stops(request.stop),
                most,
                random.Random(request.seed),
            )
        )
        self.usage.requests += 1
        self.usage.tokens_naive += len(prompt)

    @torch.inference_mode()
    def poll(self) -> list[Completion | TooLong]:
        finished: list[Completion | TooLong] = [*self._too_long]
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

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | TooLong]:
        """Score every choice of every question, in the order of their prompts' tokens.

        Raises ValueError where a choice is empty.
        """
        sheet = Sheet(self._dialogue, questions, self._context, self.model_name)
        yield from sheet.too_long
        self.usage.requests += len(questions)
        self.usage.tokens_naive += sheet.tokens
        waiting = deque(sheet.rows)
        while waiting:
            batch = list(islice(waiting, self.concurrency))
            try:
                scores = self._score(batch)
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                continue
            for found in scores:
                yield from sheet.enter(waiting.popleft(), found)

    def continue_tokens(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], max_tokens: int, temperature: float
    ) -> list[list[int]]:
        """The tokens sampled after each prompt's, up to the model's end of turn, which is among them.

        For training, where the tokens themselves count. Nothing else may be in flight.
        """
        sequences = [
            Active(
                Request(str(number), (), max_tokens=max_tokens, temperature=temperature, seed=seed),
                prompt,
                (),
                min(max_tokens, self._room(prompt, str(number))),
                random.Random(seed),
            )
            for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]
        self._waiting += sequences
        while self._active or self._waiting:
            self.poll()
        return [sequence.generated for sequence in sequences]

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copy named weights, in the model's own names, over those it has. Nothing may be in flight."""
        for name, weight in weights:
            layer, kind = self._model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            if kind == "weight" and isinstance(layer, PackedLinear):
                layer.load(weight)
            else:
                own = layer.get_parameter(kind)
                own.data = weight.to(self.device, own.dtype, copy=True)
        self.forget()

    def unload(self) -> None:
        """Give the weights' memory back until ``load_weights`` brings all. Nothing may be in flight."""
        for weight in self._model.parameters():
            weight.data = weight.new_empty(0)
        for layer in self._model.modules():
            if isinstance(layer, PackedLinear):
                layer.load(torch.empty(0))
        self.forget()

    def forget(self) -> None:
        """Drop all keys and values, which are those of the weights so far. Nothing may be in flight."""
        self._cache = RowCache(self._layers, self.concurrency, self.device)
        self._graphs: DecodeGraphs | None = None
        self._finished = FinishedSequences(self.concurrency, device_memory(self.device) // MEMORY_SHARE)

    def close(self) -> None:
        del self._model, self._cache, self._finished
        self._waiting.clear()
        self._active.clear()
        self._ids.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _room(self, tokens: Tokens, name: str) -> int:
        return room(self._context, tokens, name, self.model_name)

    def _halve(self, error: Exception) -> None:
        """Work on half as many sequences at a time; those under way begin again, with the same draws.

        Raises ``error`` itself where it is not for want of memory, SolonError where no less can be done.
        """
        if not out_of_memory(error):
            raise error
        if self.concurrency == 1:
            raise SolonError(
                f"memory does not suffice for one sequence of {self.model_name!r}: lower max_tokens, use a "
                "smaller model or engine.dtype bfloat16, or give it more memory"
            ) from None
        before, self.concurrency = self.concurrency, self.concurrency // 2
        for sequence in self._active:
            sequence.restart()
        self._waiting.extendleft(reversed(self._active))
        self._active.clear()
        self._groups = None
        self.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.say(
            f"Memory did not suffice for {before} sequences of {self.model_name} at a time: it went on with "
            f"{self.concurrency}. Set engine.batch_size to that to lose no time next time."
        )

    # Generation

    def _admit(self, count: int) -> list[Completion]:
        first, sequences = len(self._active), list(islice(self._waiting, count))
        longest = max(len(sequence.prompt) + sequence.most for sequence in sequences)
        if self._cache.reserve(first + count, longest, used=first):
            self._graphs = None  # they read the cache where it was
        logits: list[Tensor] = [torch.empty(0)] * len(sequences)
        prompts = [sequence.prompt for sequence in sequences]
        for row, _, last in self._prefill(
            self._cache, first, prompts, [len(prompt) - 1 for prompt in prompts]
        ):
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
            self._groups = self._alike(prompts, [len(prompt) for prompt in prompts])
        rows = slice(0, count)
        return self._sample(0, self._forward(self._cache, rows, tokens, positions, wanted, self._groups))

    def _replay(self, tokens: Tensor, positions: Tensor) -> Tensor | None:
        """The step as a CUDA graph; None, now and later, where the model's pass cannot be recorded."""
        if self._graphs is None:
            self._graphs = DecodeGraphs(self._cache.rows, self.device, self._decode_all)
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

    def _decode_all(self, tokens: Tensor, positions: Tensor, width: int) -> Tensor:
        """One token for every row of the cache, in use or not, so that a graph serves any of them."""
        rows = torch.arange(len(tokens), device=self.device)
        wanted = (rows, torch.zeros_like(rows))
        return self._run(self._cache, slice(0, len(tokens)), tokens, positions, wanted, width, ())

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
        )
        completions = []
        for sequence, token in zip(sequences, tokens.tolist(), strict=True):
            sequence.generated.append(token)
            if completion := self._completion(sequence):
                completions.append(completion)
        self._remove({completion.id for completion in completions})
        self.usage.tokens_generated += len(sequences)
        return completions

    def _completion(self, sequence: Active) -> Completion | None:
        """The sequence's completion if its last token ends it."""
        request, generated = sequence.request, sequence.generated
        ended = generated[-1] in self._dialogue.ends
        prefilled = bool(request.prefill)
        text = None
        if sequence.stops and not ended:
            # Every token adds at least a byte, so a stop string just completed lies in these.
            tail = generated[-max(len(stop.encode()) for stop in sequence.stops) - 3 :]
            if cut(self._dialogue.text(tail, prefilled=True), sequence.stops) is not None:
                text = cut(self._dialogue.text(generated, prefilled), sequence.stops)
        if text is None and not ended and len(generated) < sequence.most:
            return None
        finish: Literal["stop", "length"] = "stop" if ended or text is not None else "length"
        if text is None:
            text = self._dialogue.text(generated[:-1] if ended else generated, prefilled)
        return Completion(request.id, text, finish, len(generated))

    def _remove(self, ids: set[str]) -> None:
        """Take finished sequences out; the last rows move into their places, so active rows stay dense."""
        rows = [row for row, sequence in enumerate(self._active) if sequence.request.id in ids]
        # First what takes memory: where it fails, all of them are still here.
        for row in reversed(rows):
            self._finished.keep(self._active[row].tokens, partial(self._cache.read, row))
        for row in reversed(rows):
            sequence = self._active[row]
            last = self._active.pop()
            if last is not sequence:
                self._active[row] = last
                self._cache.copy(len(self._active), [row], 0, len(last.tokens))
        if ids:
            self._ids -= ids
            self._groups = None

    # Scoring

    @torch.inference_mode()
    def _score(self, rows: list[Scored]) -> list[dict[int, float]]:
        """The log-probabilities of each row's choices, by number."""
        scores = [dict.fromkeys(row.choices, 0.0) for row in rows]
        found: list[tuple[int, int, Tensor]] = []  # row, choice, and the sum of some of its tokens
        sequences = [row.tokens for row in rows]
        base = self._beginning(sequences, min(row.start for row in rows))
        cache = RowCache(self._layers, len(rows), self.device, base)
        cache.reserve(len(rows), max(map(len, sequences)), used=0)
        # Rounding matters where one token decides; over the many tokens of a text it averages out.
        letters = all(len(target) == 1 for row in rows for target in row.choices.values())
        with logits_in_float32(self._model.get_output_embeddings()) if letters else nullcontext():
            for number, position, output in self._prefill(cache, 0, sequences, [row.start for row in rows]):
                row, logits = rows[number], output.float()
                # Not log_softmax: on a CPU it adds the vocabulary up in too few sums, and every logprob of a
                # long text is then too high by 2e-5 (torch 2.13, float32, AVX2).
                totals = logits.logsumexp(-1, keepdim=True)
                begin = position - row.start
                for choice, target in row.choices.items():
                    tokens = torch.from_numpy(target[begin : begin + len(logits)]).to(self.device)
                    picked = logits.gather(-1, tokens[:, None]) - totals
                    found.append((number, choice, picked.sum(dtype=torch.float32)))
        sums = torch.stack([each for *_, each in found]).tolist()  # together: each asking waits for a GPU
        for (number, choice, _), score in zip(found, sums, strict=True):
            scores[number][choice] += score
        # The rows are sorted, so none of them has more in common with the next batch than the last one.
        self._finished.keep(sequences[-1], partial(cache.read, len(rows) - 1))
        return scores

    def _beginning(self, sequences: list[Tokens], most: int) -> Stored | None:
        """What all of them, in the order of their tokens, begin with, up to ``most`` tokens.

        None where it is too short to be kept apart. Accelerators read all sequences' own rows, and windowed
        attention does not see all of it.
        """
        common = min(common_length(sequences[0], sequences[-1]), most)
        apart = self.device.type == "cpu" and self._window is None and len(sequences) > 1
        if not apart or common < LEAST_TRUNK:
            return None
        cache = RowCache(self._layers, 1, self.device)
        cache.reserve(1, common, used=0)
        deque(self._prefill(cache, 0, [sequences[0][:common]], [common]), maxlen=0)
        return cache.read(0, 0, common)

    # The model

    def _prefill(
        self, cache: RowCache, first: int, sequences: list[Tokens], wanted: list[int]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Compute each sequence into the cache's rows from ``first`` on, shared beginnings once.

        Yields (number of the sequence, position, logits [positions, vocabulary]) for consecutive runs of
        positions that together are all from ``wanted`` on.
        """
        known = [
            self._reuse(cache, first + number, sequence[:limit])
            for number, (sequence, limit) in enumerate(zip(sequences, wanted, strict=True))
        ]
        for stretches in plan(sequences, wanted, known):
            for group in passes(stretches, PASS_TOKENS[self.device.type]):
                longest = max(stretch.end - stretch.start for stretch in group)
                tokens = torch.zeros(len(group), longest, dtype=torch.long)
                positions = torch.full_like(tokens, -1)
                picked: list[tuple[int, int]] = []
                runs = []
                for place, stretch in enumerate(group):
                    length = stretch.end - stretch.start
                    tokens[place, :length] = torch.from_numpy(
                        sequences[stretch.row][stretch.start : stretch.end]
                    )
                    positions[place, :length] = torch.arange(stretch.start, stretch.end)
                    begin = max(stretch.start, wanted[stretch.row])
                    if begin < stretch.end:
                        runs.append((stretch.row, begin, stretch.end - begin))
                        picked += [
                            (place, position - stretch.start) for position in range(begin, stretch.end)
                        ]
                rows = torch.tensor([first + stretch.row for stretch in group], device=self.device)
                where = torch.tensor(picked, dtype=torch.long).reshape(-1, 2)
                groups = (
                    []
                    if cache.base
                    else self._alike(
                        [sequences[stretch.row] for stretch in group], [stretch.start for stretch in group]
                    )
                )
                logits = self._forward(cache, rows, tokens, positions, (where[:, 0], where[:, 1]), groups)
                self.usage.tokens_computed += sum(stretch.end - stretch.start for stretch in group)
                taken = 0
                for row, begin, length in runs:
                    yield row, begin, logits[taken : taken + length]
                    taken += length
            for stretch in stretches:
                if stretch.copies:
                    targets = [first + row for row in stretch.copies]
                    cache.copy(first + stretch.row, targets, stretch.start, stretch.end)

    def _reuse(self, cache: RowCache, row: int, tokens: Tokens) -> int:
        """Copy the longest known beginning of ``tokens`` into the row; returns its length."""
        length, stored = self._finished.longest_match(tokens)
        best = -1
        if cache is self._cache:
            for number, sequence in enumerate(self._active):
                may_be = more_alike(sequence.prompt, tokens, length)
                if may_be and (common := common_length(sequence.prompt, tokens)) > length:
                    length, best = common, number
        if length < max(LEAST_MATCH, cache.before):
            return cache.before
        if best >= 0:
            cache.copy(best, [row], 0, length)
        else:
            cache.write(row, stored, length)
        return length

    def _forward(
        self,
        cache: RowCache,
        rows: slice | Tensor,
        tokens: Tensor,
        positions: Tensor,
        wanted: tuple[Tensor, Tensor],
        groups: Sequence[tuple[list[int], int]],
    ) -> Tensor:
        """Run tokens [rows, length] at their positions (-1: padding); logits [wanted, vocabulary]."""
        # The widths are asked for here, on the CPU: asking a GPU is waiting for it.
        width = int(positions.max()) + 1
        trunks = [Trunk(places, length, int(positions[places].max()) + 1) for places, length in groups]
        places, columns = (each.to(self.device) for each in wanted)
        return self._run(
            cache, rows, tokens.to(self.device), positions.to(self.device), (places, columns), width, trunks
        )

    def _run(
        self,
        cache: RowCache,
        rows: slice | Tensor,
        tokens: Tensor,
        positions: Tensor,
        wanted: tuple[Tensor, Tensor],
        width: int,
        trunks: Sequence[Trunk],
    ) -> Tensor:
        """The same with all on the device, and the first ``width`` columns of the cache read."""
        cache.place(rows, positions)
        self._wanted = wanted
        output = self._model(
            input_ids=tokens,
            attention_mask=self._masks(positions, cache.before, width),
            position_ids=positions.clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            cached=Pass(rows, trunks, cache.base),
        )
        logits: Tensor = output.logits
        return logits

    def _alike(self, sequences: Sequence[Tokens], known: Sequence[int]) -> list[tuple[list[int], int]]:
        """What the sequences of a pass share of their ``known`` tokens: nothing in windowed attention.

        Accelerators read all sequences' own rows.
        """
        if self.device.type != "cpu":
            return []
        if self._window is not None:
            known = [0] * len(sequences)
        return alike(sequences, known)

    def _masks(self, positions: Tensor, first: int, width: int) -> Tensor | dict[str, Tensor]:
        """Added to attention scores, [rows, 1, length, positions]: a token sees itself and what is before it.

        The positions are those from ``first`` to ``width``.
        """
        columns = torch.arange(first, width, device=self.device)
        visible = columns <= positions[:, :, None]
        full = self._mask(visible)
        if self._window is None or (self._layer_types and "sliding_attention" not in self._layer_types):
            return full
        sliding = self._mask(visible & (columns > positions[:, :, None] - self._window))
        return {"full_attention": full, "sliding_attention": sliding} if self._layer_types else sliding

    def _mask(self, visible: Tensor) -> Tensor:
        dtype = self._model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype, device=self.device)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def more_alike(prompt: Tokens, tokens: Tokens, length: int) -> bool:
    """Whether they may have more than ``length`` tokens in common: the next one is the same."""
    return min(len(prompt), len(tokens)) > length and bool(prompt[length] == tokens[length])


def passes(stretches: list[Stretch], most: int) -> Iterator[list[Stretch]]:
    """The stretches of a round in forward passes: like lengths together, padding within ``most`` tokens."""
    group: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda stretch: (stretch.start - stretch.end, stretch.row)):
        longest = group[0].end - group[0].start if group else 0
        if group and (len(group) + 1) * longest > most:
            yield group
            group = []
        group.append(stretch)
    yield group


@contextmanager
def logits_in_float32(head: nn.Module) -> Iterator[None]:
    """Meanwhile the head's products are not rounded to the model's own type.

    bfloat16 has steps of 0.125 between 16 and 32, where most logits are. Of answers judged in both
    orders it made exact ties: 14 of 32 pairs with the embedded model.
    """

    def precise(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if output.dtype == torch.float32 or not isinstance(head, nn.Linear):
            return output.float()
        states, parts = inputs[0].float(), torch.split(head.weight, HEAD_ROWS)
        logits = torch.cat([nn.functional.linear(states, part.float()) for part in parts], dim=-1)
        return logits if head.bias is None else logits + head.bias

    handle = head.register_forward_hook(precise)
    try:
        yield
    finally:
        handle.remove()


def out_of_memory(error: Exception) -> bool:
    """Whether it says so: on CUDA it has a type of its own, elsewhere only words."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        each in str(error) for each in words
    )


def device_memory(device: torch.device) -> int:
    """All of the device's memory in bytes, in use or not."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
