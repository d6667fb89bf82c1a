"""``solon eval``: models against each other, preference models against labels, answers for refusals."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from solon import constitution
from solon.cli import analyses, harmfulness, judges, refusals
from solon.cli.options import NO_SETTINGS, AsJson, ConfigFile, Settings, configuration
from solon.cli.show import SCREEN, elo_of, show
from solon.errors import SolonError
from solon.evaluation import decisions, preference, tournament
from solon.records import Aspect, PreferenceRecord, PromptSet
from solon.sources import data
from solon.store.record_file import RecordFile

app = typer.Typer(no_args_is_help=True)


@app.command("models")
def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="At least two; the first has Elo 0.")
    ],
    judge: Annotated[str, typer.Option(help="The judge; the configuration's by default.")] = "",
    prompts: Annotated[
        str, typer.Option(help="Where the prompts come from; held-out ones are used.")
    ] = "packaged",
    aspect: Annotated[str, typer.Option(help="'harmlessness' or 'helpfulness'.")] = "harmlessness",
    count: Annotated[int | None, typer.Option(min=1, help="How many prompts; all by default.")] = None,
    rules: Annotated[str, typer.Option("--constitution", help="'harmless' or 'helpful' by default.")] = "",
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Elo scores of models, from pairwise judgements of their answers in both orders."""
    asked = configuration(config, settings)
    sets: dict[str, PromptSet] = {"harmlessness": "red-team", "helpfulness": "helpful"}
    if aspect not in sets:
        raise SolonError(f"--aspect is {aspect!r}; it must be 'harmlessness' or 'helpfulness'")
    if len(set(names)) != len(names) or len(names) < 2:
        raise SolonError("give at least two different models to compare")
    named: Aspect = "helpfulness" if aspect == "helpfulness" else "harmlessness"
    law = constitution.load(rules or {"harmlessness": "harmless", "helpfulness": "helpful"}[aspect])
    records = data.held_out(prompts, sets[aspect], count, asked.seed)
    judge = judge or asked.models.by_role["judge"]
    ratings, judging = tournament.compare(names, judge, records, named, law, asked, SCREEN)
    standings = judging["standings"] if judging else {}
    if as_json:
        rated = [dataclasses.asdict(rating) | {"judging": standings.get(rating.model)} for rating in ratings]
        show({each["model"]: each for each in rated}, as_json)
        return
    show({rating.model: elo_of(rating) for rating in ratings}, as_json, f"more {law.quality}, Elo")
    if judging:
        typer.echo(decisions.says(judging))
    for rating in ratings:
        standing = standings.get(rating.model)
        if standing and (reason := decisions.withheld(rating.model, rating, standing)):
            typer.echo(f"There is no verdict on {rating.model}: {reason}.")


@app.command("preference-model")
def preference_model(
    model: Annotated[str, typer.Argument(help="The preference model's folder.")],
    preferences: Annotated[Path, typer.Argument(help="A record file of 'solon feedback'.")],
    every: Annotated[bool, typer.Option("--all", help="Not only the held-out split.")] = False,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    as_json: AsJson = False,
) -> None:
    """A preference model's accuracy and calibration on labelled pairs."""
    if not preferences.exists():
        raise SolonError(f"{preferences} does not exist; check the path")
    records = [
        record
        for record in RecordFile(preferences, PreferenceRecord)
        if every or record["split"] == "held-out"
    ]
    if not records:
        raise SolonError(f"{preferences} has no held-out comparison; give --all to take every one")
    show(preference.measure(model, records, batch_size), as_json)


judges.add_to(app)
refusals.add_to(app)
analyses.add_to(app)
harmfulness.add_to(app)
