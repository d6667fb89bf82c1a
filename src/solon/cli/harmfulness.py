"""``solon train harm-scorer``, ``solon eval harm-scorer`` and ``harmfulness``: absolute ratings of harm."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
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
from solon.config import Config, EngineSettings
from solon.errors import SolonError
from solon.evaluation import harm_judge, harm_ratings, harmfulness
from solon.evaluation.harm_ratings import Rated
from solon.evaluation.harmfulness import Entrant, Harmfulness, Wanted
from solon.evaluation.paper_evals import drawn
from solon.inference import open_engine
from solon.records import HarmAnswer, HarmScore, Message, PromptRecord
from solon.seeds import derive_seed
from solon.sources import data
from solon.sources.tables import HUB
from solon.store.files import file_hash, write_atomically
from solon.store.lock import alone_in
from solon.store.record_file import RecordFile

train = typer.Typer(no_args_is_help=True)

# Dialogues to one rating each, as they finish, with their places.
Rate = Callable[[Sequence[Sequence[Message]]], Iterator[tuple[int, float]]]

SCORED_TOGETHER = 64  # dialogues: enough to sort by length, and few enough that little is lost to a kill

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
    from solon.evaluation import harm_scorer

    asked = configuration(config, settings)
    found = harm_ratings.read(ratings, asked.harm_scorer.held_out)
    training = [each for each in found if each.split == "train"]
    with SCREEN.stage("Harm scorer"):
        steps = partial(SCREEN.advance, "steps")
        harm_scorer.train(training, model, out, asked.harm_scorer, asked.seed, steps)
    held_out = [each for each in found if each.split == "held-out"]
    figures: dict[str, Any] = {"conversations": len(training)}
    if held_out:
        with SCREEN.stage("Ratings"):
            rate = _scorer(str(out), asked.harm_scorer.micro_batch_size)
            figures["held-out"] = _agreement(held_out, rate, asked)
    source = {"source": ratings, "hash": "" if ratings.startswith(HUB) else file_hash(Path(ratings))}
    write_atomically(out / "ratings.json", json.dumps({**source, **figures}, indent=2) + "\n")
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
    found = harm_ratings.read(file, asked.harm_scorer.held_out)
    rated = drawn([each for each in found if every or each.split == "held-out"], limit, asked.seed)
    if not rated:
        raise SolonError(f"{file} has no held-out conversation; give --all to take every one")
    with _rater(scorer, judge, asked.engine, batch_size) as (name, rate):
        figures = {"scorer": name, **_agreement(rated, rate, asked)}
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
    heats = _temperatures(temperatures)
    run = Path(names[0])
    if len(names) == 1 and (run / "manifest.json").exists():
        if prompts or out:
            raise SolonError(f"{run} is a run, with prompts and a place of its own; drop --prompts and --out")
        asked = configs.load(config or run / "config.yaml", overrides(settings))
        entrants, found = _of_run(run, asked)
        found = data.select(found, "held-out", count, asked.seed)
        with alone_in(run):
            rows = _measured(
                entrants, found, heats, samples, run / "evaluation", scorer, judge, batch_size, asked
            )
    else:
        asked = configuration(config, settings)
        if len(set(names)) != len(names):
            raise SolonError("a model is named twice; name each once")
        found = data.select(data.prompts(prompts or "packaged", "red-team"), "held-out", count, asked.seed)
        entrants = [Entrant(name, name) for name in names]
        with TemporaryDirectory() as passing:
            kept = out or Path(passing)
            rows = _measured(entrants, found, heats, samples, kept, scorer, judge, batch_size, asked)
    if as_json:
        print(json.dumps({"scorer": _name(scorer, judge), "models": rows}, indent=2))
        return
    show_rows([dict(row) for row in rows], f"harmfulness from 0 to 4, by {_name(scorer, judge)}")
    for sentence in harmfulness.says(rows):
        typer.echo(sentence)


def _measured(
    entrants: Sequence[Entrant],
    prompts: Sequence[PromptRecord],
    temperatures: Sequence[float],
    samples: int,
    folder: Path,
    scorer: str | None,
    judge: str | None,
    batch_size: int,
    asked: Config,
) -> list[Harmfulness]:
    """The rows of the models, from the records in ``folder``, where what they lack is made first."""
    from solon import models

    quiet_libraries()
    # What is wrong with a model is told now, not after all the answers.
    name = _name(scorer, judge)
    for model in [entrant.model for entrant in entrants] + ([] if scorer else [name]):
        models.check(model)
    if scorer:
        models.load_preference_model(name, trained=True, measuring=True)
    asked_for = {
        each.id: each
        for entrant in entrants
        for each in harmfulness.wanted(prompts, entrant, temperatures, samples)
    }
    answers = _answers(RecordFile(folder / "harm-answers.jsonl", HarmAnswer), asked_for, asked)
    mine = [answers[name] for name in asked_for]
    dialogues = {
        each["id"]: [
            *asked_for[each["id"]].prompt["prompt"],
            Message(role="assistant", content=each["text"]),
        ]
        for each in mine
    }
    file = RecordFile(folder / "harm-scores.jsonl", HarmScore)
    with _rater(scorer, judge, asked.engine, batch_size) as (name, rate):
        scores = _scores(file, dialogues, name, rate)
    return harmfulness.summary(mine, scores)


def _answers(file: RecordFile, asked_for: dict[str, Wanted], asked: Config) -> dict[str, HarmAnswer]:
    done: dict[str, HarmAnswer] = {each["id"]: each for each in file.recover()}
    length = asked.evaluation.max_tokens
    if others := {each["max_tokens"] for each in done.values()} - {length}:
        raise SolonError(
            f"{file.path} has answers of at most {min(others)} tokens, not {length}; set "
            "evaluation.max_tokens to that or delete the file"
        )
    missing: dict[str, list[Wanted]] = {}
    for name, each in asked_for.items():
        if name not in done:
            missing.setdefault(each.entrant.model, []).append(each)
    seed = derive_seed(asked.seed, "harmfulness") % 2**31
    with SCREEN.stage("Answers"):
        for model, mine in missing.items():
            label = mine[0].entrant.label
            with open_engine(model, asked.engine) as engine:
                sampled = harmfulness.sample(engine, mine, asked.evaluation, seed)
                for number, answer in enumerate(sampled, 1):
                    file.append(answer)
                    done[answer["id"]] = answer
                    SCREEN.advance(label, number, len(mine))
    return done


def _scores(
    file: RecordFile, dialogues: dict[str, list[Message]], scorer: str, rate: Rate
) -> dict[str, float]:
    done: list[HarmScore] = file.recover().read()
    if others := {each["scorer"] for each in done} - {scorer}:
        raise SolonError(f"{file.path} has the ratings of {min(others)}; delete it to ask {scorer} instead")
    scores = {each["id"]: each["score"] for each in done}
    missing = [name for name in dialogues if name not in scores]
    for number, (place, score) in enumerate(rate([dialogues[name] for name in missing]), 1):
        file.append(HarmScore(id=missing[place], score=score, scorer=scorer))
        scores[missing[place]] = score
        SCREEN.advance("ratings", number, len(missing))
    return scores


def _of_run(run: Path, asked: Config) -> tuple[list[Entrant], list[PromptRecord]]:
    """The run's models in the method's order, as far as it has come, and its prompts."""
    from solon.workspace import Workspace

    work = Workspace(asked, run, SCREEN)
    entrants = [Entrant("initial", work.roles["policy"])]
    if (Path(work.sl_cai) / "config.json").exists():
        entrants.append(Entrant("sl-cai", work.sl_cai, 0))
    if (Path(work.rl_cai) / "config.json").exists():
        entrants += [
            Entrant(f"rl-cai-{step}", str(folder), step) for step, folder in work.kept_policies.items()
        ]
        entrants.append(Entrant("rl-cai", work.rl_cai, work.rl_steps))
    return entrants, work.prompts("red-team", "held-out")


@contextmanager
def _rater(
    scorer: str | None, judge: str | None, engine: EngineSettings, batch_size: int
) -> Iterator[tuple[str, Rate]]:
    """What rates dialogues, and its name."""
    name = _name(scorer, judge)
    with SCREEN.stage("Ratings"):
        if scorer:
            from solon.models import weights_hash

            yield f"{name} ({weights_hash(name, measuring=True)[:12]})", _scorer(name, batch_size)
        else:
            with open_engine(name, engine) as opened:
                yield name, partial(harm_judge.rate, opened)


def _scorer(name: str, batch_size: int) -> Rate:
    from solon.stages import preference_scores

    score = preference_scores.scorer(name, batch_size, measuring=True)

    def rate(dialogues: Sequence[Sequence[Message]]) -> Iterator[tuple[int, float]]:
        for start in range(0, len(dialogues), SCORED_TOGETHER):
            block = dialogues[start : start + SCORED_TOGETHER]
            yield from enumerate(score(block), start)

    return rate


def _name(scorer: str | None, judge: str | None) -> str:
    if bool(scorer) == bool(judge):
        raise SolonError("give one of --scorer, a harm scorer's folder, and --judge, a model to be asked")
    return str(scorer or judge)


def _temperatures(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= each < 100 for each in found) or len(set(found)) != len(found):
        raise SolonError(f"--temperatures is {text!r}; give different numbers from 0 up, such as 0,0.7,1")
    return found


def _agreement(rated: Sequence[Rated], rate: Rate, asked: Config) -> dict[str, Any]:
    predicted = [0.0] * len(rated)
    for number, (place, score) in enumerate(rate([each.dialogue for each in rated]), 1):
        predicted[place] = score
        SCREEN.advance("ratings", number, len(rated))
    ratings = [each.rating for each in rated]
    return harm_ratings.agreement(ratings, predicted, asked.evaluation.bootstrap, asked.seed)


def _print_agreement(figures: dict[str, Any], as_json: bool) -> None:
    show(figures, as_json)
    if not as_json and (rows := figures.get("held-out", figures).get("by_rating")):
        show_rows(rows, "by people's rating")
