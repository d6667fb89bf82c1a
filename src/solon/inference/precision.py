"""Which floating-point type a model runs in."""

import time
from collections.abc import Mapping

import torch

from solon.config import EngineSettings
from solon.libraries.torch import packs_bfloat16
from solon.models import best_device

FOUR_BITS = "4bit"
CLEARLY_FASTER = (
    1.3  # bfloat16 must beat float32 by this factor on a CPU; where it is emulated it is far slower
)


def choose_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The type that ``setting`` ("auto" or a type's name) means on this device.

    Of weights in 4 bits it is the one that they are unpacked to for products.
    """
    if setting == FOUR_BITS:
        return native_type()
    if setting != "auto":
        named: torch.dtype = getattr(torch, setting)
        return named
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    gain = matmul_seconds(torch.float32) / matmul_seconds(torch.bfloat16)
    return torch.bfloat16 if gain >= CLEARLY_FASTER else torch.float32


def native_type() -> torch.dtype:
    """bfloat16 where the device computes in it natively, float32 elsewhere. Nothing is timed.

    What the processor has is not always used: oneDNN may be limited to less.
    """
    if best_device() == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    has = torch.cpu.get_capabilities() if best_device() == "cpu" else {}
    native = has.get("avx512_bf16") or has.get("amx_bf16")
    return torch.bfloat16 if native and packs_bfloat16() else torch.float32


def settle(settings: EngineSettings, earlier: Mapping[str, str]) -> EngineSettings:
    """The settings with what "auto" means on this machine; what ``earlier`` settled for its device stays.

    Which number type is faster is measured, so another process might find otherwise.
    """
    device = best_device() if settings.device == "auto" else settings.device
    dtype = earlier.get("dtype", "auto") if earlier.get("device") == device else "auto"
    if settings.dtype == FOUR_BITS:
        dtype = FOUR_BITS
    elif settings.dtype != "auto" or dtype == "auto":
        dtype = str(choose_dtype(settings.dtype, torch.device(device))).removeprefix("torch.")
    return settings.model_copy(update={"device": device, "dtype": dtype})


def matmul_seconds(dtype: torch.dtype) -> float:
    """Best of five products of a batch of 64 hidden states with a weight matrix, on the CPU."""
    states, weight = torch.ones(64, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        times.append(time.perf_counter() - start)
    return min(times[1:])  # the first call sets the library up
