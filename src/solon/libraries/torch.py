"""What we use of PyTorch beyond what it promises to keep. Read in 2.13.0."""

import torch
from torch import Tensor


def attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Attention on the CPU, and the logarithm of its softmax's denominator [sequences, heads, queries].

    ``scaled_dot_product_attention`` calls it there, and keeps the second result to itself.
    """
    result: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, attn_mask=mask, scale=scaling
    )
    return result


def packs_bfloat16() -> bool:
    """Whether ``packed`` and ``product`` can be used on this machine."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packed(weight: Tensor) -> Tensor:
    """A bfloat16 weight [outputs, inputs] as oneDNN lays it out for this processor, for ``product`` alone."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return laid_out


def product(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """What ``linear`` gives for the weight that was ``packed``."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return result
