"""What we use of PyTorch beyond what it promises to keep. Read in 2.13.0."""

import torch
from torch import Tensor

ROWS = 64  # that products are laid out for: as many as sequences decode together


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
    """Whether ``packed`` and ``product`` can be used for bfloat16 on this machine."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def can_pack(dtype: torch.dtype) -> bool:
    """Whether ``packed`` and ``product`` can be used for this type, and are the faster way here.

    float32 was measured beside MKL, which is what PyTorch uses on x86 processors otherwise.
    """
    if dtype == torch.bfloat16:
        return packs_bfloat16()
    libraries = torch.backends.mkldnn, torch.backends.mkl
    return dtype == torch.float32 and all(library.is_available() for library in libraries)


def packed(weight: Tensor) -> Tensor:
    """A weight [outputs, inputs] as oneDNN lays it out for this processor, for ``product`` alone."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return laid_out


def product(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """What ``linear`` gives for the weight that was ``packed``."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return result
