"""What a stage's work takes of a machine: operations, bytes of memory, bytes on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from solon import config as configs
from solon.inference.cache import COLUMN_BLOCK
from solon.inference.memory import MEMORY_SHARE
from solon.inference.prefill import PASS_TOKENS
from solon.planning.counting import Load
from solon.planning.machine import Device
from solon.planning.model_size import ModelSize
from solon.planning.stage_work import StageWork

FULL = 4  # bytes of a float32, in which weights are trained and saved
LIBRARIES = (
    0.5e9  # bytes that the process has before any model: measured on Linux with the CPU build of torch
)

# A forward pass, then a backward pass of twice its operations (Kaplan et al. 2020, arXiv:2001.08361, section
# 2.1). Adapters save the half of the backward pass that makes the gradients of frozen weights.
PASSES = {"prompt": 1, "generate": 1, "train": 3}
ADAPTER_PASSES = 2


@dataclass(frozen=True)
class Operations:
    """Floating-point operations; ``attention`` is a part of ``total``."""

    total: float = 0
    attention: float = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.total + other.total, self.attention + other.attention)


def operations(load: Load, size: ModelSize, adapters: bool = False) -> Operations:
    """Two for each parameter that a token is multiplied with, and attention's on top.

    Attention to one token takes 4 x layers x width: two products of a query or weight with a key or value
    (Kaplan et al. 2020, table 1, where the average context is half the longest; Chowdhery et al. 2022,
    arXiv:2204.02311, appendix B, has 12 for a forward and a backward pass). Norms, softmax and the like are
    left out.
    """
    passes = ADAPTER_PASSES if adapters and load.way == "train" else PASSES[load.way]
    attention = 4 * size.layers * size.attention * load.attended
    dense = 2 * (size.multiplied * load.tokens + size.head * load.logits)
    return Operations(passes * (dense + attention), passes * attention)


@dataclass
class Memory:
    """Bytes on one machine by what they hold. ``fixed`` ones follow from the model's size alone."""

    fixed: dict[str, float] = field(default_factory=dict)
    varying: dict[str, float] = field(default_factory=dict)

    def times(self, fixed: float, varying: float = 1.0) -> "Memory":
        return Memory(
            {name: size * fixed for name, size in self.fixed.items()},
            {name: size * varying for name, size in self.varying.items()},
        )

    @property
    def least(self) -> float:
        return sum(self.fixed.values())

    @property
    def total(self) -> float:
        return self.least + sum(self.varying.values())


def inference(size: ModelSize, work: StageWork, batch: int, bytes_each: int, device: Device) -> Memory:
    """Of the transformers engine: every row of the batch has room for the longest sequence."""
    per_token = 2 * size.layers * size.keys * bytes_each
    columns = (work.sequence // COLUMN_BLOCK + 1) * COLUMN_BLOCK
    kept = min(2 * batch * work.sequence * per_token, device.memory / MEMORY_SHARE)
    return Memory(
        {"weights": size.parameters * bytes_each},
        {
            "KV cache": batch * columns * per_token,
            "finished sequences": kept if work.sequence else 0,
            # The feed-forward layer's inputs and outputs, and logits with two copies made in sampling.
            "activations": PASS_TOKENS[device.kind] * (4 * size.hidden + 3 * size.inner) * bytes_each
            + 3 * batch * size.vocabulary * FULL,
            "libraries": LIBRARIES if device.is_cpu else 0,
        },
    )


def training(
    size: ModelSize,
    tokens: int,
    logits: int,
    lora: configs.Lora | None,
    device: Device,
    copies: Mapping[str, float] = {},
) -> Memory:
    """Of a training stage; ``tokens`` go through the model at once, ``logits`` of them through its head.

    Weights, gradients and AdamW's two moments are float32: 16 bytes a parameter (Rajbhandari et al. 2020,
    arXiv:1910.02054, section 3.1, where mixed precision takes as much). Adapters alone have gradients and
    moments. No activation is computed twice, and attention keeps no score (Dao et al. 2022,
    arXiv:2205.14135): a layer keeps the inputs of its matrices, norms and activation function.
    """
    trained = size.adapters(lora.rank) if lora else size.parameters
    kept = 4 * size.hidden + 3 * size.attention + 3 * size.keys + 4 * size.inner
    bytes_each = FULL if device.is_cpu else 2  # activations are bfloat16 under autocast
    return Memory(
        {
            "weights": size.parameters * FULL + (trained * FULL if lora else 0),
            "gradients": trained * FULL,
            "optimizer": 2 * trained * FULL,
            **copies,
        },
        {
            # Of the logits: themselves, their log-probabilities and the gradient.
            "activations": tokens * size.layers * kept * bytes_each + 3 * logits * size.vocabulary * FULL,
            "libraries": LIBRARIES if device.is_cpu else 0,
        },
    )


def checkpoint(size: ModelSize, lora: configs.Lora | None) -> tuple[float, float]:
    """Bytes on disk of a trained model, and of what lies beside it while it is trained.

    Until a new checkpoint is whole, the one before it is kept: both with weights and AdamW's two moments.
    """
    trained = size.adapters(lora.rank) if lora else size.parameters
    return size.parameters * FULL, 2 * 3 * trained * FULL
