"""Keys and values of the sequences being worked on, and of those lately finished."""

from collections import OrderedDict

import torch
from torch import Tensor
from transformers import Cache

from solon.inference.prefix import Tokens, common_length

COLUMN_BLOCK = 64  # rows grow by whole blocks, so that they grow seldom

Stored = list[tuple[Tensor, Tensor]]
"""One sequence's keys and values, layer by layer, each [heads, tokens, head width]."""


class RowCache(Cache):  # type: ignore[misc]
    """One row a sequence, one column a token, filled from column 0: a token's column is its position.

    A forward pass says with ``place`` which rows it works on and where its tokens go. The rows are written in
    place and attention gets them whole, so a decoding step copies nothing but the new tokens. The last column
    takes the padding's keys and values and is never read.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        super().__init__(layers=[])
        self.columns = 0
        self.layers_kept: dict[int, tuple[Tensor, Tensor]] = {}  # each [rows, heads, columns, head width]
        self._row_numbers = torch.arange(rows, device=device)

    def reserve(self, tokens: int) -> None:
        """Make room for sequences of this many tokens, keeping what is there."""
        if tokens < self.columns:  # one column is the padding's
            return
        self.columns = (tokens // COLUMN_BLOCK + 1) * COLUMN_BLOCK
        for layer, kept in self.layers_kept.items():
            self.layers_kept[layer] = (self._wider(kept[0]), self._wider(kept[1]))

    def _wider(self, old: Tensor) -> Tensor:
        new = old.new_zeros(*old.shape[:2], self.columns, old.shape[3])
        new[:, :, : old.shape[2]] = old
        return new

    def place(self, rows: slice | Tensor, positions: Tensor) -> None:
        """The next forward pass is on ``rows``; ``positions`` [rows, tokens] is -1 at padding."""
        self._written = (self._row_numbers[rows][:, None], positions)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """What a model's attention calls: keeps the new [rows, heads, tokens, width], returns it all."""
        row, column = self._written
        keys, values = self._layer(layer_idx, key_states[0], value_states[0])
        keys[row, :, column] = key_states.transpose(1, 2)
        values[row, :, column] = value_states.transpose(1, 2)
        return keys, values

    def copy(self, source: int, targets: list[int], start: int, end: int) -> None:
        """Copy columns ``start`` to ``end`` of one row to other rows."""
        for kept in self.layers_kept.values():
            for states in kept:
                states[targets, :, start:end] = states[source, :, start:end]

    def read(self, row: int, length: int) -> Stored:
        """A copy of the row's first ``length`` columns."""
        return [
            (keys[row, :, :length].clone(), values[row, :, :length].clone())
            for _, (keys, values) in sorted(self.layers_kept.items())
        ]

    def write(self, row: int, stored: Stored, length: int) -> None:
        """Put the first ``length`` tokens of a stored sequence into the row."""
        for layer, (keys, values) in enumerate(stored):
            row_keys, row_values = self._layer(layer, keys, values)
            row_keys[row, :, :length] = keys[:, :length]
            row_values[row, :, :length] = values[:, :length]

    def _layer(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's rows, made at first need to take one sequence's [heads, tokens, width]."""
        if layer not in self.layers_kept:
            rows = len(self._row_numbers)
            # Zeros, not uninitialised memory: a masked column still enters attention, with weight 0.
            self.layers_kept[layer] = (
                keys.new_zeros(rows, keys.shape[0], self.columns, keys.shape[2]),
                values.new_zeros(rows, values.shape[0], self.columns, values.shape[2]),
            )
        return self.layers_kept[layer]


class FinishedSequences:
    """Finished sequences, so that a chain's next prompt need not compute again what it begins with.

    At most ``count`` sequences and ``most_bytes`` bytes; the least recently used go first.
    """

    def __init__(self, count: int, most_bytes: int) -> None:
        self.count, self.most_bytes = count, most_bytes
        self.bytes = 0
        self._kept: OrderedDict[bytes, tuple[Tokens, Stored]] = OrderedDict()

    def keep(self, tokens: Tokens, stored: Stored) -> None:
        """Add a sequence in place of those that it continues."""
        for key, (earlier, _) in list(self._kept.items()):
            if common_length(earlier, tokens) == len(earlier):
                self._drop(key)
        self._kept[tokens.tobytes()] = (tokens, stored)
        self.bytes += size(stored)
        while len(self._kept) > self.count or self.bytes > self.most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        self.bytes -= size(self._kept.pop(key)[1])

    def longest_match(self, tokens: Tokens) -> tuple[int, Stored]:
        """The sequence with the longest common beginning with ``tokens``, and that beginning's length."""
        length, best = max(
            ((common_length(kept, tokens), key) for key, (kept, _) in self._kept.items()), default=(0, b"")
        )
        if not length:
            return 0, []
        self._kept.move_to_end(best)
        return length, self._kept[best][1]


def size(stored: Stored) -> int:
    """In bytes."""
    return sum(states.nbytes for layer in stored for states in layer)
