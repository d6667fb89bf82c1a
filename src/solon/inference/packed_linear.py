"""Linear layers on a CPU whose weights are laid out for the processor's matrix units once.

PyTorch keeps weights row by row, and oneDNN rearranges bfloat16 ones in every product. That takes a quarter
of the time of a decoding step's products, where few sequences share it. float32 products are MKL's unless
they are packed, and oneDNN's are the faster ones on AMD processors (docs/performance.md).
"""

import ctypes
import sys

from torch import Tensor, nn

from solon.libraries.torch import packed, product

# Fewer stay in the processor's own cache, so that there is nothing to gain; and oneDNN takes tens of MB for
# its products, which is more than small models do.
LEAST_WEIGHTS = 2**16


class PackedLinear(nn.Module):
    """A linear layer for inference. Its weight can be replaced, but no longer read."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias, self.dtype = linear.bias, linear.weight.dtype
        self.load(linear.weight)

    def load(self, weight: Tensor) -> None:
        """Take ``weight`` [outputs, inputs] in the place of the present one; an empty one frees memory."""
        weight = weight.detach().to(self.dtype)
        self._packed = packed(weight) if weight.numel() else weight

    def forward(self, states: Tensor) -> Tensor:
        return product(states, self._packed, self.bias)


def pack(model: nn.Module, head: nn.Module) -> None:
    """Replace a model's linear layers, but small ones and its ``head``, whose weight is read elsewhere."""
    # Not all modules: the list would keep every replaced weight until the end.
    for parent in [module for module in model.modules() if not isinstance(module, nn.Linear)]:
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not head and layer.weight.numel() >= LEAST_WEIGHTS:
                setattr(parent, name, PackedLinear(layer))
    # glibc keeps freed memory for the threads that loaded the weights: as much as the weights have.
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
