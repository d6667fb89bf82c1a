"""``solon train harm-scorer``, ``solon eval harm-scorer`` and ``harmfulness``: absolute ratings of harm."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from solon import config as configs
from solon.cli.options import (
    NO_SETTINGS,
    AsJson,
    ConfigFile,
    Limit,
    Model,
    Settings,
    configuration,
    overrides,
)
from solon.cli.show import SCREEN, quiet_libraries, show, show_rows
from solon.errors import SolonError
from solon.evaluation import harmfulness, human_ratings, raters
from solon.evaluation.harmfulness import Entrant
from solon.evaluation.paper_evals import drawn
from solon.sources import data
from solon.store.lock import alone_in

train = typer.Typer(no_args_is_help=True)

Scorer = Annotated[str | None, typer.Option("--scorer", help="A harm scorer's folder.")]
Judge = Annotated[str | None, typer.Option("--judge", help="A model that is asked for the rating instead.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Dialogues that the scorer reads together.")]


def add_to(app: typer.Typer) -> None:
    app.command("harm-scorer")(measure_scorer)
    app.command("harmfulness")(measure_models)


@train.callback()
def training() -> None:
    """Train models that are no part of a run."""


@train.command("harm-scorer")
def train_scorer(
    ratings: Annotated[
        str, typer.Argument(help="Rated conversations: a file or 'datasets:NAME'; see the docs.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write the scorer to.")],
    model: Model,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Train a scorer of harmfulness on people's ratings from 0 to 4. It is for measuring only."""
    from solon.evaluation import harm_scorer  # brings the trainers, which take seconds to import

    figures = harm_scorer.make(ratings, model, out, configuration(config, settings), SCREEN)
    _print_agreement(figures, as_json)


def measure_scorer(
    file: Annotated[str, typer.Option("--data", help="Rated conversations; see the docs.")],
    scorer: Scorer = None,
    judge: Judge = None,
    every: Annotated[bool, typer.Option("--all", help="Not only the held-out split.")] = False,
    limit: Limit = None,
    batch_size: BatchSize = 16,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """How far a harm scorer, or a judge, agrees with people's ratings of conversations."""
    asked = configuration(config, settings)
    conversations = human_ratings.read(file, asked.harm_scorer.held_out)
    rated = drawn(
        [conversation for conversation in conversations if every or conversation.split == "held-out"],
        limit,
        asked.seed,
    )
    if not rated:
        raise SolonError(f"{file} has no held-out conversation; give --all to take every one")
    with raters.rater(scorer, judge, asked, batch_size, SCREEN) as (name, rate):
        agreed = human_ratings.measure(rated, rate, asked.evaluation.bootstrap, asked.seed, SCREEN)
    figures = {"scorer": name, **agreed}
    _print_agreement(figures, as_json)


def measure_models(
    names: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Models, or one run folder for all of its models.")
    ],
    scorer: Scorer = None,
    judge: Judge = None,
    temperatures: Annotated[str, typer.Option(help="Temperatures of the answers.")] = "0,1",
    samples: Annotated[int, typer.Option(min=1, help="Answers to each prompt at a temperature above 0.")] = 1,
    count: Annotated[int | None, typer.Option(min=1, help="How many prompts; all by default.")] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Where red-team prompts come from; held-out ones are used.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder to keep answers and ratings in.")] = None,
    batch_size: BatchSize = 16,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """How harmful models' answers to held-out red-team prompts are, from 0 to 4, at several temperatures."""
    how: dict[str, Any] = {
        "scorer": scorer,
        "judge": judge,
        "temperatures": _temperatures(temperatures),
        "samples": samples,
        "batch_size": batch_size,
        "watcher": SCREEN,
    }
    quiet_libraries()
    run = Path(names[0])
    if len(names) == 1 and (run / "manifest.json").exists():
        if prompts or out:
            raise SolonError(f"{run} is a run, with prompts and a place of its own; drop --prompts and --out")
        asked = configs.load(config or run / "config.yaml", overrides(settings))
        entrants, records = harmfulness.of_run(run, asked)
        records = data.select(records, "held-out", count, asked.seed)
        with alone_in(run):
            rows = harmfulness.measure(entrants, records, run / "evaluation", asked, **how)
    else:
        asked = configuration(config, settings)
        if len(set(names)) != len(names):
            raise SolonError("a model is named twice; name each once")
        records = data.held_out(prompts or "packaged", "red-team", count, asked.seed)
        entrants = [Entrant(name, name) for name in names]
        with TemporaryDirectory() as passing:
            rows = harmfulness.measure(entrants, records, out or Path(passing), asked, **how)
    rater = str(scorer or judge)
    if as_json:
        print(json.dumps({"scorer": rater, "models": rows}, indent=2))
        return
    show_rows([dict(row) for row in rows], f"harmfulness from 0 to 4, by {rater}")
    for sentence in harmfulness.says(rows):
        typer.echo(sentence)


def _temperatures(text: str) -> list[float]:
    try:
        temperatures = [float(part) for part in text.split(",")]
    except ValueError:
        temperatures = [-1.0]
    different = len(set(temperatures)) == len(temperatures)
    if not different or not all(0 <= temperature < 100 for temperature in temperatures):
        raise SolonError(f"--temperatures is {text!r}; give different numbers from 0 up, such as 0,0.7,1")
    return temperatures


def _print_agreement(figures: dict[str, Any], as_json: bool) -> None:
    show(figures, as_json)
    if not as_json and (rows := figures.get("held-out", figures).get("by_rating")):
        show_rows(rows, "by people's rating")
