"""Whether each stage fits a machine, and which settings would make it fit."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from solon.config import Config, EngineSettings
from solon.planning.estimate import Plan, StagePlan
from solon.planning.machine import Machine
from solon.planning.stage_memory import TRAINING, memory, room
from solon.yaml_file import merge, nested

Change = dict[str, Any]  # settings by dotted names

ON_VLLM: Change = {"engine.kind": "vllm", "engine.vllm.gpu_memory_utilization": 0.4}  # beside a training


class Fit(NamedTuple):
    stage: str
    needs: float  # bytes of one device's memory
    has: float
    change: Change | None  # what makes it fit, nothing where it does as it is; None where nothing known does

    @property
    def mend(self) -> str:
        """The change in words; "" where there is none."""
        told = [f"{name} to {json.dumps(value)}" for name, value in (self.change or {}).items()]
        return f"set {', '.join(told)}" if told else ""


def fits(plan: Plan, config: Config) -> Iterator[Fit]:
    """Every stage for which a model is in memory. The least change of settings is looked for first."""
    for stage in plan.stages:
        if stage.memory:
            change = first_that_fits(plan, stage, config, _changes(stage.name, config, plan.machine))
            yield Fit(stage.name, stage.memory.total, stage.room, change)


def first_that_fits(plan: Plan, stage: StagePlan, config: Config, changes: Iterable[Change]) -> Change | None:
    for change in changes:
        changed = changed_by(config, change) if change else config
        if changed:
            needs = memory(stage.work, changed, plan.sizes, plan.machine).total
            if needs <= room(stage.name, changed, plan.machine):
                return change
    return None


def changed_by(config: Config, change: Change) -> Config | None:
    try:
        return Config.model_validate(merge(config.model_dump(), nested(change)))
    except ValidationError:  # what the machine would bear does not go together
        return None


def _changes(stage: str, config: Config, machine: Machine) -> Iterator[Change]:
    section, devices = TRAINING.get(stage), machine.devices or 1
    for way in _held(section, config, devices) if section else _engines(config.engine, devices):
        yield from (way | batch for batch in batches(stage, config))


def _held(section: str, config: Config, devices: int) -> Iterator[Change]:
    """What a training holds in memory, from what changes its result least on."""
    settings = getattr(config, section)
    shared: Change = {"scale.training.processes": devices, "scale.training.strategy": "fsdp"}
    on_vllm = ON_VLLM | {"engine.vllm.tensor_parallel_size": devices}
    smaller: Change = {f"{section}.optimizer": "adamw-8bit"}
    yield {}
    if devices > 1:
        yield shared
        if section == "reinforce":  # no process has a whole copy to sample from then
            yield shared | on_vllm
    adapters: Change = {}
    if settings.lora is None:
        if settings.optimizer == "adamw":
            yield smaller
            if devices > 1:
                yield shared | smaller
        # In RL on the base that the two stages before it adapt too.
        parts = TRAINING.values() if section == "reinforce" else [section]
        adapters = {f"{part}.lora": {} for part in parts if getattr(config, part).lora is None}
        yield adapters
    if settings.weights != "4bit":
        yield adapters | {f"{section}.weights": "4bit"}


def _engines(engine: EngineSettings, devices: int) -> Iterator[Change]:
    yield {}
    if engine.dtype != "bfloat16":
        yield {"engine.dtype": "bfloat16"}
    if devices > 1:
        yield {"engine.kind": "vllm", "engine.vllm.tensor_parallel_size": devices}
    yield {"engine.dtype": "4bit"}


def batches(stage: str, config: Config) -> Iterator[Change]:
    """How much goes through a model at once, from what takes least time on; first as it is."""
    yield {}
    section = TRAINING.get(stage)
    if section is None:
        yield from ({"engine.batch_size": size} for size in halves(config.engine.batch_size))
        return
    settings = getattr(config, section)
    least: Change = {}
    if not settings.gradient_checkpointing:
        yield (least := {f"{section}.gradient_checkpointing": True})
    for size in halves(settings.micro_batch_size):
        yield (least := least | {f"{section}.micro_batch_size": size})
    if section == "reinforce":  # answers that are sampled together
        for prompts in halves(settings.prompts_per_step):
            yield least | {"reinforce.prompts_per_step": prompts}


def halves(size: int) -> list[int]:
    """Half of it, and so on down to 1."""
    return [size >> shift for shift in range(1, size.bit_length())]
