"""What a stage's work takes of a machine: operations, bytes of memory, bytes on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from solon import config as configs
from solon.inference.cache import COLUMN_BLOCK
from solon.inference.memory import MEMORY_SHARE
from solon.inference.prefill import PASS_TOKENS
from solon.planning.activations import FULL, Pass
from solon.planning.counting import Load
from solon.planning.machine import Device
from solon.planning.model_size import ModelSize
from solon.planning.stage_work import StageWork
from solon.training_settings import OnDevice

# Bytes that a process has before any model: on a CPU its libraries, measured on Linux with torch's CPU build;
# on a GPU what CUDA keeps there, which differs from one to the next.
LIBRARIES = 0.5e9

# Bytes of a weight in 4 bits: NF4 with double quantisation has 0.127 bits more for its constants (Dettmers et
# al. 2023, arXiv:2305.14314, section 3).
NF4 = (4 + 0.127) / 8
# Of AdamW's two moments, for each weight; 8 bits have a float32 for every 256 (Dettmers et al. 2022,
# arXiv:2110.02861, section 2). Embeddings' keep 32 bits.
MOMENTS, MOMENTS_IN_8_BITS = 2 * FULL, 2 * (1 + FULL / 256)

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


def in_bfloat16(device: Device) -> int:
    """Bytes of a number in the type that the device computes in well."""
    return 2 if device.bfloat16 else FULL


def in_4_bits(size: ModelSize, device: Device) -> float:
    """Bytes of such weights. Embeddings, norms and heads have more bits."""
    return size.matrices * NF4 + (size.parameters - size.matrices) * in_bfloat16(device)


def frozen(size: ModelSize, settings: OnDevice, device: Device) -> float:
    """Bytes of weights that are not trained."""
    whole = size.parameters * held(settings, device)
    return in_4_bits(size, device) if settings.weights == "4bit" else whole


def held(settings: OnDevice, device: Device) -> int:
    """Bytes of a frozen weight as its products are made: 4 bits are unpacked for each."""
    return {"float32": FULL, "bfloat16": 2}.get(settings.weights, in_bfloat16(device))


def inference(
    size: ModelSize,
    work: StageWork,
    batch: int,
    weights: float,
    bytes_each: int,
    device: Device,
    prompts: float,
) -> Memory:
    """Of the transformers engine: every row of the batch has room for the longest sequence.

    ``weights`` are in bytes, ``bytes_each`` those of a number that is computed, and ``prompts`` tokens that
    may have to be read at once.
    """
    per_token = 2 * size.layers * size.keys * bytes_each
    columns = (work.sequence // COLUMN_BLOCK + 1) * COLUMN_BLOCK
    kept = min(batch * work.sequence * per_token, device.memory / MEMORY_SHARE)
    read = min(PASS_TOKENS[device.kind], prompts)
    return Memory(
        {"weights": weights},
        {
            "KV cache": batch * columns * per_token,
            "finished sequences": kept,
            # The feed-forward layer's inputs and outputs, and logits with two copies made in sampling.
            "activations": read * (4 * size.hidden + 3 * size.inner) * bytes_each
            + 3 * batch * size.vocabulary * FULL,
            "libraries": LIBRARIES,
        },
    )


@dataclass(frozen=True)
class MicroBatch:
    """What goes through a model that is trained at once."""

    tokens: float
    logits: float  # tokens whose log-probabilities are computed; none of a scorer
    branches: bool  # sequences share beginnings
    accumulated: bool  # gradients of several add up; else they come as activations go


def training(
    size: ModelSize,
    batch: MicroBatch,
    settings: OnDevice,
    device: Device,
    beside: Mapping[str, float] = {},
    share: float = 1.0,
) -> Memory:
    """Of a process of a training stage, which holds a ``share`` of the weights, and of ``beside``.

    Weights, gradients and AdamW's two moments are float32: 16 bytes a parameter (Rajbhandari et al. 2020,
    arXiv:1910.02054, section 3.1). With adapters these alone have gradients and moments, and all other
    weights are frozen, in the type that ``settings`` says.
    """
    lora = settings.lora
    trained = size.adapters(lora.rank) if lora else size.parameters
    fixed = {
        "weights": frozen(size, settings, device) if lora else trained * FULL,
        **({"adapters": trained * FULL} if lora else {}),
        "gradients": trained * FULL,
        "optimizer": _moments(size, trained, settings, lora is not None, device),
        **beside,
    }
    fixed = {name: need * share for name, need in fixed.items()}
    kept = Pass(
        device,
        batch.tokens,
        batch.logits,
        held(settings, device) if lora else FULL,
        lora.rank if lora else 0,
        batch.branches,
    )

    def memory(checkpointed: bool) -> Memory:
        activations = kept.activations(size, checkpointed) + kept.copies(size, checkpointed)
        if not batch.accumulated:
            activations = max(0.0, activations - fixed["gradients"])
        gathered = 0.0 if share == 1 else _gathered(size, kept.computed)
        unpacked = 2 * size.hidden * size.inner * kept.computed if settings.weights == "4bit" and lora else 0
        varying = {"activations": activations + gathered + unpacked, "libraries": LIBRARIES}
        return Memory(fixed, varying)

    return memory(settings.computes_twice(memory(False).total, device.memory))


def _moments(size: ModelSize, trained: float, settings: OnDevice, adapters: bool, device: Device) -> float:
    if settings.optimizer == "adamw":
        return trained * MOMENTS
    if settings.optimizer == "paged-adamw-8bit" and not device.is_cpu:
        return 0  # in the CPU's memory where the device's does not suffice
    embedding = 0 if adapters else size.vocabulary * size.hidden
    return embedding * MOMENTS + (trained - embedding) * MOMENTS_IN_8_BITS


def _gathered(size: ModelSize, bytes_each: int) -> float:
    """What a process that has a share has whole at a time: two layers, and what is in no layer."""
    return bytes_each * (2 * size.multiplied / size.layers + size.parameters - size.multiplied)


def checkpoint(size: ModelSize, lora: configs.Lora | None) -> tuple[float, float]:
    """Bytes on disk of a trained model, or of its adapters, and of what lies beside it while it is trained.

    Until a new checkpoint is whole, the one before it is kept: both with weights and AdamW's two moments.
    """
    trained = size.adapters(lora.rank) if lora else size.parameters
    return trained * FULL, 2 * 3 * trained * FULL
