"""Texts that models wrote, and all that their records say of them beside: made again from the texts alone.

The stages themselves are run with an engine that gives what was recorded (``replay``): draws of principles,
what was asked, what is wrong with a text, and what is trained on must then come out as they stand.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from solon.audit import replay
from solon.audit.run import SETTING_OF, Found, Run, by_id, repeated
from solon.constitution import Constitution
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.inference.engine import Engine
from solon.records import ASPECT_OF, KINDS, SETS, AnswerRecord, PairRecord, PromptRecord, PromptSet
from solon.stages import comparison, critique, examples
from solon.store.record_file import RecordFile

GONE = "the constitution is no longer here"


def revisions(run: Run) -> Found:
    records, law = run.folder.revisions, run.law("constitution")
    counted = f"{len(records)} answers with {sum(len(record['rounds']) for record in records)} revisions"
    if not records and not run.done("critique"):
        return Found(counted)
    if law is None:
        return Found(counted, (), [f"their principles: {GONE}"])
    seed, prompts = run.seed("critique"), of_set(run, "red-team")
    first = first_answers(run)
    engine = replay.Recorded(replay.together(replay.said_in_revisions(each, seed) for each in records))
    made = critique.revise(
        engine, prompts, law, run.config.critique, seed, critique.texts(first) if first else None
    )
    wrong = compared(records, made, run.done("critique"))
    further: dict[PromptSet, list[AnswerRecord]] = {"red-team": first, "helpful": run.folder.helpful}
    for prompt_set, answers in further.items():
        said = replay.together(
            replay.said_in_answer(each, answer_seed(run, prompt_set), run.config.critique.attempts)
            for each in answers
        )
        made_again = answers_by(run, prompt_set, replay.Recorded(said))
        wrong += compared(answers, made_again, run.done("critique")) if answers else []
    counted += f" and {len(first) + len(run.folder.helpful)} further answers, all made again from their texts"
    every = [*records, *first, *run.folder.helpful]
    return Found(counted, wrong, kept_otherwise(every, "revisions and answers"))


def answers_by(
    run: Run, prompt_set: PromptSet, engine: Engine, names: Container[str] | None = None
) -> Iterator[AnswerRecord]:
    """The answers of an engine to the prompts of a set, or those with these ids: as stage 2 asks for them."""
    settings = run.config.critique
    times = settings.helpful_answers if prompt_set == "helpful" else 1
    wanted, prompt_ids = critique.several(of_set(run, prompt_set), times)
    asked = [prompt for prompt in wanted if names is None or prompt["id"] in names]
    return critique.answer(engine, asked, settings, answer_seed(run, prompt_set), prompt_ids)


def answer_seed(run: Run, prompt_set: PromptSet) -> int:
    return run.seed(*critique.SEEDS[prompt_set])


def supervised_examples(run: Run) -> Found:
    if not run.folder.examples and not run.done("supervised"):
        return Found("0 examples")
    made = examples.gather(run.folder.revisions, run.folder.helpful, run.config.supervised)
    stored = run.folder.examples
    wrong = compared(stored, made, run.done("supervised"))
    if not wrong and [each["id"] for each in stored] != [each["id"] for each in made][: len(stored)]:
        wrong.append("they are in another order")
    return Found(f"{len(stored)} examples gathered again from 02-critique, which has {len(made)}", wrong)


def pairs(run: Run) -> Found:
    records, seed = run.folder.pairs, run.seed("comparison")
    counted = f"{len(records)} pairs"
    if not records and not run.done("comparison"):
        return Found(counted)
    known = laws(run)
    engine = replay.Recorded(replay.together(replay.said_in_pair(each, seed) for each in records))
    checked = [record for record in records if record["set"] in known]
    made = pairs_by(run, engine)
    unknown = [f"those of the {name} prompts: {GONE}" for name in SETS if name not in known]
    unknown += kept_otherwise(checked, "pairs")
    return Found(
        f"{counted} made again from their texts", compared(checked, made, run.done("comparison")), unknown
    )


def laws(run: Run) -> dict[PromptSet, Constitution]:
    """The constitutions that are here, by the set of prompts that each is for."""
    of_sets = {name: run.law(SETTING_OF[ASPECT_OF[name]]) for name in SETS}
    return {name: law for name, law in of_sets.items() if law is not None}


def pairs_by(run: Run, engine: Engine, names: Container[str] | None = None) -> Iterator[PairRecord]:
    """The pairs by an engine: of all prompts whose constitution is here, or of those with these ids."""
    asked = run.config
    material = Material(
        laws=laws(run),
        seed=run.seed("comparison"),
        sampling=asked.comparison,
        critique=asked.critique,
        revisions=by_id(run.folder.revisions),
        answers=critique.texts(run.folder.helpful),
    )
    prompts = [
        prompt
        for prompt_set in asked.preference_model.by_models
        if prompt_set in material.laws
        for prompt in of_set(run, prompt_set)
        if names is None or prompt["id"] in names
    ]
    method = METHODS[asked.feedback.method]
    return comparison.pairs(engine, prompts, method, material, asked.preference_model.held_out)


def compared(stored: Sequence[Any], made: Iterable[Mapping[str, Any]], done: bool) -> list[str]:
    """What is wrong with records that were made again; where their stage is ``done``, none may be missing."""
    again = {record["id"]: record for record in made}
    wrong = repeated(stored)
    for record in stored:
        if record["id"] not in again:
            wrong.append(f"{record['id']} comes from nothing that is there")
        elif of_before(record, again[record["id"]]):
            continue
        elif place := replay.difference(record, dict(again[record["id"]])):
            wrong.append(f"{record['id']} has another {place} than its stage makes of what is there")
    if done:
        wrong += [f"{name} is not there" for name in sorted(again.keys() - by_id(stored).keys())]
    return wrong


def of_before(stored: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether a record was kept by other rules than today's: it does not say how its texts were cut."""
    return "cut" in made and "cut" not in stored


def kept_otherwise(records: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    """What to say of records of before, whose texts were kept by other rules."""
    count = sum("cut" not in record for record in records)
    return (
        [f"{count} {what}: they are of before 2026-12, when texts were kept by other rules"] if count else []
    )


def of_set(run: Run, prompt_set: str) -> list[PromptRecord]:
    return [each for each in run.folder.prompts if each["set"] == prompt_set and each["split"] == "train"]


def first_answers(run: Run) -> list[AnswerRecord]:
    """Those that another model revises."""
    return RecordFile(run.path / "02-critique/first-answers.jsonl", KINDS["first-answers"]).read()
