"""Prompts have beginnings in common: few-shot examples, a dialogue under many principles, a chain's history.

Each common beginning goes through the model once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]

LEAST_TRUNK = 64  # tokens; attention to a shorter common beginning is not worth parting from the rest
LEAST_SAVING = 32  # tokens; a shared beginning that saves fewer is not worth a forward pass of its own


@dataclass(frozen=True)
class Stretch:
    """Tokens ``start`` to ``end`` of a row, to go through the model; the rows in ``copies`` share them."""

    row: int
    start: int
    end: int
    copies: tuple[int, ...] = ()


def common_length(first: Tokens, second: Tokens) -> int:
    """How many tokens two sequences have in common from the beginning."""
    length = min(len(first), len(second))
    different = np.flatnonzero(first[:length] != second[:length])
    return int(different[0]) if len(different) else length


def alike(sequences: Sequence[Tokens], known: Sequence[int]) -> list[tuple[list[int], int]]:
    """Groups of sequences and how many tokens the members of each have in common (0 for the rest of them).

    Only the first ``known[i]`` tokens of sequence i count. Every sequence is in exactly one group.
    """
    groups: dict[bytes, list[int]] = {}
    for number, (sequence, length) in enumerate(zip(sequences, known, strict=True)):
        opening = sequence[:LEAST_TRUNK].tobytes() if length >= LEAST_TRUNK else b""
        groups.setdefault(opening, []).append(number)
    rest = [number for opening, group in groups.items() if not opening or len(group) == 1 for number in group]
    trunks = [(sorted(rest), 0)] if rest else []
    for opening, group in groups.items():
        if opening and len(group) > 1:
            first = sequences[group[0]]
            common = min(common_length(first, sequences[number]) for number in group[1:])
            trunks.append((group, min(common, *(known[number] for number in group))))
    return trunks


def plan(sequences: Sequence[Tokens], shareable: Sequence[int], known: Sequence[int]) -> list[list[Stretch]]:
    """The rounds of stretches that compute every sequence; each round builds on those before it.

    Row i is ``sequences[i]``. Its first ``known[i]`` tokens are in the cache already; only its first
    ``shareable[i]`` may be computed in another row. ``known`` must be the longest match with one set of
    cached sequences, cut to ``shareable``: then rows with a beginning in common either all know it or all
    know equally much of it.
    """
    rounds: list[list[Stretch]] = []
    heads = [sequence[:length] for sequence, length in zip(sequences, shareable, strict=True)]

    def add(depth: int, stretch: Stretch) -> None:
        while len(rounds) <= depth:
            rounds.append([])
        rounds[depth].append(stretch)

    def grow(group: list[int], done: int, depth: int) -> None:
        """``group`` is ordered by heads; its rows have their first ``done`` tokens by round ``depth``."""
        first = group[0]
        start = max(done, known[first])
        if len(group) == 1:
            if start < len(sequences[first]):
                add(depth, Stretch(first, start, len(sequences[first])))
            return
        shared = common_length(heads[first], heads[group[-1]])
        if (shared - start) * (len(group) - 1) >= LEAST_SAVING:
            add(depth, Stretch(first, start, shared, tuple(group[1:])))
            done, depth = shared, depth + 1
        ended = [row for row in group if len(heads[row]) == shared]
        for row in ended:
            grow([row], done, depth)
        for _, branch in groupby(group[len(ended) :], key=lambda row: int(heads[row][shared])):
            grow(list(branch), done, depth)

    if sequences:
        grow(sorted(range(len(heads)), key=lambda row: heads[row].tolist()), 0, 0)
    return rounds
