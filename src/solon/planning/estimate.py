"""The plan of a run: what every stage takes, against what the machine has."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from transformers import PreTrainedTokenizerBase

from solon import feedback, models
from solon.config import Config, on_server
from solon.errors import SolonError
from solon.planning import machine as machines
from solon.planning import resources, trust
from solon.planning.counting import SCORER, Load, Way
from solon.planning.machine import Machine
from solon.planning.model_size import ModelSize, imagined, of_model, of_number
from solon.planning.resources import Memory, Operations
from solon.planning.stage_memory import TRAINING, memory, room
from solon.planning.stage_work import Assumptions, StageWork
from solon.planning.workload import Workload
from solon.progress import Watcher
from solon.role_settings import ROLES, RoleName
from solon.store.manifest import Manifest


@dataclass
class StagePlan:
    name: str
    records: float
    loads: list[Load]
    operations: dict[Way, Operations]
    memory: Memory | None  # of a device; None where no model runs here
    room: float  # bytes of a device's memory that the stage may have
    disk: float  # bytes that stay
    passing: float  # bytes on disk that are needed besides while it runs
    cost: float  # of servers' tokens
    work: StageWork

    @property
    def total(self) -> Operations:
        return sum(self.operations.values(), Operations())

    def tokens(self, way: Way, naive: bool = False) -> float:
        """Of the engines' models or, in training, of the trained one; ``naive``: without sharing."""
        return sum(
            load.naive if naive else load.tokens
            for load in self.loads
            if load.way == way and (load.role != SCORER or way == "train")
        )


@dataclass
class Plan:
    stages: list[StagePlan]
    sizes: dict[str, ModelSize]  # by role; none of models on servers
    machine: Machine
    notes: list[str] = field(default_factory=list)


def plan(
    config: Config,
    assumptions: Assumptions | None = None,
    tokenizer: str = "smollm2",
    machine: Machine | None = None,
) -> Plan:
    """Plan a run without loading any weights, for this machine or another.

    A model may also be a number of parameters, such as "52B". Where a model has no tokenizer here, that of
    ``tokenizer`` counts its tokens. Raises SolonError for a model, data or constitution that cannot be read.
    """
    if on_server(config.models.by_role["policy"]):
        raise SolonError("models.policy is on a server, but it is trained here: set it to a local model")
    names = config.models.by_role | feedback.further(config)
    played: dict[str, RoleName] = dict.fromkeys(names.values(), "feedback")
    played |= {names[role]: role for role in reversed(ROLES)}
    known = {name: _model(name, config, role, tokenizer) for name, role in played.items()}
    sizes = {role: size for role, name in names.items() for size in [known[name][0]] if size}
    sizes[SCORER] = sizes["policy"].scorer()
    work = Workload(
        config, {role: known[name][1] for role, name in names.items()}, assumptions or Assumptions()
    )
    machine = machine or machines.here(config.engine)
    stages = [
        _stage(of_stage, config, names, sizes, machine) for of_stage in (*trust.work(work), *work.stages)
    ]
    return Plan(stages, sizes, machine, work.notes)


def check(config: Config, folder: Path, watcher: Watcher, asked: Collection[str]) -> None:
    """Raise SolonError where a stage cannot fit into this machine's memory; warn where it probably won't.

    Looks at the stages that are ``asked`` for and not done, and at no training that is launched elsewhere.
    What cannot be planned is left to the run itself to tell.
    """
    done: set[str] = set(TRAINING) if config.scale.training.launcher else set()
    if (folder / "manifest.json").exists():
        entries = Manifest(folder / "manifest.json").stages
        done |= {name for name, entry in entries.items() if entry.get("status") == "done"}
    missing = set(asked) - done
    if not missing:
        return
    planned: Plan | None = None
    with suppress(SolonError):
        planned = plan(config, Assumptions(sample=2))
    stages = [stage for stage in planned.stages if stage.name in missing] if planned else []
    here = [(stage, stage.memory) for stage in stages if stage.memory]
    for stage, needs in here:
        if needs.least > stage.room:
            raise SolonError(f"{too_small(stage)}; 'solon plan' tells what each stage takes")
    for stage, needs in here:
        if needs.total > stage.room:
            watcher.say(
                f"Stage {stage.name} may need {giga(needs.total)} of memory, and there are "
                f"{giga(stage.room)}: should it fail, lower its batch size; 'solon plan' tells more."
            )
    written, free = sum(stage.disk for stage in stages), machines.disk_of(folder)
    if written > free:
        watcher.say(f"The run may write {giga(written)}, and {giga(free)} are free on the disk of {folder}.")


def too_small(stage: StagePlan) -> str:
    assert stage.memory
    parts = ", ".join(f"{name} {giga(size)}" for name, size in stage.memory.fixed.items())
    mend = ""
    if section := TRAINING.get(stage.name):
        adapters = "adapters" in stage.memory.fixed
        mend = f"set {section}.weights to 4bit, " if adapters else f"train adapters ({section}.lora), "
    return (
        f"stage {stage.name} needs {giga(stage.memory.least)} of memory at least ({parts}), but this machine "
        f"has {giga(stage.room)}: {mend}take a smaller model or a larger machine"
    )


def giga(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _model(
    name: str, config: Config, role: RoleName, fallback: str
) -> tuple[ModelSize | None, PreTrainedTokenizerBase]:
    if on_server(name):
        return None, models.load_tokenizer(config.server(role).tokenizer or fallback, weights=False)
    if parameters := imagined(name):
        tokenizer = models.load_tokenizer(fallback, weights=False)
        return of_number(parameters, len(tokenizer)), tokenizer
    size = of_model(name)
    try:
        return size, models.load_tokenizer(name, weights=False, role=config.role(role))
    except SolonError:
        return size, models.load_tokenizer(fallback, weights=False)


def _stage(
    work: StageWork,
    config: Config,
    names: Mapping[str, str],
    sizes: Mapping[str, ModelSize],
    machine: Machine,
) -> StagePlan:
    lora = getattr(getattr(config, TRAINING.get(work.name, ""), None), "lora", None)
    here = [load for load in work.loads if load.role in sizes and load.tokens]
    operations: dict[Way, Operations] = {}
    for load in here:
        taken = resources.operations(load, sizes[load.role], lora is not None)
        operations[load.way] = operations.get(load.way, Operations()) + taken
    disk = passing = 0.0
    if work.name in TRAINING and here:
        disk, passing = resources.checkpoint(sizes["policy"], lora)
    return StagePlan(
        work.name,
        work.records,
        work.loads,
        operations,
        memory(work, config, sizes, machine) if here else None,
        room(work.name, config, machine),
        disk + work.written,
        passing,
        sum(_cost(load, config) for load in work.loads if on_server(names.get(load.role, ""))),
        work,
    )


def _cost(load: Load, config: Config) -> float:
    """Servers count every request's whole prompt."""
    server = config.server(cast(RoleName, load.role.partition("-")[0]))  # of a panel as its role's
    return (
        load.naive * server.input_price if load.way == "prompt" else load.tokens * server.output_price
    ) / 1e6
