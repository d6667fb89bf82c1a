"""Attention with shared beginnings equals plain attention over every row's own keys."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from solon.errors import SolonError
from solon.inference.attention import Pass, Trunk, by_trunks, on_accelerator, rows_attention
from solon.inference.prefix import alike

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("kind", [by_trunks, on_accelerator])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("rows", [slice(0, 5), torch.tensor([6, 1, 3, 2, 5])])
@pytest.mark.parametrize(
    "trunks", [[([0, 1, 2, 3, 4], 0)], [([0, 1, 2, 3, 4], 9)], [([1, 3], 0), ([0, 2], 7), ([4], 0)]]
)
def test_it_is_plain_attention(
    kind: Callable[..., torch.Tensor],
    tokens: int,
    rows: slice | torch.Tensor,
    trunks: list[tuple[list[int], int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("solon.inference.attention.by_trunks", kind)  # whatever the device
    torch.manual_seed(0)
    keys, values = torch.randn(2, 7, 2, 20, 16)
    numbers = torch.arange(7)[rows]
    for places, length in trunks:  # what a trunk promises
        for store in (keys, values):
            store[numbers[places], :, :length] = store[numbers[places[0]], :, :length].clone()
    query = torch.randn(5, 6, tokens, 16)
    width = 17
    ends = torch.tensor([12, 16, 13, 15, 14])
    visible = torch.arange(width) <= (ends[:, None] - tokens + 1 + torch.arange(tokens))[..., None]
    mask = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None]
    cached = Pass(rows, [Trunk(places, length, int(ends[places].max()) + 1) for places, length in trunks])
    found, _ = rows_attention(None, query, keys, values, mask, 0.25, cached=cached)
    expected = scaled_dot_product_attention(
        query,
        keys[numbers, :, :width].repeat_interleave(3, 1),
        values[numbers, :, :width].repeat_interleave(3, 1),
        attn_mask=mask,
        scale=0.25,
    )
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_kinds_of_attention_that_it_has_not_are_refused() -> None:
    empty = torch.zeros(1, 1, 1, 8)
    with pytest.raises(SolonError, match="caps its scores"):
        rows_attention(None, empty, empty, empty, empty, softcap=30.0, cached=Pass(slice(0, 1), []))


def test_sequences_are_grouped_by_what_they_share() -> None:
    import numpy as np

    first, other = np.arange(200), np.arange(1000, 1200)
    late = np.concatenate([first[:150], other[:50]])
    sequences = [first, other, late, first[:60], first]
    assert sorted(alike(sequences, [200, 200, 200, 60, 120])) == [([0, 2, 4], 120), ([1, 3], 0)]
    assert sorted(alike(sequences, [200, 200, 200, 60, 199])) == [([0, 2, 4], 150), ([1, 3], 0)]
    assert alike(sequences, [0] * 5) == [([0, 1, 2, 3, 4], 0)]


def test_a_base_is_read_as_if_every_row_had_it() -> None:
    torch.manual_seed(0)
    layers, length, rows = 2, 9, torch.tensor([2, 0, 4])
    base = (torch.randn(layers, 2, length, 16), torch.randn(layers, 2, length, 16))
    keys, values = torch.randn(2, 5, 2, 20, 16)
    query = torch.randn(3, 6, 4, 16)
    ends = torch.tensor([3, 6, 5])  # of the rows' own columns
    visible = torch.arange(7) <= (ends[:, None] - 3 + torch.arange(4))[..., None]
    mask = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None]
    for layer in range(layers):
        module = SimpleNamespace(layer_idx=layer)
        found, _ = rows_attention(module, query, keys, values, mask, 0.25, cached=Pass(rows, [], base))
        whole = [
            torch.cat([shared[layer].expand(3, -1, -1, -1), own[rows, :, :7]], dim=2).repeat_interleave(3, 1)
            for shared, own in zip(base, (keys, values), strict=True)
        ]
        seen = torch.nn.functional.pad(mask, (length, 0))
        expected = scaled_dot_product_attention(query, *whole, attn_mask=seen, scale=0.25)
        torch.testing.assert_close(found, expected.transpose(1, 2))
