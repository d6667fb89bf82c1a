"""``solon init``, ``solon run`` and ``solon report``: the whole method, and what came of it."""

import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import typer

from solon import constitution
from solon.cli.options import NO_RUNS, NO_SETTINGS, AsJson, Reuse, Settings, configuration
from solon.cli.show import SCREEN, elo_of, show
from solon.errors import SolonError
from solon.method import NAMES


def init(directory: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Make a folder with a constitution to edit, and configurations from a laptop's to the paper's."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SolonError(f"{directory} exists and is not an empty folder; give another name")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "constitution.yaml").write_text(constitution.load("harmless").to_yaml(), encoding="utf-8")
    for file in (resources.files("solon") / "configs").iterdir():
        text = file.read_text(encoding="utf-8")
        text = text.replace("constitution: harmless\n", "constitution: constitution.yaml\n", 1)
        (directory / file.name).write_text(text, encoding="utf-8")
    typer.echo(
        f"Next: edit {directory / 'constitution.yaml'}, then run 'solon run {directory / 'laptop.yaml'}'"
    )


def run(
    config: Annotated[Path, typer.Argument(help="A configuration file, or a run folder, which has its own.")],
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="The run folder; 'runs/NAME' beside the configuration by default."),
    ] = None,
    settings: Settings = NO_SETTINGS,
    until: Annotated[
        Literal[NAMES],  # type: ignore[valid-type]
        typer.Option(
            metavar="STAGE",
            help="The last stage to do: 'supervised' for SL-CAI alone. Run again without it to go on.",
        ),
    ] = NAMES[-1],
    reuse: Reuse = NO_RUNS,
    as_json: AsJson = False,
) -> None:
    """Take the whole method to its end; the same command goes on where a stopped one was."""
    if (config / "config.yaml").is_file():
        config, directory = config / "config.yaml", directory or config
    from solon import pipeline  # takes seconds to import, with all its libraries

    asked = configuration(config, settings)
    folder = directory or config.parent / "runs" / config.stem
    path = pipeline.run(asked, folder, SCREEN, until=until, donors=reuse)
    _conclude(folder, path, as_json)


def report(
    directories: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="A run folder; several are compared.")
    ],
    out: Annotated[Path, typer.Option(help="The page to write where several runs are compared.")] = Path(
        "comparison.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Write the HTML report of a run, finished or not, or one page that compares several."""
    from solon import report as reports

    if len(directories) == 1:
        _conclude(directories[0], reports.write(directories[0]), as_json)
        return
    from solon.report import runs_compared

    runs = runs_compared.write(directories, out)
    if as_json:
        print(json.dumps({"report": str(out), **runs_compared.as_json(runs)}, indent=2))
        return
    typer.echo(": ".join(runs_compared.verdict(runs)))
    for caveat in runs_compared.caveats(runs):
        typer.echo(caveat)
    typer.echo(f"Report: {out}")


def _conclude(folder: Path, path: Path, as_json: bool) -> None:
    from solon.report import content, judging, trust
    from solon.store.run_folder import read

    run_folder = read(folder)
    elos = {aspect: judging.ratings(run_folder, aspect).values() for aspect in judging.ASPECTS}
    if as_json:
        figures = {
            **run_folder.summary,
            "elo": {aspect: list(map(dataclasses.asdict, rated)) for aspect, rated in elos.items() if rated},
            "judging": {
                aspect: judging.judging(run_folder, aspect) for aspect, rated in elos.items() if rated
            },
        }
        verdict = content.verdict(run_folder)
        told = {"report": str(path), "verdict": verdict, "trust": run_folder.trust}
        print(json.dumps(told | figures, indent=2))
        return
    for aspect, rated in elos.items():
        if rated:
            title = f"more {judging.quality(run_folder, aspect)}, Elo"
            show({rating.model: elo_of(rating) for rating in rated}, as_json=False, title=title)
    typer.echo(content.verdict(run_folder))
    if caveat := content.caveat(run_folder):
        typer.echo(caveat)
    for sentence in trust.sentences(run_folder):
        typer.echo(sentence)
    typer.echo(f"Report: {path}")
