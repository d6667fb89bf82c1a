"""Linear layers on a CPU whose bfloat16 weights are laid out for the processor's matrix units once.

PyTorch keeps weights row by row, and oneDNN rearranges them in every product. That takes a quarter of the
time of a decoding step's products, where few sequences share it.
"""

import ctypes
import sys

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer for inference. Its weight can be replaced, but no longer read."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        self.load(linear.weight)

    def load(self, weight: Tensor) -> None:
        """Take ``weight`` [outputs, inputs] in the place of the present one; an empty one frees memory."""
        weight = weight.detach().to(torch.bfloat16)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight) if weight.numel() else weight

    def forward(self, states: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._packed, self.bias, "none", [], "")
        return result


def can_pack() -> bool:
    """Whether oneDNN takes bfloat16 here: on x86 from AVX-512 on, if ONEDNN_MAX_CPU_ISA allows it."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(model: nn.Module, head: nn.Module) -> None:
    """Replace all linear layers of a bfloat16 model but its ``head``, whose weight is read elsewhere.

    Nothing is replaced where PyTorch cannot pack on this machine.
    """
    if not can_pack():
        return
    # Not all modules: the list would keep every replaced weight until the end.
    for parent in [each for each in model.modules() if not isinstance(each, nn.Linear)]:
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not head:
                setattr(parent, name, PackedLinear(layer))
    # glibc keeps freed memory for the threads that loaded the weights: as much as the weights have.
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
