"""Reading prompts: each goes through the model but for what is known of it, shared beginnings once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from solon.inference.cache import FinishedSequences, RowCache
from solon.inference.cached_model import CachedModel
from solon.inference.prefix import Stretch, Tokens, common_length, plan

# At most this many prompt tokens, padding included, in one forward pass: as many as keep the device busy.
PASS_TOKENS = {"cpu": 2048, "mps": 2048, "cuda": 8192}
LEAST_MATCH = 16  # tokens; a shorter common beginning is computed rather than copied

Logits = tuple[int, int, Tensor]
"""The number of a sequence, a position in it, and logits [positions, vocabulary] from that position on."""


@dataclass(frozen=True)
class Prefill:
    """Fills rows of a cache with sequences; ``finished`` are those whose keys and values are at hand."""

    model: CachedModel
    finished: FinishedSequences
    count: Callable[[int], None]  # is told of each forward pass's tokens

    def __call__(
        self,
        cache: RowCache,
        first: int,
        sequences: Sequence[Tokens],
        wanted: Sequence[int],
        there: Sequence[Tokens] = (),
    ) -> Iterator[Logits]:
        """Compute each sequence into the cache's rows from ``first`` on.

        ``there`` is what the rows from 0 on begin with already. Yields logits for consecutive runs of
        positions that together are all from ``wanted`` on.
        """
        known = [
            self._reuse(cache, first + number, sequence[:limit], there)
            for number, (sequence, limit) in enumerate(zip(sequences, wanted, strict=True))
        ]
        for stretches in plan(sequences, wanted, known):
            for group in passes(stretches, PASS_TOKENS[self.model.device.type]):
                yield from self._pass(cache, first, group, sequences, wanted)
            for stretch in stretches:
                if stretch.copies:
                    targets = [first + row for row in stretch.copies]
                    cache.copy(first + stretch.row, targets, stretch.start, stretch.end)

    def _reuse(self, cache: RowCache, row: int, tokens: Tokens, there: Sequence[Tokens]) -> int:
        """Copy the longest known beginning of ``tokens`` into the row; returns its length."""
        length, stored = self.finished.longest_match(tokens)
        best = -1
        for number, other in enumerate(there):
            if more_alike(other, tokens, length) and (common := common_length(other, tokens)) > length:
                length, best = common, number
        if length < max(LEAST_MATCH, cache.before):
            return cache.before
        if best >= 0:
            cache.copy(best, [row], 0, length)
        else:
            cache.write(row, stored, length)
        return length

    def _pass(
        self,
        cache: RowCache,
        first: int,
        group: Sequence[Stretch],
        sequences: Sequence[Tokens],
        wanted: Sequence[int],
    ) -> Iterator[Logits]:
        """One forward pass, over a group of stretches."""
        longest = max(stretch.end - stretch.start for stretch in group)
        tokens = torch.zeros(len(group), longest, dtype=torch.long)
        positions = torch.full_like(tokens, -1)
        picked: list[tuple[int, int]] = []
        runs = []
        for place, stretch in enumerate(group):
            length = stretch.end - stretch.start
            tokens[place, :length] = torch.from_numpy(sequences[stretch.row][stretch.start : stretch.end])
            positions[place, :length] = torch.arange(stretch.start, stretch.end)
            begin = max(stretch.start, wanted[stretch.row])
            if begin < stretch.end:
                runs.append((stretch.row, begin, stretch.end - begin))
                picked += [(place, position - stretch.start) for position in range(begin, stretch.end)]
        rows = torch.tensor([first + stretch.row for stretch in group], device=self.model.device)
        where = torch.tensor(picked, dtype=torch.long).reshape(-1, 2)
        alike = (
            []
            if cache.base
            else self.model.alike(
                [sequences[stretch.row] for stretch in group], [stretch.start for stretch in group]
            )
        )
        logits = self.model.forward(cache, rows, tokens, positions, (where[:, 0], where[:, 1]), alike)
        self.count(sum(stretch.end - stretch.start for stretch in group))
        taken = 0
        for row, begin, length in runs:
            yield row, begin, logits[taken : taken + length]
            taken += length


def more_alike(one: Tokens, other: Tokens, length: int) -> bool:
    """Whether they may have more than ``length`` tokens in common: the next one is the same."""
    return min(len(one), len(other)) > length and bool(one[length] == other[length])


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
