"""``solon eval principles``: what the records of a run show."""

import json
from pathlib import Path
from typing import Annotated

import typer

from solon.cli.options import AsJson
from solon.cli.show import show_rows
from solon.errors import SolonError
from solon.evaluation import attribution

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def add_to(app: typer.Typer) -> None:
    app.command("principles")(principles)


def principles(run: RunFolder, as_json: AsJson = False) -> None:
    """Which principles decide the labels of a run, which contradict one another, and which do nothing."""
    from solon.report.content import principles as gather  # brings the report's libraries
    from solon.report.folder import read

    found = read(run)
    by_aspect, critiques = gather(found)
    if not by_aspect and not critiques:
        raise SolonError(f"{run} has no critique and no AI label yet; run its stages first")
    if as_json:
        print(json.dumps({"comparisons": by_aspect, "critiques": critiques}, indent=2))
        return
    for aspect, votes in by_aspect.items():
        rows = [
            {name: value for name, value in each.items() if name != "dead"} for each in votes["principles"]
        ]
        show_rows(rows, f"{aspect}, {votes['comparisons']} comparisons")
        related = [each for each in votes["relations"] if each["finding"]]
        if related:
            show_rows(related, f"{aspect}, principles that agree or contradict each other")
        for sentence in attribution.says(votes):
            typer.echo(sentence)
    if critiques:
        show_rows(critiques, "critiques")
