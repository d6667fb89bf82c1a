"""``solon eval principles``, ``shortcuts``, ``overoptimisation``, ``elo``: what records and choices show."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from solon import config as configs
from solon.cli.options import NO_SETTINGS, AsJson, Settings, overrides
from solon.cli.show import SCREEN, show, show_rows
from solon.errors import SolonError
from solon.evaluation import attribution, choices, judged_samples, paper_evals
from solon.evaluation import overoptimisation as over
from solon.evaluation import shortcuts as trivial

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]

BLOCK = ("reward", "judged", "won", "answers", "boilerplate", "distinct")  # columns in the terminal
SHORTCUT = ("feature", "differs", "better", "accuracy", "interval", "auc")
MODEL = ("set", "model", "answers", "boilerplate", "distinct")


def add_to(app: typer.Typer) -> None:
    app.command("principles")(principles)
    app.command("shortcuts")(shortcuts)
    app.command("overoptimisation")(overoptimisation)
    app.command("elo")(elo)


def principles(run: RunFolder, as_json: AsJson = False) -> None:
    """Which principles decide the labels of a run, which contradict one another, and which do nothing."""
    from solon.report.content import principles as gather  # brings the report's libraries
    from solon.store.run_folder import read

    folder = read(run)
    by_aspect, critiques = gather(folder)
    if not by_aspect and not critiques:
        raise SolonError(f"{run} has no critique and no AI label yet; run its stages first")
    if as_json:
        print(json.dumps({"comparisons": by_aspect, "critiques": critiques}, indent=2))
        return
    for aspect, votes in by_aspect.items():
        rows = [{name: value for name, value in row.items() if name != "dead"} for row in votes["principles"]]
        show_rows(rows, f"{aspect}, {votes['comparisons']} comparisons")
        related = [relation for relation in votes["relations"] if relation["finding"]]
        if related:
            show_rows(related, f"{aspect}, principles that agree or contradict each other")
        for sentence in attribution.says(votes):
            typer.echo(sentence)
    if critiques:
        show_rows(critiques, "critiques")


def shortcuts(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run folder.")] = None,
    file: Annotated[
        str, typer.Option("--data", help="In its place: pairs in hh-rlhf's form or PandaLM's.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Whether labels can be told by length, end, first word and the like, without reading the answers."""
    from solon.store.run_folder import read

    if (run is None) == (not file):
        raise SolonError("give a run folder, or labelled pairs with --data")
    labelled = trivial.of_run(read(run)) if run else {file: trivial.of_people(paper_evals.read_pairs(file))}
    if not labelled:
        raise SolonError(f"{run} has no label and no judgement yet; run its stages first")
    found = {name: trivial.measure(pairs) for name, pairs in labelled.items()}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, of_name in found.items():
        if of_name["rows"]:
            show_rows([_some(row, SHORTCUT) for row in of_name["rows"]], f"{name}, {of_name['pairs']} pairs")
        typer.echo(f"{name}: {of_name['says']}")


def overoptimisation(
    run: RunFolder,
    judge: Annotated[
        str, typer.Option(help="A model to compare answers of RL with SL-CAI's; its judgements are kept.")
    ] = "",
    count: Annotated[int, typer.Option(min=1, help="How many answers it judges, over all steps.")] = 120,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Whether RL still made answers better, or only the preference model's score higher."""
    from solon.report import content  # brings the report's libraries
    from solon.store.run_folder import read

    if judge:
        asked = configs.load(run / "config.yaml", overrides(settings))
        judged_samples.judge(run, judge, count, asked, SCREEN)
    watched = content.watch(read(run))
    findings = over.says(watched)
    if as_json:
        print(json.dumps({"findings": findings, **watched}, indent=2))
        return
    if not watched["blocks"] and not watched["models"]:
        raise SolonError(f"{run} has no RL and no evaluation yet; run its stages first")
    if watched["blocks"]:
        steps: list[dict[str, Any]] = [
            {"steps": f"{block['first']}–{block['last']}", **_some(block, BLOCK)}
            for block in watched["blocks"]
        ]
        show_rows(steps, "over RL")
    if watched["models"]:
        rows: list[dict[str, Any]] = [
            {**_some(row, MODEL), "p of rise": row["rise"]["p_value"] if row["rise"] else None}
            for row in watched["models"]
        ]
        show_rows(rows, "answers in the evaluation")
    for finding in findings:
        typer.echo(("Warning: " if finding["warning"] else "") + finding["text"])


def _some(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in columns}


def elo(
    file: Annotated[
        Path, typer.Option("--choices", help="A table with prompt, model_a, model_b, choice; see the docs.")
    ],
    anchor: Annotated[str, typer.Option(help="The model with Elo 0; the mean is 0 without one.")] = "",
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples behind the intervals.")] = 1000,
    seed: int = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Write a page with the plane of harmlessness and helpfulness.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Elo scores from pairwise choices of people, each aspect apart."""
    ratings = choices.ratings(choices.read(file), anchor or None, bootstrap, seed)
    if plot:
        from solon.report import elo_page as page  # brings the report's libraries

        page.write(ratings, file.name, plot)
    if as_json:
        as_dicts = {
            aspect: {**of_aspect, "models": [dataclasses.asdict(rating) for rating in of_aspect["models"]]}
            for aspect, of_aspect in ratings.items()
        }
        print(json.dumps(as_dicts, indent=2))
        return
    for aspect, of_aspect in ratings.items():
        rows = [
            {
                "model": rating.model,
                "Elo": f"{rating.elo:+.0f}",
                "95 %": f"{rating.low:+.0f} to {rating.high:+.0f}",
                "choices": rating.games,
            }
            for rating in of_aspect["models"]
        ]
        show_rows(rows, f"{aspect or 'all choices'}, Elo")
        show({name: value for name, value in of_aspect.items() if name != "models"}, as_json=False)
    if plot:
        typer.echo(f"Plot: {plot}")
