"""Stage 5 in a run folder: labels of the pairs, and comparisons of helpfulness that people labelled."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from solon import config
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.evaluation import trust
from solon.feedback import METHODS
from solon.feedback.made import ByMaking
from solon.held_out import opening
from solon.inference.engine import Engine
from solon.pipeline.steps.inputs import of_human_harm, of_model, of_rules, of_source
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import ASPECT_OF, SETS, Aspect, PairRecord, PreferenceRecord, PromptRecord
from solon.sources import data
from solon.stages import feedback
from solon.store.record_file import RecordFile


def label(
    bench: Workbench,
    pairs: Sequence[PairRecord],
    human: Sequence[PreferenceRecord],
    file: RecordFile,
    aside: RecordFile,
) -> list[PreferenceRecord]:
    """Labels of the pairs that have no problem, each by the rules for its prompt's set, and ``human`` ones.

    Pairs that the feedback model does not judge go to ``aside``. Raises SolonError where it judges none.
    """
    wanted = [*(pair for pair in pairs if not pair["problem"]), *human]
    if not pairs:  # no model is loaded for nothing
        return bench.complete(file, wanted, lambda missing: missing)
    settings, method = bench.config.feedback, METHODS[bench.config.feedback.method]
    if isinstance(method, ByMaking):
        return bench.complete(file, wanted, partial(_made, method=method))
    make = partial(_label, laws=bench.laws, settings=settings, seed=bench.seed("feedback"))
    questions = method.questions(settings, len(bench.constitution.comparison))
    labels = bench.generate(file, wanted, "feedback", make, questions, aside)
    if wanted and not labels:
        raise SolonError(
            f"{bench.roles['feedback']} judged not one of the {len(wanted)} pairs ({aside.path} says why): "
            "give another model as models.feedback, or another feedback.method"
        )
    return labels


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
    notes, aside = [*notes, *_asked_for(work)], work.file("05-feedback/unlabelled.jsonl")
    labels = label(work, pairs, by_people, work.file("05-feedback/preferences.jsonl"), aside)
    return Done(len(labels), notes)


def _asked_for(work: Workspace) -> list[str]:
    """That labels are made although their labeller was not seen to be above chance."""
    return [
        f"{agreement['model']} {trust.doubt(agreement)}; the configuration asks for its labels by name "
        "(feedback.untrusted)."
        for agreement in trust.doubtful(work.file("trust/agreement.jsonl"), "labeller")
    ]


def inputs(work: Workspace) -> dict[str, Any]:
    return {
        "feedback": work.config.feedback.model_dump(exclude={"untrusted"}),
        "preference_model.helpfulness.hash": of_source(work.config.preference_model.helpfulness),
        **of_human_harm(work),
        **of_rules("constitution", work.constitution),
        **of_rules("preference_model.helpfulness_constitution", work.helpful_labels),
        **of_model(work, "feedback"),
    }
