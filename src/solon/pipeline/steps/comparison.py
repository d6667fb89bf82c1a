"""Stage 4 in a run folder: two answers a prompt, made as the method of feedback needs them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from solon.errors import SetAside
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.pipeline.steps.inputs import of_human_harm, of_model, of_rules
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import ASPECT_OF, SETS, PairRecord, PromptRecord, RevisionRecord
from solon.sources.tables import source_name
from solon.stages import comparison, critique
from solon.store.record_file import RecordFile
from solon.texts.written import Written, cut_note


def pairs(
    bench: Workbench,
    prompts: Sequence[PromptRecord],
    file: RecordFile,
    sl_cai: str,
    revisions: Mapping[str, RevisionRecord],
    answers: Mapping[str, Written | SetAside],
) -> list[PairRecord]:
    """One pair a prompt, by ``sl_cai`` or the feedback model, as ``feedback.method`` has it.

    ``revisions`` and ``answers``, by the prompts' ids, are what stage 2 made, for methods that revise.
    """
    if not prompts:
        file.append()  # so that it is there
    asked, method = bench.config, METHODS[bench.config.feedback.method]
    material = Material(
        laws={name: bench.laws[ASPECT_OF[name]] for name in SETS},
        sampling=asked.comparison,
        critique=asked.critique,
        seed=bench.seed("comparison"),
        revisions=revisions,
        answers=answers,
    )
    held_out = asked.preference_model.held_out
    make = partial(comparison.pairs, method=method, material=material, held_out=held_out)
    if method.pairs_by == "sl-cai":
        return bench.generate(file, prompts, "policy", make, model=sl_cai)
    return bench.generate(file, prompts, "feedback", make)


def run(work: Workspace) -> Done:
    prompts = [
        prompt
        for prompt_set in work.config.preference_model.by_models
        for prompt in work.prompts(prompt_set, "train")
    ]
    made = pairs(
        work,
        prompts,
        work.file("04-comparison/pairs.jsonl"),
        work.sl_cai,
        {record["id"]: record for record in work.file("02-critique/revisions.jsonl")},
        critique.texts(work.file("02-critique/helpful.jsonl")),
    )
    notes = cut_note((cut for pair in made for cut in pair.get("cut", ())), "the token limit")
    if not prompts:
        notes.append("People labelled all comparisons, so no pairs were made.")
    if unusable := sum(bool(pair["problem"]) for pair in made):
        notes.append(
            f"{unusable} of {len(made)} pairs have identical, empty or degenerate answers, or none, and get "
            "no label."
        )
    return Done(len(made), notes)


def inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.preference_model
    deciding = {
        "comparison": work.config.comparison.model_dump(),
        "preference_model.held_out": settings.held_out,
        "preference_model.helpfulness": source_name(settings.helpfulness),
        **of_human_harm(work),
    }
    if METHODS[work.config.feedback.method].pairs_by == "feedback":  # their making is the feedback
        deciding |= {
            "feedback.method": work.config.feedback.method,
            **of_rules("constitution", work.constitution),
            **of_rules("preference_model.helpfulness_constitution", work.helpful_labels),
            **of_model(work, "feedback"),
        }
    return deciding
