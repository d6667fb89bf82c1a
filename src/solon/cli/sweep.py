"""``solon sweep``: a study of variations of one configuration."""

import json
from pathlib import Path
from typing import Annotated

import typer

from solon.cli.options import NO_SETTINGS, AsJson, Settings, overrides
from solon.cli.show import SCREEN


def sweep(
    study: Annotated[str, typer.Argument(help="A study's file, or the name of a packaged one.")],
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="The study's folder; 'runs/NAME' beside its file by default."),
    ] = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Run every variation of a study, doing what they share once; the same command goes on after a stop."""
    from solon import sweep as sweeps  # takes seconds to import, with all its libraries

    asked = sweeps.load(study, overrides(settings))
    beside = Path(study).parent if study.endswith((".yaml", ".yml")) else Path()
    folder = directory or beside / "runs" / asked.name
    page = sweeps.run(asked, folder, SCREEN)
    figures = (folder / "sweep.json").read_text(encoding="utf-8")
    if as_json:
        typer.echo(figures, nl=False)
        return
    found = json.loads(figures)
    typer.echo(found["verdict"])
    for caveat in found["caveats"]:
        typer.echo(caveat)
    typer.echo(f"Study: {page}")
