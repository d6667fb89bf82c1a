"""The machine that a run is planned for: this one, or one that is described."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from solon.config import EngineSettings
from solon.inference.memory import device_memory, group_limits
from solon.inference.precision import native_type
from solon.models import best_device


@dataclass(frozen=True)
class Device:
    kind: str  # "cpu", "cuda" or "mps"
    memory: float  # bytes, in use or not
    bfloat16: bool = True  # computes in it natively

    @property
    def is_cpu(self) -> bool:
        return self.kind == "cpu"

    def shared(self, processes: int) -> "Device":
        """What each process has: a GPU of its own, or its part of what they all run on."""
        return self if self.kind == "cuda" else replace(self, memory=self.memory / processes)


@dataclass(frozen=True)
class Machine:
    """What engines run on and what trains; on a GPU each of ``devices`` processes has one of its own."""

    engine: Device
    training: Device
    devices: int | None = None  # None: as many as the configuration asks for

    def of(self, training: bool) -> Device:
        return self.training if training else self.engine


def here(engine: EngineSettings) -> Machine:
    return Machine(_of(engine.device), _of("auto"))


def gpus(devices: int, memory: float) -> Machine:
    """``devices`` GPUs with ``memory`` bytes each."""
    gpu = Device("cuda", memory)
    return Machine(gpu, gpu, devices)


def _of(name: str) -> Device:
    device = torch.device(best_device() if name == "auto" else name)
    memory = float(device_memory(device))
    if device.type != "cuda":
        memory = min([memory, *group_limits()])
    return Device(device.type, memory, native_type() is torch.bfloat16)


def disk_of(folder: Path) -> float:
    """Free bytes where ``folder`` is or will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    state = os.statvfs(there)
    return float(state.f_bavail * state.f_frsize)
