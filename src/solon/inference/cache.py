"""Keys and values of the sequences being worked on, and of those lately finished."""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import Cache

from solon.errors import UnsupportedModel
from solon.inference.prefix import Tokens, common_length

COLUMN_BLOCK = 256  # rows grow by whole blocks, so that they grow seldom

LEAST_SHARED = 64  # tokens; of a shorter common beginning every finished sequence has its own copy

Stored = tuple[Tensor, Tensor]
"""Keys and values of some tokens of a sequence, each [layers, heads, tokens, head width]."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Some consecutive tokens of one or more finished sequences."""

    length: int
    states: Stored

    @cached_property
    def size(self) -> int:
        """In bytes."""
        return sum(states.nbytes for states in self.states)

    def split(self, length: int) -> "tuple[Piece, Piece]":
        """In two, of which each can go without the other."""
        keys, values = self.states
        first = keys[:, :, :length].clone(), values[:, :, :length].clone()
        second = keys[:, :, length:].clone(), values[:, :, length:].clone()
        return Piece(length, first), Piece(self.length - length, second)


class RowCache(Cache):  # type: ignore[misc]
    """One row a sequence, one column a token, filled from column 0: a token's column is its position.

    A forward pass says with ``place`` which rows it works on and where its tokens go. The rows are written in
    place and attention gets them whole, so a decoding step copies nothing but the new tokens. The last column
    takes the padding's keys and values and is never read. All layers lie together, so that a row is copied
    at once.

    Where every row begins with the same tokens, ``base`` may have them, once for all: then the rows' columns
    begin behind it. All positions and lengths count the base.
    """

    def __init__(self, layers: int, rows: int, device: torch.device, base: Stored | None = None) -> None:
        """For at most ``rows`` rows; there are as many as ``reserve`` has made."""
        super().__init__(layers=[])
        self.rows = self.columns = 0
        self.base, self.before = base, base[0].shape[2] if base else 0
        # Keys and values, each [layers, rows, heads, columns, head width], made when the first come.
        self.kept: tuple[Tensor, Tensor] | None = None
        self._layers = layers
        self._row_numbers = torch.arange(rows, device=device)

    def reserve(self, rows: int, tokens: int, used: int) -> bool:
        """Make room for so many rows of so many tokens, keeping the first ``used``; whether they moved.

        Only as many rows as were wanted so far: a small batch in a large one's room would fill memory.
        """
        tokens -= self.before
        if rows <= self.rows and tokens < self.columns:  # one column is the padding's
            return False
        self.rows = max(self.rows, rows)
        self.columns = max(self.columns, (tokens // COLUMN_BLOCK + 1) * COLUMN_BLOCK)
        if self.kept:
            keys, values = self.kept
            self.kept = (self._larger(keys, used), self._larger(values, used))
        return True

    def _larger(self, old: Tensor, used: int) -> Tensor:
        new = self._room(old[:, 0])
        new[:, :used, :, : old.shape[3]] = old[:, :used]
        return new

    def place(self, rows: slice | Tensor, positions: Tensor) -> None:
        """The next forward pass is on ``rows``; ``positions`` [rows, tokens] is -1 at padding."""
        self._written = (self._row_numbers[rows][:, None], (positions - self.before).clamp(min=-1))

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """What a model's attention calls: keeps the new [rows, heads, tokens, width], returns it all.

        Raises UnsupportedModel where this layer's keys have another shape than the first layer's.
        """
        keys, values = (states[layer_idx] for states in self._rows(key_states[:1], value_states[:1]))
        if keys.shape[1::2] != key_states.shape[1::2]:
            raise UnsupportedModel("its layers have heads of different shapes")
        row, column = self._written
        keys[row, :, column] = key_states.transpose(1, 2)
        values[row, :, column] = value_states.transpose(1, 2)
        return keys, values

    def copy(self, source: int, targets: Sequence[int], start: int, end: int) -> None:
        """Copy tokens ``start`` to ``end`` of one row to other rows."""
        columns = slice(start - self.before, end - self.before)
        for states in self.kept or ():
            for target in targets:
                states[:, target, :, columns] = states[:, source, :, columns]

    def read(self, row: int, start: int, end: int) -> Stored:
        """A copy of the row's tokens ``start`` to ``end``."""
        assert self.kept
        columns = slice(max(start - self.before, 0), end - self.before)
        keys, values = (states[:, row, :, columns].clone() for states in self.kept)
        if self.base and start < self.before:
            keys, values = (
                torch.cat([base[:, :, start:], own], dim=2)
                for base, own in zip(self.base, (keys, values), strict=True)
            )
        return keys, values

    def write(self, row: int, pieces: Sequence[Piece], length: int) -> None:
        """Put the first ``length`` tokens of a stored sequence into the row."""
        start = -self.before  # the piece's first column
        for piece in pieces:
            end = min(start + piece.length, length - self.before)
            begin = max(start, 0)
            if begin < end:
                for states, stored in zip(self._rows(*piece.states), piece.states, strict=True):
                    states[:, row, :, begin:end] = stored[:, :, begin - start : end - start]
            start += piece.length

    def _rows(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All rows of all layers, made at first need to take such [layers, heads, tokens, width]."""
        if self.kept is None:
            self.kept = (self._room(keys), self._room(values))
        return self.kept

    def _room(self, states: Tensor) -> Tensor:
        # Zeros, not uninitialised memory: a masked column still enters attention, with weight 0.
        _, heads, _, width = states.shape
        return states.new_zeros(self._layers, self.rows, heads, self.columns, width)


class FinishedSequences:
    """Finished sequences, so that a chain's next prompt need not compute again what it begins with.

    At most ``count`` sequences and ``most_bytes`` bytes; the least recently used go first. What several of
    them begin with is kept once, as a piece that all of them have.
    """

    def __init__(self, count: int, most_bytes: int) -> None:
        self.count, self.most_bytes = count, most_bytes
        self._kept: OrderedDict[bytes, tuple[Tokens, list[Piece]]] = OrderedDict()
        self._sorted: list[bytes] = []  # of all keys: what has most in common with one is next to it

    @property
    def size(self) -> int:
        """In bytes."""
        pieces = {id(piece): piece for _, kept in self._kept.values() for piece in kept}
        return sum(piece.size for piece in pieces.values())

    def keep(self, tokens: Tokens, read: Callable[[int, int], Stored]) -> None:
        """Add a sequence in place of those that it continues; ``read`` gives the states from one token to
        another."""
        shared, best = self._longest_match(tokens)
        pieces = self._first(best, shared) if shared >= LEAST_SHARED else []
        start = sum(piece.length for piece in pieces)
        if start < len(tokens):
            pieces.append(Piece(len(tokens) - start, read(start, len(tokens))))
        if best and shared == len(self._kept[best][0]):
            self._drop(best)
        name = key(tokens)
        self._kept[name] = (tokens, pieces)
        insort(self._sorted, name)
        while len(self._kept) > self.count or self.size > self.most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, dropped: bytes) -> None:
        del self._kept[dropped]
        del self._sorted[bisect_left(self._sorted, dropped)]

    def longest_match(self, tokens: Tokens) -> tuple[int, list[Piece]]:
        """The length of the longest common beginning of ``tokens`` and a kept sequence, and that sequence."""
        length, best = self._longest_match(tokens)
        if not length:
            return 0, []
        self._kept.move_to_end(best)
        return length, self._kept[best][1]

    def _longest_match(self, tokens: Tokens) -> tuple[int, bytes]:
        place = bisect_left(self._sorted, key(tokens))
        return max(
            (
                (common_length(self._kept[name][0], tokens), name)
                for name in self._sorted[max(0, place - 1) : place + 1]
            ),
            default=(0, b""),
        )

    def _first(self, name: bytes, length: int) -> list[Piece]:
        """The pieces with a kept sequence's first ``length`` tokens."""
        pieces: list[Piece] = []
        for piece in self._kept[name][1]:
            rest = length - sum(earlier.length for earlier in pieces)
            if piece.length >= rest:
                return [*pieces, self._split(piece, rest)] if rest else pieces
            pieces.append(piece)
        return pieces

    def _split(self, piece: Piece, length: int) -> Piece:
        """The piece's first ``length`` tokens, by themselves in all sequences that have it."""
        if piece.length == length:
            return piece
        parts = piece.split(length)
        for _, pieces in self._kept.values():
            pieces[:] = [part for old in pieces for part in (parts if old is piece else (old,))]
        return parts[0]


def key(tokens: Tokens) -> bytes:
    """Bytes that are in the order that tokens are in."""
    return tokens.astype(">u8").tobytes()
