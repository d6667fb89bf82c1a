"""Every stage as a command of its own, from files to a record file or a checkpoint.

Each command goes through the door that a run goes through: given a run's files and its configuration, it
leaves the run's bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solon.cli.options import NO_SETTINGS, AsJson, ConfigFile, Model, Settings, configuration
from solon.cli.show import SCREEN, show
from solon.config import Config
from solon.errors import SetAside, SolonError
from solon.feedback import METHODS
from solon.feedback.made import ByMaking
from solon.held_out import apart
from solon.method import TRUST, stage
from solon.records import (
    ASPECT_OF,
    SETS,
    AnswerRecord,
    PairRecord,
    PreferenceRecord,
    PromptRecord,
    PromptSet,
    RevisionRecord,
    TrustRecord,
)
from solon.sources import data, harm_labels
from solon.stages import critique as critiques
from solon.stages import examples, red_team
from solon.store.record_file import RecordFile
from solon.texts.written import Written

if TYPE_CHECKING:
    from solon.pipeline.workbench import Workbench

Prompts = Annotated[
    str, typer.Argument(help="'packaged', a .jsonl, .csv, .parquet or hh-rlhf file, or 'datasets:NAME'.")
]
Helpful = Annotated[
    str | None,
    typer.Option(
        "--helpful", help="Helpful prompts; those among PROMPTS where it tells the sets apart, as a run's do."
    ),
]
Records = Annotated[Path, typer.Argument(help="The record file of the stage before.")]
Out = Annotated[Path, typer.Argument(help="The record file to write; one that is there is completed.")]
Checkpoint = Annotated[Path, typer.Argument(help="The folder to write the model to.")]
Answers = Annotated[
    Path | None, typer.Option(help="The record file of 'solon answer': what to revise in place of its own.")
]
Rules = Annotated[
    str | None,
    typer.Option("--constitution", help="A packaged constitution's name, or a YAML file; as configured."),
]
REVISING = " or ".join(name for name, method in METHODS.items() if method.revises)


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
    from solon.pipeline.steps import red_team as step

    file = _out(out, PromptRecord)
    if other := [record["id"] for record in file if not red_team.is_generated(record["id"])]:
        raise SolonError(
            f"{out} holds a record {other[0]!r} of other input; give another file or delete this one"
        )
    prompts = data.prompts(examples_from, "red-team")
    seeds = [record for record in prompts if not red_team.is_generated(record["id"])]
    with _bench(config, settings, assistant=model) as bench, SCREEN.stage(stage("red-team").title):
        written = step.write(bench, seeds, file, count)
    if len(written) < count:
        SCREEN.say(
            f"{len(written)} of {count} prompts were written: the others were too like one another, or none."
        )


def critique(
    prompts: Prompts,
    out: Out,
    model: Model,
    answers: Answers = None,
    rules: Rules = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Answer red-team prompts, then critique and revise the answers, or those of another model."""
    from solon.pipeline.steps import critique as step

    found, notes = _prompts((prompts, "red-team"))
    wanted, file = _train(found), _out(out, RevisionRecord)
    texts = _texts(answers) if answers else None
    _have_answers(wanted, texts, answers)
    with _bench(config, settings, rules, critic=model) as bench, _noted(stage("critique").title, notes):
        step.revise(bench, wanted, file, texts)


def answer(
    prompts: Prompts,
    out: Out,
    model: Model,
    prompt_set: Annotated[str, typer.Option("--set-name", help="'helpful' or 'red-team'.")] = "helpful",
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Answer helpful prompts, to be mixed with the revisions; or red-team prompts, to be revised."""
    from solon.pipeline.steps import critique as step

    named: PromptSet = "red-team" if prompt_set == "red-team" else "helpful"
    if prompt_set != named:
        raise SolonError(f"--set-name is {prompt_set!r}; it must be 'helpful' or 'red-team'")
    found, notes = _prompts((prompts, named))
    wanted, file = _train(found), _out(out, AnswerRecord)
    title = "Helpful answers" if named == "helpful" else "Answers to red-team prompts"
    with _bench(config, settings, assistant=model) as bench, _noted(title, notes):
        step.answer(bench, wanted, named, file)


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
    from solon.pipeline.steps import supervised as step

    with _bench(config, settings, policy=model) as bench:
        made, kept = _read(revisions, RevisionRecord), _read(helpful, AnswerRecord) if helpful else []
        mixed = examples.gather(made, kept, bench.config.supervised)
        with SCREEN.stage(stage("supervised").title):
            show(step.train(bench, mixed, out), as_json)


def comparison(
    prompts: Prompts,
    out: Out,
    model: Model,
    revisions: Annotated[
        Path | None, typer.Option(help="The record file of 'solon critique', for methods that revise.")
    ] = None,
    answers: Answers = None,
    helpful: Helpful = None,
    rules: Rules = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Answer every red-team prompt twice, or as feedback.method says.

    With contrast: under a principle and against it. With revision: take --revisions, or revise --answers.
    Helpful prompts are answered where preference_model.helpfulness is "ai", and no red-team ones where
    preference_model.harmlessness names people's comparisons.
    """
    from solon.pipeline.steps import comparison as step

    file = _out(out, PairRecord)
    with _bench(config, settings, rules, feedback=model) as bench:
        by_models = bench.config.preference_model.by_models
        with_helpful = "helpful" in by_models
        found, notes = _of_sets(prompts, helpful) if with_helpful else _prompts((prompts, "red-team"))
        wanted = [prompt for prompt in _train(found) if prompt["set"] in by_models]
        made = {record["id"]: record for record in _read(revisions, RevisionRecord)} if revisions else {}
        texts = _texts(answers) if answers else {}
        if METHODS[bench.config.feedback.method].revises:
            if not (revisions or answers):
                raise SolonError(
                    f"feedback.method is {REVISING}, but there is nothing to revise; give --revisions or "
                    "--answers"
                )
            _have_answers(wanted, made | texts, answers or revisions)
        elif revisions or answers:
            given = "--answers" if answers else "--revisions"
            raise SolonError(f"{given} is given, but nothing revises them; set feedback.method to {REVISING}")
        with _noted(stage("comparison").title, notes):
            step.pairs(bench, wanted, file, model, made, texts)


def feedback(
    pairs: Records,
    out: Out,
    model: Annotated[
        str | None, typer.Option("--model", help="The feedback model; none with contrast or revision.")
    ] = None,
    rules: Rules = None,
    aspect: Annotated[
        str | None,
        typer.Option(help="'harmlessness' or 'helpfulness'; by each pair's set of prompts without it."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="A run's prompts: those held out are not trained on, whoever labelled them."),
    ] = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
) -> None:
    """Label pairs under the constitution's comparison principles.

    Comparisons that people labelled, where preference_model.helpfulness or harmlessness names a file, come
    with them. Where evaluation.trust names a file, the model is measured on it first.
    """
    from solon.pipeline.steps import feedback as step

    set_of = {of_set: name for name, of_set in ASPECT_OF.items()}
    if aspect is not None and aspect not in set_of:
        raise SolonError(f"--aspect is {aspect!r}; it must be 'harmlessness' or 'helpfulness'")
    file, aside = _out(out, PreferenceRecord), _out(out.with_name(f"{out.stem}-unlabelled.jsonl"), PairRecord)
    with _bench(config, settings, rules, aspect, feedback=model) as bench:
        some = bench.config.preference_model.by_models  # else people labelled all, and there are no pairs
        records: list[PairRecord] = (_read if some else _read_any)(pairs, PairRecord)
        if model is None and records and not isinstance(METHODS[bench.config.feedback.method], ByMaking):
            raise SolonError("no model is named to judge the pairs; give --model")
        kept = [
            record
            for name in SETS
            for record in (data.prompts(prompts, name) if prompts else [])
            if record["split"] == "held-out"
        ]
        by_people = step.human(bench.config.preference_model, kept)
        if aspect:
            records = [{**pair, "set": set_of[aspect]} for pair in records]
        if bench.config.evaluation.trust:
            _trusted(bench, records, by_people, out)
        with SCREEN.stage(stage("feedback").title):
            step.label(bench, records, by_people, file, aside)


def _trusted(
    bench: "Workbench", pairs: Sequence[PairRecord], by_people: Sequence[PreferenceRecord], out: Path
) -> None:
    """Raises SolonError where people's labels do not show that the model labels better than chance."""
    from solon.pipeline.steps import trust as step

    trained = [record["prompt"] for record in (*pairs, *by_people) if record["split"] == "train"]
    aspects = {ASPECT_OF[pair["set"]] for pair in pairs}
    with SCREEN.stage(TRUST.title):
        step.admit(
            bench, aspects, trained, lambda name: _out(out.with_name(f"{out.stem}-{name}.jsonl"), TrustRecord)
        )


def preference_model(
    preferences: Annotated[list[Path], typer.Argument(help="Record files of 'solon feedback'.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the model to.")],
    model: Model,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Train a preference model on labelled pairs; those of the held-out split are left out."""
    from solon.pipeline.steps import feedback as labels
    from solon.pipeline.steps import preference_model as step

    with _bench(config, settings, policy=model) as bench:
        records = _labelled(preferences, bench)
        known = {record["id"] for record in records}  # 'solon feedback' may have put people's there already
        records += [
            record for record in labels.human(bench.config.preference_model, []) if record["id"] not in known
        ]
        training = [record for record in records if record["split"] == "train"]
        notes, left = [], len(records) - len(training)
        if not training:
            raise SolonError(f"all {left} comparisons are held out, so none is left to train on; add some")
        if left:
            notes.append(f"{left} of {len(records)} comparisons are held out, and left out here.")
        with _noted(stage("preference-model").title, notes):
            show(step.train(bench, training, out), as_json)


def _labelled(files: Sequence[Path], bench: "Workbench") -> list[PreferenceRecord]:
    """The files' labelled pairs. Raises SolonError where people's labels of harm are among them."""
    records = []
    for file in files:
        of_file = _read(file, PreferenceRecord)
        found = harm_labels.of_records(of_file, str(file))
        harm_labels.refuse(found, bench.config.preference_model.vouched_for)
        records += of_file
    return records


def reinforce(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROMPTS",
            help="As of 'solon critique'; for reinforce.algorithm dpo or ipo a file of 'solon feedback'.",
        ),
    ],
    out: Checkpoint,
    policy: Annotated[str, typer.Option(help="The SL-CAI model.")],
    preference_model: Annotated[
        str | None, typer.Option(help="Its folder, where reinforce.reward or algorithm needs one.")
    ] = None,
    helpful: Helpful = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """Train the policy against what rewards it (reinforce.reward), with a KL penalty: RL-CAI."""
    from solon.pipeline.steps import reinforce as step

    with _bench(config, settings) as bench:
        records: Sequence[Any]
        notes: list[str] = []
        if bench.config.reinforce.learns_from == "pairs":
            records = _labelled([Path(source)], bench)
        else:
            records, notes = _of_sets(source, helpful)
        with _noted(stage("reinforce").title, notes):
            figures, _ = step.train(bench, records, policy, preference_model, out)
            show(figures, as_json)


def _bench(
    config: Path | None,
    settings: list[str],
    rules: str | None = None,
    aspect: str | None = None,
    **models: str | None,
) -> "Workbench":
    """A workbench of the configuration, with the roles' models and the aspect's rules that are given."""
    from solon.pipeline.workbench import Workbench

    asked = configuration(config, settings).with_models(**models)
    return Workbench(_ruled(asked, rules, aspect) if rules else asked, SCREEN)


def _ruled(asked: Config, rules: str, aspect: str | None) -> Config:
    if aspect == "helpfulness":
        labels = asked.preference_model.model_copy(update={"helpfulness_constitution": rules})
        return asked.model_copy(update={"preference_model": labels})
    return asked.model_copy(update={"constitution": rules})


@contextmanager
def _noted(title: str, notes: Sequence[str]) -> Iterator[None]:
    """Around a stage; the notes are said once it is done, so that a refusal is the one thing said."""
    with SCREEN.stage(title):
        yield
    for note in notes:
        SCREEN.say(note)


def _prompts(*sources: tuple[str, PromptSet]) -> tuple[list[PromptRecord], list[str]]:
    """The sources' prompts of both splits, and notes of those held out. Raises SolonError where all are."""
    notes = []
    found = [record for source, prompt_set in sources for record in data.prompts(source, prompt_set)]
    usable = apart(found)
    for source, prompt_set in sources:
        count = sum(record["set"] == prompt_set for record in found)
        left = sum(record["set"] == prompt_set and record["split"] == "train" for record in usable)
        if not left:
            raise SolonError(data.none_to_train_on(source, prompt_set, found))
        if left < count:
            notes.append(
                f"{count - left} of {count} {prompt_set} prompts are held out for evaluations, by how they "
                f"open, and left out here; {left} are taken."
            )
    return usable, notes


def _train(prompts: Sequence[PromptRecord]) -> list[PromptRecord]:
    return [record for record in prompts if record["split"] == "train"]


def _of_sets(source: str, helpful: str | None) -> tuple[list[PromptRecord], list[str]]:
    """Red-team prompts, and helpful ones where there are some; as ``_prompts``."""
    if helpful is None and data.tells_sets(source) and data.prompts(source, "helpful"):
        helpful = source
    return _prompts((source, "red-team"), (helpful, "helpful")) if helpful else _prompts((source, "red-team"))


def _texts(file: Path) -> dict[str, Written | SetAside]:
    return critiques.texts(_read(file, AnswerRecord))


def _have_answers(
    prompts: Sequence[PromptRecord], known: Mapping[str, Any] | None, file: Path | None
) -> None:
    """Raises SolonError where a prompt has no answer among those that are ``known``."""
    if known is None:
        return
    if missing := [prompt["id"] for prompt in prompts if prompt["id"] not in known]:
        raise SolonError(
            f"{file} has no answer to prompt {missing[0]!r} (and {len(missing) - 1} more); make it of the "
            "same prompts with 'solon answer --set-name red-team'"
        )


def _read_any(path: Path, kind: Any) -> list[Any]:
    if not path.exists():
        raise SolonError(f"{path} does not exist; check the path")
    return RecordFile(path, kind).read()


def _read(path: Path, kind: Any) -> list[Any]:
    records = _read_any(path, kind)
    if not records:
        raise SolonError(f"{path} holds no records; name the file that the stage before wrote")
    return records


def _out(path: Path, kind: Any) -> RecordFile:
    """The file to be completed, looked at before a model is loaded."""
    return RecordFile(path, kind).recover()
