"""Sequences under way in the rows of a ``RowCache``, for models of plain attention."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from solon.errors import first_line
from solon.inference.active import Active
from solon.inference.cache import FinishedSequences
from solon.inference.cached_model import CachedModel, Group
from solon.inference.choice_scores import beginning, choice_scores
from solon.inference.cuda_graphs import DecodeGraphs
from solon.inference.memory import MEMORY_SHARE, device_memory, out_of_memory
from solon.inference.prefill import Prefill
from solon.inference.rows import Count, Rows, take_out
from solon.inference.scoring import Scored


class CachedRows(Rows):
    """What sequences begin with in common is computed once, and on a CPU read once.

    On a GPU decoding steps are graphs, where the model's pass can be recorded; ``say`` is told where not.
    """

    def __init__(self, model: CachedModel, rows: int, count: Count, say: Callable[[str], None]) -> None:
        self._model, self._count, self._say = model, count, say
        self._records = model.device.type == "cuda"  # decoding steps as graphs
        self.forget(rows)

    def forget(self, rows: int) -> None:
        self._cache = self._model.cache(rows)
        self._graphs: DecodeGraphs | None = None
        self._groups: list[Group] | None = None  # of the active sequences; None where they have changed
        finished = FinishedSequences(rows, device_memory(self._model.device) // MEMORY_SHARE)
        self._prefill = Prefill(self._model, finished, self._count)

    def admit(self, active: Sequence[Active], new: Sequence[Active]) -> Tensor:
        first = len(active)
        longest = max(len(sequence.prompt) + sequence.most for sequence in new)
        if self._cache.reserve(first + len(new), longest, used=first):
            self._graphs = None  # they read the cache where it was
        logits: list[Tensor] = [torch.empty(0)] * len(new)
        prompts = [sequence.prompt for sequence in new]
        wanted = [len(prompt) - 1 for prompt in prompts]
        there = [sequence.prompt for sequence in active]
        for row, _, last in self._prefill(self._cache, first, prompts, wanted, there):
            logits[row] = last
        self._groups = None
        return torch.cat(logits)

    def step(self, active: Sequence[Active]) -> Tensor:
        count = len(active)
        tokens = torch.tensor([[sequence.generated[-1]] for sequence in active])
        positions = torch.tensor([[sequence.length] for sequence in active])
        if self._records and (logits := self._replay(tokens, positions)) is not None:
            return logits
        wanted = (torch.arange(count), torch.zeros(count, dtype=torch.long))
        if self._groups is None:  # sequences have come or gone since
            prompts = [sequence.prompt for sequence in active]
            self._groups = self._model.alike(prompts, [len(prompt) for prompt in prompts])
        return self._model.forward(self._cache, slice(0, count), tokens, positions, wanted, self._groups)

    def remove(self, active: list[Active], rows: Sequence[int]) -> None:
        # First what takes memory: where it fails, all of them are still here.
        for row in reversed(rows):
            self._prefill.finished.keep(active[row].tokens, partial(self._cache.read, row))
        take_out(active, rows, lambda old, new: self._cache.copy(old, [new], 0, len(active[new].tokens)))
        self._groups = None

    def scores(self, rows: list[Scored]) -> list[dict[int, float]]:
        sequences, wanted = [row.tokens for row in rows], [row.start for row in rows]
        cache = self._model.cache(len(rows), beginning(self._prefill, sequences, min(wanted)))
        cache.reserve(len(rows), max(map(len, sequences)), used=0)
        scores = choice_scores(self._prefill(cache, 0, sequences, wanted), rows, self._model.head)
        # The rows are sorted, so none of them has more in common with the next batch than the last one.
        self._prefill.finished.keep(sequences[-1], partial(cache.read, len(rows) - 1))
        return scores

    def _replay(self, tokens: Tensor, positions: Tensor) -> Tensor | None:
        """The step as a CUDA graph; None, now and later, where the model's pass cannot be recorded."""
        if self._graphs is None:
            step = partial(self._model.step, self._cache)
            self._graphs = DecodeGraphs(self._cache.rows, self._model.device, step)
        try:
            return self._graphs.run(tokens, positions)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._records, self._graphs = False, None
            self._say(
                f"Decoding steps of {self._model.name} cannot be recorded as a CUDA graph "
                f"({first_line(error)}): they are launched kernel by kernel, which is slower."
            )
            return None
