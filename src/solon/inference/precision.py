"""Which floating-point type a model runs in."""

import time

import torch

CLEARLY_FASTER = (
    1.3  # bfloat16 must beat float32 by this factor on a CPU; where it is emulated it is far slower
)


def choose_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The type that ``setting`` ("auto" or a type's name) means on this device."""
    if setting != "auto":
        named: torch.dtype = getattr(torch, setting)
        return named
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    gain = matmul_seconds(torch.float32) / matmul_seconds(torch.bfloat16)
    return torch.bfloat16 if gain >= CLEARLY_FASTER else torch.float32


def matmul_seconds(dtype: torch.dtype) -> float:
    """Best of five products of a batch of 64 hidden states with a weight matrix, on the CPU."""
    states, weight = torch.ones(64, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        times.append(time.perf_counter() - start)
    return min(times[1:])  # the first call sets the library up
