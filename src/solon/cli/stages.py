"""Every stage as a command of its own, from files to a record file or a checkpoint."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from solon import constitution
from solon.cli.options import NO_SETTINGS, AsJson, ConfigFile, Model, Settings, configuration
from solon.cli.show import SCREEN, show
from solon.config import Config
from solon.errors import SolonError
from solon.feedback import METHODS, labelling
from solon.feedback.made import ByMaking
from solon.feedback.method import Material
from solon.inference import blocks, open_engine
from solon.inference.engine import Engine
from solon.records import (
    AnswerRecord,
    Aspect,
    PairRecord,
    PreferenceRecord,
    PromptRecord,
    PromptSet,
    RevisionRecord,
)
from solon.sources import data
from solon.stages import comparison as comparisons
from solon.stages import critique as critiques
from solon.stages import examples, red_team
from solon.stages import feedback as feedbacks
from solon.store.record_file import RecordFile, complete

Prompts = Annotated[
    str, typer.Argument(help="'packaged', a .jsonl, .csv, .parquet or hh-rlhf file, or 'datasets:NAME'.")
]
Records = Annotated[Path, typer.Argument(help="The record file of the stage before.")]
Out = Annotated[Path, typer.Argument(help="The record file to write; one that is there is completed.")]
Checkpoint = Annotated[Path, typer.Argument(help="The folder to write the model to.")]
Answers = Annotated[
    Path | None, typer.Option(help="The record file of 'solon answer': what to revise in place of its own.")
]
REVISING = " or ".join(name for name, each in METHODS.items() if each.revises)
Rules = Annotated[str, typer.Option("--constitution", help="A packaged constitution's name, or a YAML file.")]


def add_to(app: typer.Typer) -> None:
    app.command("red-team")(write_prompts)
    app.command("critique")(critique)
    app.command("answer")(answer)
    app.command("supervised")(supervised)
    app.command("comparison")(comparison)
    app.command("feedback")(feedback)
    app.command("preference-model")(preference_model)
    app.command("reinforce")(reinforce)


def write_prompts(
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many new prompts to write.")],
    model: Model,
    examples_from: Annotated[
        str, typer.Option("--examples", help="Prompts to write more like.")
    ] = "packaged",
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Have a model write red-team prompts like others."""
    asked = configuration(config, settings)
    wanted = asked.red_team.model_copy(update={"generate": count})
    file = _out(out, PromptRecord)
    written = file.read()
    if other := [record["id"] for record in written if not red_team.is_generated(record["id"])]:
        raise SolonError(
            f"{out} holds a record {other[0]!r} of other input; give another file or delete this one"
        )
    with SCREEN.stage("Red-team prompts"), open_engine(model, asked.engine, asked.scale) as engine:
        seeds = data.prompts(examples_from, "red-team")
        for number, record in enumerate(
            red_team.write(engine, seeds, list(written), wanted, asked.seed), len(written) + 1
        ):
            file.append(record)
            written.append(record)
            SCREEN.advance("prompts", number, count)
    if len(written) < count:
        SCREEN.say(f"{len(written)} of {count} prompts were written: the others were too like one another.")


def critique(
    prompts: Prompts,
    out: Out,
    model: Model,
    answers: Answers = None,
    rules: Rules = "harmless",
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Answer red-team prompts, then critique and revise the answers, or those of another model."""
    asked, law = configuration(config, settings), constitution.load(rules)
    wanted = _training_prompts(prompts, "red-team")
    texts = _answers_to(wanted, answers) if answers else None

    def make(engine: Engine, missing: list[PromptRecord]) -> Iterable[Mapping[str, Any]]:
        return critiques.revise(engine, missing, law, asked.critique, asked.seed, texts)

    _write(
        "Critique and revision",
        wanted,
        _out(out, RevisionRecord),
        model,
        asked,
        make,
    )


def answer(
    prompts: Prompts,
    out: Out,
    model: Model,
    prompt_set: Annotated[str, typer.Option("--set-name", help="'helpful' or 'red-team'.")] = "helpful",
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Answer helpful prompts, to be mixed with the revisions; or red-team prompts, to be revised."""
    asked = configuration(config, settings)
    named: PromptSet = "red-team" if prompt_set == "red-team" else "helpful"
    if prompt_set != named:
        raise SolonError(f"--set-name is {prompt_set!r}; it must be 'helpful' or 'red-team'")

    def make(engine: Engine, missing: list[PromptRecord]) -> Iterable[Mapping[str, Any]]:
        return critiques.answer(engine, missing, asked.critique, asked.seed)

    title = "Helpful answers" if named == "helpful" else "Answers to red-team prompts"
    _write(title, _training_prompts(prompts, named), _out(out, AnswerRecord), model, asked, make)


def supervised(
    revisions: Records,
    out: Checkpoint,
    model: Model,
    helpful: Annotated[Path | None, typer.Option(help="The record file of 'solon answer'.")] = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Finetune a model on revisions and helpful answers: SL-CAI."""
    from solon import launch  # the trainers take seconds to import

    asked = configuration(config, settings)
    mixed = examples.gather(
        _read(revisions, RevisionRecord), _read(helpful, AnswerRecord) if helpful else [], asked.supervised
    )
    with SCREEN.stage("Supervised finetuning"):
        figures = launch.train(
            "supervised", mixed, [model], out, asked.supervised, asked.seed, _steps(), asked.scale.training
        )
        show(figures, as_json)


def comparison(
    prompts: Prompts,
    out: Out,
    model: Model,
    answers: Answers = None,
    rules: Rules = "harmless",
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Answer every red-team prompt twice, or as feedback.method says.

    With contrast: under a principle and against it. With revision: revise --answers instead.
    """
    asked = configuration(config, settings)
    method, wanted = METHODS[asked.feedback.method], _training_prompts(prompts, "red-team")
    if answers and not method.revises:
        raise SolonError(f"--answers is given, but nothing revises them; set feedback.method to {REVISING}")
    material = Material(
        laws={"red-team": constitution.load(rules)},
        sampling=asked.comparison,
        critique=asked.critique,
        seed=asked.seed,
        answers=_answers_to(wanted, answers) if method.revises else {},
    )
    make = partial(
        comparisons.pairs,
        method=method,
        material=material,
        held_out=asked.preference_model.held_out,
    )
    _write(
        "Two answers a prompt",
        wanted,
        _out(out, PairRecord),
        model,
        asked,
        make,
    )


def _answers_to(prompts: Sequence[PromptRecord], file: Path | None) -> dict[str, str]:
    """Texts by the prompts' ids. Raises SolonError where one is missing."""
    if file is None:
        raise SolonError(f"feedback.method is {REVISING}, but there is nothing to revise; give --answers")
    found = critiques.texts(_read(file, AnswerRecord))
    if missing := [each["id"] for each in prompts if each["id"] not in found]:
        raise SolonError(
            f"{file} has no answer to prompt {missing[0]!r} (and {len(missing) - 1} more); make it of the "
            "same prompts with 'solon answer --set-name red-team'"
        )
    return found


def feedback(
    pairs: Records,
    out: Out,
    model: Annotated[
        str | None, typer.Option("--model", help="The feedback model; none with contrast or revision.")
    ] = None,
    rules: Rules = "harmless",
    aspect: Annotated[str, typer.Option(help="'harmlessness' or 'helpfulness'.")] = "harmlessness",
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Label pairs under the constitution's comparison principles."""
    asked, law = configuration(config, settings), constitution.load(rules)
    named: Aspect = "helpfulness" if aspect == "helpfulness" else "harmlessness"
    if aspect != named:
        raise SolonError(f"--aspect is {aspect!r}; it must be 'harmlessness' or 'helpfulness'")
    sound: list[PairRecord] = [pair for pair in _read(pairs, PairRecord) if not pair["problem"]]

    method, labelled_by = labelling(asked.feedback, law, named)
    if isinstance(method, ByMaking):
        with SCREEN.stage("AI feedback"):
            make_labels = partial(feedbacks.by_making, aspect=named, method=method)
            complete(_out(out, PreferenceRecord), sound, make_labels, partial(SCREEN.advance, "records"))
        return
    if model is None:
        raise SolonError("no model is named to judge the pairs; give --model")

    def make(engine: Engine, missing: list[PairRecord]) -> Iterable[Mapping[str, Any]]:
        return feedbacks.label(engine, missing, law, named, asked.feedback, asked.seed)

    questions = method.questions(labelled_by, len(law.comparison))
    _write("AI feedback", sound, _out(out, PreferenceRecord), model, asked, make, questions)


def preference_model(
    preferences: Annotated[list[Path], typer.Argument(help="Record files of 'solon feedback'.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the model to.")],
    model: Model,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Train a preference model on labelled pairs; those of the held-out split are left out."""
    from solon import launch

    asked = configuration(config, settings)
    records = [
        record
        for file in preferences
        for record in _read(file, PreferenceRecord)
        if record["split"] == "train"
    ]
    if asked.preference_model.helpfulness not in {None, "ai"}:
        records += data.comparisons(str(asked.preference_model.helpfulness), asked.preference_model.held_out)
    with SCREEN.stage("Preference model"):
        settings_of, scale = asked.preference_model, asked.scale.training
        figures = launch.train("preference", records, [model], out, settings_of, asked.seed, _steps(), scale)
        show(figures, as_json)


def reinforce(
    prompts: Prompts,
    out: Checkpoint,
    policy: Annotated[str, typer.Option(help="The SL-CAI model.")],
    preference_model: Annotated[str, typer.Option(help="The preference model's folder.")],
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Train the policy against the preference model, with a KL penalty: RL-CAI."""
    from solon import launch

    asked, found = configuration(config, settings), _training_prompts(prompts, "red-team")
    with SCREEN.stage("Reinforcement learning"):
        names, scale = [policy, preference_model], asked.scale.training
        figures = launch.train("reinforce", found, names, out, asked.reinforce, asked.seed, _steps(), scale)
        show(figures, as_json)


def _write(
    title: str,
    wanted: Sequence[Any],
    out: RecordFile,
    model: str,
    asked: Config,
    make: blocks.Make,
    requests: int = 1,
) -> None:
    progress = partial(SCREEN.advance, "records")
    with SCREEN.stage(title), open_engine(model, asked.engine, asked.scale) as engine:
        blocks.generate(out, wanted, model, asked.engine, lambda: engine, make, progress, requests)


def _training_prompts(source: str, prompt_set: PromptSet) -> list[PromptRecord]:
    return [record for record in data.prompts(source, prompt_set) if record["split"] == "train"]


def _read(path: Path, kind: Any) -> list[Any]:
    if not path.exists():
        raise SolonError(f"{path} does not exist; check the path")
    records = RecordFile(path, kind).read()
    if not records:
        raise SolonError(f"{path} holds no records; name the file that the stage before wrote")
    return records


def _out(path: Path, kind: Any) -> RecordFile:
    """The file to be completed, looked at before a model is loaded."""
    return RecordFile(path, kind).recover()


def _steps() -> Callable[[int, int, dict[str, float]], None]:
    return partial(SCREEN.advance, "steps")
