"""``solon plan``: what a run will take, before it is begun."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solon.cli.options import NO_SETTINGS, AsJson, Settings, configuration
from solon.cli.show import show_rows
from solon.errors import SolonError

if TYPE_CHECKING:
    from solon.planning.estimate import Plan, StagePlan
    from solon.planning.fitting import Fit
    from solon.planning.machine import Machine
    from solon.planning.throughput import Throughput

UNITS = {1e24: "Y", 1e21: "Z", 1e18: "E", 1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k"}


def plan(
    config: Annotated[Path, typer.Argument(help="A configuration; a model may be a size, such as 52B.")],
    measure: Annotated[
        bool, typer.Option("--measure", help="Load the models and time them here, for the hours.")
    ] = False,
    flops: Annotated[
        float | None,
        typer.Option("--flops-per-second", help="Peak of all devices together, for the hours."),
    ] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of it reached in training and on prompts.")
    ] = 0.4,
    decoding: Annotated[
        float,
        typer.Option("--decoding-utilisation", min=0.001, max=1, help="Share of it reached in decoding."),
    ] = 0.1,
    hourly_price: Annotated[float, typer.Option(min=0, help="Of all devices together.")] = 0.0,
    length: Annotated[
        float, typer.Option(min=0.01, max=1, help="How long texts are taken to be, as a share of max_tokens.")
    ] = 0.8,
    comparisons: Annotated[
        int | None,
        typer.Option(min=0, help="How many comparisons people labelled, where the file is not here yet."),
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="A model whose tokenizer counts where a model has none here.")
    ] = "smollm2",
    devices: Annotated[
        int | None, typer.Option(min=1, help="Plan for so many GPUs, with --memory each, and not for here.")
    ] = None,
    memory: Annotated[float | None, typer.Option(min=0.1, help="Of each GPU, in GB.")] = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Estimate every stage's tokens, operations, memory, disk, hours and cost, without loading weights."""
    from solon.planning import estimate, fitting, throughput  # takes seconds
    from solon.planning.machine import disk_of
    from solon.planning.stage_work import Assumptions

    asked, speed = configuration(config, settings), None
    if measure and flops:
        raise SolonError("--measure and --flops-per-second exclude each other; drop one of them")
    if flops:
        rates = flops * utilisation, flops * decoding, flops * utilisation
        speed = throughput.Throughput(*rates, "peak and utilisation as given")
    assumptions, machine = Assumptions(share=length, comparisons=comparisons), _machine(devices, memory)
    planned = estimate.plan(asked, assumptions, tokenizer, machine)
    if measure:
        if "assistant" not in planned.sizes:
            raise SolonError("--measure times the assistant here, but models.assistant is on a server")
        speed = throughput.measure(asked, planned.sizes["assistant"])
    fits, disk = list(fitting.fits(planned, asked)), disk_of(config.parent / "runs" / config.stem)
    if as_json:
        print(json.dumps(_figures(planned, fits, disk, speed, hourly_price), indent=2))
        return
    show_rows([_tokens(stage) for stage in planned.stages], "tokens")
    show_rows([_needs(stage, speed, hourly_price) for stage in planned.stages], "what they take")
    show_rows([_fits(fit) for fit in fits], "memory of a device")
    for line in _says(planned, fits, disk, speed, hourly_price):
        typer.echo(line)


def _machine(devices: int | None, memory: float | None) -> "Machine | None":
    from solon.planning.machine import gpus

    if devices and not memory:
        raise SolonError("--devices says how many GPUs there are; say after --memory how many GB each has")
    return gpus(devices or 1, memory * 1e9) if memory else None


def _tokens(stage: "StagePlan") -> dict[str, Any]:
    return {
        "stage": stage.name,
        "records": short(stage.records),
        "prompt": short(stage.tokens("prompt")),
        "unshared": short(stage.tokens("prompt", naive=True)),
        "generated": short(stage.tokens("generate")),
        "trained": short(stage.tokens("train")),
    }


def _needs(stage: "StagePlan", speed: "Throughput | None", hourly_price: float) -> dict[str, Any]:
    total = stage.total
    return {
        "stage": stage.name,
        "FLOPs": short(total.total),
        "attention": f"{total.attention / total.total:.0%}" if total.total else None,
        "disk, GB": stage.disk / 1e9,
        "hours": (speed.hours(stage.operations) if speed else 0) or None,
        "cost": _cost(stage, speed, hourly_price) or None,
    }


def _fits(fit: "Fit") -> dict[str, Any]:
    return {
        "stage": fit.stage,
        "needs, GB": fit.needs / 1e9,
        "has, GB": fit.has / 1e9,
        "fits": "yes" if fit.change == {} else "no",
        "what would": None if fit.change == {} else fit.mend or "a smaller model, more or larger devices",
    }


def _cost(stage: "StagePlan", speed: "Throughput | None", hourly_price: float) -> float:
    return stage.cost + (hourly_price * speed.hours(stage.operations) if speed else 0.0)


def short(count: float) -> str:
    """A count with three digits and a unit: 1.23 T."""
    unit, letter = next(((unit, letter) for unit, letter in UNITS.items() if count >= unit), (1.0, ""))
    return f"{count / unit:.3g} {letter}".rstrip() if count else "–"


def _says(
    planned: "Plan", fits: "Sequence[Fit]", disk: float, speed: "Throughput | None", hourly_price: float
) -> Iterator[str]:
    from solon.planning.estimate import giga

    operations = sum(stage.total.total for stage in planned.stages)
    yield f"Together {short(operations)} floating-point operations."
    if speed:
        hours = sum(speed.hours(stage.operations) for stage in planned.stages)
        rates = ", ".join(f"{way} {short(getattr(speed, way))}" for way in ("prompt", "generate", "train"))
        yield f"{hours:.3g} hours, at these FLOP/s ({speed.source}): {rates}."
    else:
        yield "Hours: give --measure, or --flops-per-second."
    if cost := sum(_cost(stage, speed, hourly_price) for stage in planned.stages):
        yield f"Cost: {cost:,.2f} at the prices given."
    needed = sum(stage.disk for stage in planned.stages)
    passing = max(stage.passing for stage in planned.stages)
    yield f"Disk: {giga(needed)} stay, up to {giga(passing)} more while training; {giga(disk)} are free."
    for fit in fits:
        if fit.change != {}:
            mend = fit.mend or "take a smaller model, or more or larger devices"
            yield f"Warning: {fit.stage} may need {giga(fit.needs)} of {giga(fit.has)} memory: {mend}."
    yield from planned.notes


def _figures(
    planned: "Plan", fits: "Sequence[Fit]", disk: float, speed: "Throughput | None", hourly_price: float
) -> dict[str, Any]:
    return {
        "stages": {
            stage.name: {
                "records": round(stage.records),
                "tokens_computed": round(stage.tokens("prompt")),
                "tokens_naive": round(stage.tokens("prompt", naive=True)),
                "tokens_generated": round(stage.tokens("generate")),
                "tokens_trained": round(stage.tokens("train")),
                "flops": stage.total.total,
                "attention_flops": stage.total.attention,
                "memory_bytes": {**stage.memory.fixed, **stage.memory.varying} if stage.memory else {},
                "disk_bytes": round(stage.disk),
                "passing_disk_bytes": round(stage.passing),
                "hours": speed.hours(stage.operations) if speed else None,
                "cost": _cost(stage, speed, hourly_price),
            }
            for stage in planned.stages
        },
        "models": {role: dataclasses.asdict(size) for role, size in planned.sizes.items()},
        "flops_per_second": dataclasses.asdict(speed) if speed else None,
        "machine": {**dataclasses.asdict(planned.machine), "disk": disk},
        "fits": {fit.stage: fit.change for fit in fits},
        "notes": planned.notes,
    }
