"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), its state in float32 or, by bitsandbytes, in 8 bits.

In 8 bits the two moments of a weight take 2 bytes in the place of 8, block by block with a scale of its own
(Dettmers et al. 2022, arXiv:2110.02861); embeddings keep 32. "paged" ones move to the CPU's memory where the
GPU's is short.
"""

from collections.abc import Iterable
from typing import Any

import torch

from solon import models
from solon.errors import SolonError
from solon.libraries import bitsandbytes

# As transformers' trainers name them. Their own default is the other one.
OF_TRAINERS = {"adamw-8bit": "adamw_bnb_8bit", "paged-adamw-8bit": "paged_adamw_8bit"}


def check(name: str) -> None:
    """Raises SolonError where there is no such optimiser here."""
    if name == "adamw":
        return
    bitsandbytes.check(f"optimizer {name}", "set it to adamw")
    device = models.best_device()
    if device == "mps" or (device == "cpu" and name.startswith("paged")):
        other = "adamw" if device == "mps" else "adamw-8bit"
        raise SolonError(
            f"optimizer {name} needs a CUDA device, but training runs on {device}: set it to {other}"
        )


def argument(name: str) -> dict[str, str]:
    """The keyword argument for a trainer's configuration. Raises SolonError as ``check`` does."""
    check(name)
    if name == "adamw":
        return {}
    bitsandbytes.forget_models()
    return {"optim": OF_TRAINERS[name]}


def adamw(name: str, groups: Iterable[dict[str, Any]], model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimiser of the model's weights in ``groups``, without weight decay."""
    check(name)
    if name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=0.0)
    return bitsandbytes.adamw_8bit(groups, model, paged=name.startswith("paged"))
