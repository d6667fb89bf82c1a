"""``solon relabel``: other weights of principles, and what they make of the votes that are there."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solon.cli.options import AsJson
from solon.cli.show import show, show_rows
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.evaluation.constitution_diff import Example
from solon.records import Aspect
from solon.yaml_file import load_yaml, parse, text_of

if TYPE_CHECKING:
    from solon.pipeline.relabel import Change

SHOWN = 20  # flips in the table; all are in --json
WIDTH = 40  # characters of an answer there
MANY: list[str] = []


def relabel(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder that has its labels.")],
    weights: Annotated[
        list[str],
        typer.Option(
            "--weights",
            metavar="PRINCIPLE=W,...",
            help="Or a YAML file of names and weights, or a constitution. May be repeated.",
        ),
    ] = MANY,
    without: Annotated[
        list[str], typer.Option("--without", metavar="PRINCIPLE", help="The weight 0. May be repeated.")
    ] = MANY,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="The new run's folder; 'RUN-relabelled' by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Weigh the votes of a run otherwise: a new run with the labels that they make, and no model asked."""
    wanted = {name: weight for each in weights for name, weight in read(each).items()}
    if twice := [name for name in without if wanted.get(name)]:
        raise SolonError(f"--without and --weights both name {twice[0]!r}; drop one of the two")
    wanted |= dict.fromkeys(without, 0.0)
    if not wanted:
        raise SolonError("there is nothing to weigh; give --weights PRINCIPLE=W or --without PRINCIPLE")
    from solon import report  # takes seconds to import, with all its libraries
    from solon.pipeline.relabel import relabel as start

    target = directory or run.resolve().with_name(f"{run.resolve().name}-relabelled")
    changes = start(run, target, wanted)
    report.write(target)
    if as_json:
        told = {str(aspect): change._asdict() for aspect, change in changes.items()}
        show({"run": str(target), "changes": told}, as_json)
        return
    tell(changes, target)


def tell(changes: Mapping[Aspect, "Change"], target: Path) -> None:
    for aspect, change in changes.items():
        found = change.diff
        figures = {
            "weights": said(change.weights),
            "labels": found["comparisons"],
            "flips": found["flips"],
            "moved on average": found["moved"],
            "without a label now": len(change.lost),
            "with a label again": len(change.regained),
        }
        show(figures, as_json=False, title=aspect)
        if flips := found["examples"]:
            show_rows([row(flip) for flip in flips[:SHOWN]], "labels that flip")
        if len(flips) > SHOWN:
            typer.echo(f"and {len(flips) - SHOWN} more, which --json prints")
        if change.lost:
            names = ", ".join(change.lost[:SHOWN]) + (", ..." if len(change.lost) > SHOWN else "")
            typer.echo(f"without a label, since every vote was under a principle of weight 0: {names}")
        if not found["moved"] and not change.lost and not change.regained:
            typer.echo("No label is another: a weight counts only beside other votes on the same pair.")
    typer.echo(f"Next: 'solon run {target}', which goes on with the preference model")


def read(given: str) -> dict[str, float]:
    """Names and weights of "a=1,b=0.5" or of a file. Raises SolonError for what is neither."""
    path = Path(given)
    if given.endswith((".yaml", ".yml")) or ("=" not in given and path.is_file()):
        data, _ = parse(text_of(path), given)
        if isinstance(data, dict) and "comparison" in data:
            return {each.name: each.weight for each in load_yaml(path, Constitution).comparison}
        return of_file(given, data)
    named: dict[str, float] = {}
    rest = given
    while rest:  # names may have commas and signs of equality: each goes up to the next '=NUMBER'
        found = re.match(r"\s*(.+?)\s*=\s*([^\s,=]+)\s*(?:,|$)", rest)
        weight = number(found[2]) if found else None
        if not found or weight is None:
            raise SolonError(f"--weights {given!r:.80} is no list of weights; write PRINCIPLE=0.5,OTHER=2")
        if found[1] in named:
            raise SolonError(f"--weights names {found[1]!r} twice; drop one of the two")
        named[found[1]] = weight
        rest = rest[found.end() :]
    return named


def of_file(path: str, data: Any) -> dict[str, float]:
    if not isinstance(data, Mapping) or not data:
        raise SolonError(f"{path}: expected lines such as 'PRINCIPLE: 0.5'")
    for name, weight in data.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise SolonError(f"{path}: {name}: {weight!r:.40} is no weight; give a number, 0 or more")
    return {str(name): float(weight) for name, weight in data.items()}


def number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def said(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items()) or "all of weight 1"


def row(flip: Example) -> dict[str, Any]:
    return {
        "pair": flip["id"],
        "was": short(flip["preferred"]),
        "by": f"{flip['probability_a']:.1%}",
        "is": short(flip["other"]),
        "now by": f"{1 - flip['probability_b']:.1%}",
    }


def short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[:WIDTH] + "…"
