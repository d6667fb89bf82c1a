"""What is kept of finished sequences: each common beginning once, and all of it right."""

from functools import partial

import numpy as np
import pytest
import torch

from solon.inference.cache import LEAST_SHARED, FinishedSequences, RowCache
from solon.inference.prefix import Tokens

HEADS, WIDTH, LAYERS = 2, 4, 3
A_TOKEN = LAYERS * 2 * HEADS * WIDTH * 4  # bytes


def states(tokens: Tokens, layer: int) -> torch.Tensor:
    """[heads, tokens, width]; as in a model, they depend on all tokens so far."""
    values = torch.from_numpy(np.cumsum(tokens)) + 1000.0 * layer
    return values[None, :, None].expand(HEADS, -1, WIDTH).float()


def cache_with(sequences: list[Tokens]) -> RowCache:
    cache = RowCache(LAYERS, 8, torch.device("cpu"))
    cache.reserve(len(sequences), max(map(len, sequences)), used=0)
    for layer in range(LAYERS):
        for row, tokens in enumerate(sequences):
            cache.place(slice(row, row + 1), torch.arange(len(tokens))[None])
            cache.update(states(tokens, layer)[None], -states(tokens, layer)[None], layer)
    return cache


def kept(sequences: list[Tokens], count: int = 8, most_bytes: int = 10**9) -> FinishedSequences:
    cache, finished = cache_with(sequences), FinishedSequences(count, most_bytes)
    for row, tokens in enumerate(sequences):
        finished.keep(tokens, partial(cache.read, row))
    return finished


def restored(finished: FinishedSequences, tokens: Tokens) -> int:
    """How many tokens are known; what is known of each is checked."""
    length, pieces = finished.longest_match(tokens)
    cache = RowCache(LAYERS, 1, torch.device("cpu"))
    cache.reserve(1, len(tokens), used=0)
    cache.write(0, pieces, length)
    for layer in range(LAYERS if length else 0):
        keys, values = (states[layer] for states in cache.kept)
        assert torch.equal(keys[0, :, :length], states(tokens, layer)[:, :length])
        assert torch.equal(values[0, :, :length], -states(tokens, layer)[:, :length])
        assert not keys[0, :, length:].any()
    return length


SHOTS = np.arange(200)


def after_shots(*tail: int) -> Tokens:
    return np.concatenate([SHOTS, np.array(tail)])


def test_a_common_beginning_is_kept_once() -> None:
    sequences = [
        after_shots(1, 2, 3),
        after_shots(1, 4),
        after_shots(5, *range(100)),
        after_shots(5, 0, 1, 9),
    ]
    finished = kept(sequences)
    assert finished.size == A_TOKEN * (200 + 3 + 1 + 101 + 1)
    for tokens in sequences:
        assert restored(finished, tokens) == len(tokens)
    assert restored(finished, after_shots(1, 2, 7)) == 202
    assert restored(finished, np.array([9, 9])) == 0


def test_what_others_begin_with_outlives_the_sequence_it_came_from() -> None:
    sequences = [after_shots(tail, tail) for tail in range(5)]
    finished = kept(sequences, count=2)
    assert finished.size == A_TOKEN * (200 + 2 + 2)
    assert [restored(finished, tokens) for tokens in sequences] == [200, 200, 200, 202, 202]


def test_a_sequence_takes_the_place_of_those_that_it_continues() -> None:
    finished = kept([after_shots(1), after_shots(1, 2, 3), after_shots(1, 2, 3, 4)])
    assert finished.size == A_TOKEN * 204
    assert restored(finished, after_shots(1, 2, 3, 4, 5)) == 204


def test_memory_has_a_limit() -> None:
    sequences = [np.full(100, number) for number in range(6)]
    finished = kept(sequences, most_bytes=A_TOKEN * 250)
    assert [restored(finished, tokens) for tokens in sequences] == [0, 0, 0, 0, 100, 100]


@pytest.mark.parametrize("common", [LEAST_SHARED - 1, LEAST_SHARED])
def test_short_beginnings_are_not_worth_a_piece(common: int) -> None:
    finished = kept([np.r_[np.arange(common), 1000], np.r_[np.arange(common), 2000]])
    alone = 2 * (common + 1)
    assert finished.size == A_TOKEN * (alone if common < LEAST_SHARED else alone - common)


def test_rows_are_made_when_wanted_and_keep_what_is_in_use() -> None:
    sequences = [np.arange(5), np.arange(10, 17)]
    cache = cache_with(sequences)
    assert cache.kept[0].shape[1] == 2
    assert not cache.reserve(2, 7, used=2)  # there is room
    assert cache.reserve(5, 700, used=1)
    keys = cache.kept[0][0]
    assert keys.shape[0] == 5
    assert keys.shape[2] > 700
    assert torch.equal(keys[0, :, :5], states(sequences[0], 0))
    assert not keys[1].any()


def test_rows_behind_a_base_are_counted_from_its_beginning() -> None:
    first, second = after_shots(1, 2, 3), after_shots(1, 7)
    whole = cache_with([first])
    cache = RowCache(LAYERS, 2, torch.device("cpu"), base=whole.read(0, 0, 200))
    cache.reserve(2, 300, used=0)
    assert cache.columns == 256
    for layer in range(LAYERS):
        cache.place(slice(0, 1), torch.tensor([[200, 201, 202, -1]]))
        new = torch.nn.functional.pad(states(first, layer)[None, :, 200:], (0, 0, 0, 1), value=9.0)
        cache.update(new, -new, layer)
    cache.copy(0, [1], 200, 201)
    for start, end in ((0, 203), (150, 202), (200, 203), (201, 202)):
        for found, expected in zip(cache.read(0, start, end), whole.read(0, start, end), strict=True):
            assert torch.equal(found, expected)
    assert torch.equal(cache.read(1, 0, 201)[0], whole.read(0, 0, 201)[0])
    finished = kept([first, second])
    length, pieces = finished.longest_match(second)
    cache.write(1, pieces, length)
    assert torch.equal(cache.read(1, 0, 202)[0], cache_with([second]).read(0, 0, 202)[0])
