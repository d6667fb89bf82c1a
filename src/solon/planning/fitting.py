"""Whether each stage fits a machine, and which settings would make it fit."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError

from solon.config import Config, EngineSettings
from solon.planning.estimate import TRAINING, Plan, StagePlan, memory
from solon.planning.machine import Machine
from solon.yaml_file import merge, nested

Change = dict[str, Any]  # settings by dotted names


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

    def suffices(stage: StagePlan, change: Change, has: float) -> bool:
        changed = _with(config, change)
        return changed is not None and memory(stage.work, changed, plan.sizes, plan.machine).total <= has

    for stage in plan.stages:
        if stage.memory:
            has = plan.machine.of(stage.name in TRAINING).memory
            changes = ({}, *_changes(stage.name, config, plan.machine))
            change = next((change for change in changes if suffices(stage, change, has)), None)
            yield Fit(stage.name, stage.memory.total, has, change)


def _with(config: Config, change: Change) -> Config | None:
    try:
        return Config.model_validate(merge(config.model_dump(), nested(change)))
    except ValidationError:  # what the machine would bear does not go together
        return None


def _changes(stage: str, config: Config, machine: Machine) -> Iterator[Change]:
    section = TRAINING.get(stage)
    if section is None:
        yield from _of_engine(config.engine, machine.devices or 1)
        return
    settings = getattr(config, section)
    smaller = [{f"{section}.micro_batch_size": size} for size in halves(settings.micro_batch_size)]
    yield from smaller
    if settings.lora is None:
        for change in ({}, *smaller):
            yield {f"{section}.lora": {}, **change}
    processes = machine.devices or 1
    if processes > 1:
        scale = {"scale.training.processes": processes, "scale.training.strategy": "fsdp"}
        without = {f"{part}.lora": None for part in TRAINING.values() if getattr(config, part).lora}
        for change in ({}, *smaller):
            yield {**scale, **without, **change}


def _of_engine(engine: EngineSettings, devices: int) -> Iterator[Change]:
    smaller = [{"engine.batch_size": size} for size in halves(engine.batch_size)]
    types: list[Change] = [{}] if engine.dtype == "bfloat16" else [{}, {"engine.dtype": "bfloat16"}]
    for type_ in types:
        yield from ({**type_, **change} for change in ({}, *smaller))
    if devices > 1:
        yield {"engine.kind": "vllm", "engine.vllm.tensor_parallel_size": devices}


def halves(size: int) -> list[int]:
    """Half of it, and so on down to 1."""
    return [size >> shift for shift in range(1, size.bit_length())]
