"""Stage 5 in a run folder: labels of the pairs, and comparisons of helpfulness that people labelled."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from solon import config
from solon.constitution import Constitution
from solon.errors import SolonError, set_aside_note
from solon.evaluation import trust
from solon.feedback import METHODS, panel
from solon.feedback.made import ByMaking
from solon.held_out import opening
from solon.inference.engine import Engine
from solon.pipeline.steps.inputs import of_human_harm, of_laws, of_model, of_source
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import (
    ASPECT_OF,
    SETS,
    Aspect,
    Ballot,
    PairRecord,
    PreferenceRecord,
    PromptRecord,
)
from solon.sources import data
from solon.stages import feedback
from solon.store.record_file import RecordFile

IN_FILE = "; they are in unlabelled.jsonl"  # pairs without a label


def label(
    bench: Workbench,
    pairs: Sequence[PairRecord],
    human: Sequence[PreferenceRecord],
    file: RecordFile,
    aside: RecordFile,
) -> list[PreferenceRecord]:
    """Labels of the pairs that have no problem, each by the rules for its prompt's set, and ``human`` ones.

    Pairs that the feedback model does not judge go to ``aside``; the votes of each judge of a panel are in a
    file beside ``file``. Raises SolonError for a model that judges none.
    """
    sound = [pair for pair in pairs if not pair["problem"]]
    wanted = [*sound, *human]
    if not pairs:  # no model is loaded for nothing
        return bench.complete(file, wanted, lambda missing: missing)
    settings, method = bench.config.feedback, METHODS[bench.config.feedback.method]
    if isinstance(method, ByMaking):
        return bench.complete(file, wanted, partial(_made, method=method))
    if bench.panel:
        ballots = _by_judge(bench, sound, file.path)
        made = partial(_joined, ballots=ballots, laws=bench.laws, settings=settings)
        labels: list[PreferenceRecord] = bench.complete(file, wanted, made, aside)
        for told in of_panel(settings, list(ballots), labels, aside.read()):
            bench.note(told)
        if bench.config.evaluation.trust:
            first, others = bench.roles["feedback"], " and ".join(bench.panel.values())
            bench.note(f"Of the panel only {first} was measured on people's labels, not {others}.")
        return labels
    make = partial(_label, laws=bench.laws, settings=settings, seed=bench.seed("feedback"))
    questions = method.questions(settings, len(bench.constitution.comparison))
    labels = bench.generate(file, wanted, "feedback", make, questions, aside)
    if wanted and not labels:
        raise _judged_none(bench.roles["feedback"], "models.feedback", len(wanted), aside)
    return labels


def of_panel(
    settings: config.Feedback,
    judges: Sequence[str],
    labels: Sequence[PreferenceRecord],
    aside: Sequence[PairRecord],
) -> list[str]:
    """What is told of a panel's labels, and of the pairs that it judged and whose votes do not count."""
    probability = partial(METHODS[settings.method].probability, settings=settings)
    lost = [pair["problem"] for pair in aside if "votes" in pair]
    total = len(labels) + len(aside)
    return [*panel.tells(judges, labels, probability), *set_aside_note(lost, total, "preferences", IN_FILE)]


def votes_beside(labels: Path, number: int) -> RecordFile:
    """The votes of a panel's judge, counted from 1."""
    return RecordFile(labels.with_name(f"{labels.stem}-votes-{number}.jsonl"), Ballot)


def _by_judge(bench: Workbench, pairs: Sequence[PairRecord], labels: Path) -> dict[str, dict[str, Ballot]]:
    """What every judge of the panel votes on the pairs, by their ids: one judge is asked after another.

    Raises SolonError for a judge that judges none, and for a file with another judge's votes.
    """
    settings, method = bench.config.feedback, METHODS[bench.config.feedback.method]
    make = partial(_ballots, laws=bench.laws, settings=settings, seed=bench.seed("feedback"))
    questions = method.questions(settings, len(bench.constitution.comparison))
    found: dict[str, dict[str, Ballot]] = {}
    for number, judge in enumerate([bench.roles["feedback"], *bench.panel.values()], 1):
        file = votes_beside(labels, number)
        if other := {ballot["judge"] for ballot in file} - {judge}:
            raise SolonError(
                f"{file.path} holds votes of {min(other)}, not {judge}: give another file or delete this one"
            )
        ballots = bench.generate(file, pairs, "feedback", make, questions, model=judge)
        if pairs and all(ballot["problem"] for ballot in ballots):
            raise _judged_none(judge, "feedback.panel" if found else "models.feedback", len(pairs), file)
        found[judge] = {ballot["id"]: ballot for ballot in ballots}
    return found


def _judged_none(judge: str, setting: str, count: int, file: RecordFile) -> SolonError:
    return SolonError(
        f"{judge} judged not one of the {count} pairs ({file.path} says why): give another model as "
        f"{setting}, or another feedback.method"
    )


def human(settings: config.PreferenceModel, kept: Collection[PromptRecord]) -> list[PreferenceRecord]:
    """The comparisons that people labelled, where the settings name some.

    Prompts that the models are evaluated on, ``kept``, must not be trained on, whoever labelled them.
    """
    evaluated = {opening(record["prompt"]) for record in kept}
    return [
        {**record, "split": "held-out"} if opening(record["prompt"]) in evaluated else record
        for aspect, source in settings.by_people.items()
        for record in data.comparisons(source, settings.held_out, aspect, settings.vouched_for)
    ]


def _made(records: list[Any], method: ByMaking) -> Iterator[PreferenceRecord]:
    """Labels that the pairs' making gives; comparisons that people labelled stay as they are."""
    yield from (record for record in records if "label_source" in record)
    for aspect in ASPECT_OF.values():
        yield from feedback.by_making(_of_aspect(records, aspect), aspect, method)


def _label(
    engine: Engine,
    records: list[Any],
    laws: Mapping[Aspect, Constitution],
    settings: config.Feedback,
    seed: int,
) -> Iterator[PreferenceRecord | PairRecord]:
    """Labels of pairs, each by the rules of its aspect; comparisons that people labelled stay as they are."""
    yield from (record for record in records if "label_source" in record)
    for aspect, rules in laws.items():
        yield from feedback.label(engine, _of_aspect(records, aspect), rules, aspect, settings, seed)


def _ballots(
    engine: Engine,
    pairs: list[PairRecord],
    laws: Mapping[Aspect, Constitution],
    settings: config.Feedback,
    seed: int,
) -> Iterator[Ballot]:
    for aspect, rules in laws.items():
        yield from feedback.ballots(engine, _of_aspect(pairs, aspect), rules, aspect, settings, seed)


def _joined(
    records: list[Any],
    ballots: Mapping[str, Mapping[str, Ballot]],
    laws: Mapping[Aspect, Constitution],
    settings: config.Feedback,
) -> Iterator[PreferenceRecord | PairRecord]:
    """Labels by a panel's votes; comparisons that people labelled stay as they are."""
    yield from (record for record in records if "label_source" in record)
    for aspect, rules in laws.items():
        for pair in _of_aspect(records, aspect):
            given = [by_id[pair["id"]] for by_id in ballots.values()]
            yield feedback.joined(pair, given, rules, aspect, settings)


def _of_aspect(records: Sequence[Any], aspect: Aspect) -> list[PairRecord]:
    return [pair for pair in records if "responses" in pair and ASPECT_OF[pair["set"]] == aspect]


def run(work: Workspace) -> Done:
    pairs: list[PairRecord] = work.file("04-comparison/pairs.jsonl").read()
    settings = work.config.preference_model
    by_people = human(settings, [prompt for name in SETS for prompt in work.prompts(name, "held-out")])
    notes = [
        f"{len(of_aspect)} {aspect} comparisons were labelled by people ({of_aspect[0]['labeller']})."
        for aspect in settings.by_people
        for of_aspect in [[record for record in by_people if record["aspect"] == aspect]]
    ]
    if settings.helpfulness == "ai":
        notes.append("No human helpfulness comparisons were given: AI feedback labelled helpfulness, too.")
    elif settings.helpfulness is None:
        notes.append(
            "No human helpfulness comparisons were given, so the preference model learns harmlessness alone."
        )
    notes += trust.asked_for(work.file("trust/agreement.jsonl"), "labels")
    aside = work.file("05-feedback/unlabelled.jsonl")
    labels = label(work, pairs, by_people, work.file("05-feedback/preferences.jsonl"), aside)
    return Done(len(labels), notes)


def inputs(work: Workspace) -> dict[str, Any]:
    return {
        "feedback": work.config.feedback.model_dump(exclude={"untrusted"}),
        "preference_model.helpfulness.hash": of_source(work.config.preference_model.helpfulness),
        **of_human_harm(work),
        **of_laws(work),
        **of_model(work, "feedback", work.panel),
    }
