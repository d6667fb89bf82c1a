"""Stage 2 in a run folder: answers, critiques and revisions, and helpful answers to mix with them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from solon.errors import SET_ASIDE, SetAside
from solon.pipeline.steps.inputs import of_model, of_rules
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import AnswerRecord, PromptRecord, PromptSet, RevisionRecord
from solon.stages import critique
from solon.store.record_file import RecordFile
from solon.texts.written import Written, cut_note


def answer(
    bench: Workbench, prompts: Sequence[PromptRecord], prompt_set: PromptSet, file: RecordFile
) -> list[AnswerRecord]:
    """The assistant's answers, kept as they are: one to a red-team prompt, ``helpful_answers`` to others."""
    seed = bench.seed(*critique.SEEDS[prompt_set])
    settings = bench.config.critique
    times = settings.helpful_answers if prompt_set == "helpful" else 1
    wanted, prompt_ids = critique.several(prompts, times)
    make = partial(critique.answer, settings=settings, seed=seed, prompt_ids=prompt_ids)
    return bench.generate(file, wanted, "assistant", make)


def revise(
    bench: Workbench,
    prompts: Sequence[PromptRecord],
    file: RecordFile,
    answers: Mapping[str, Written | SetAside] | None = None,
) -> list[RevisionRecord]:
    """The critic's revisions of its own answers, or of ``answers``, by the prompts' ids."""
    make = partial(
        critique.revise,
        constitution=bench.constitution,
        settings=bench.config.critique,
        seed=bench.seed("critique"),
        answers=answers,
    )
    return bench.generate(file, prompts, "critic", make)


def run(work: Workspace) -> Done:
    prompts, answers = work.prompts("red-team", "train"), None
    if work.config.apart("critic", "assistant"):
        first = answer(work, prompts, "red-team", work.file("02-critique/first-answers.jsonl"))
        answers = critique.texts(first)
    revisions = revise(work, prompts, work.file("02-critique/revisions.jsonl"), answers)
    asked = work.prompts("helpful", "train")
    helpful = answer(work, asked, "helpful", work.file("02-critique/helpful.jsonl"))
    problems = Counter(revised["problem"] for record in revisions for revised in record["rounds"])
    problems.update(record["problem"] for record in helpful)
    sound = problems.pop("", 0) + sum(problems.pop(kind, 0) for kind in SET_ASIDE)  # told of by themselves
    cuts = [record.get("cut", "") for record in (*revisions, *helpful)]
    cuts += [revised.get("cut", "") for record in revisions for revised in record["rounds"]]
    notes = cut_note(cuts, "critique.max_tokens")
    if problems:
        why = ", ".join(f"{count} {problem}" for problem, count in problems.most_common())
        notes.append(
            f"{problems.total()} of {sound + problems.total()} revisions and helpful answers were degenerate "
            f"after {work.config.critique.attempts} attempts and are not trained on ({why})."
        )
    return Done(len(revisions) + len(helpful), notes)


def inputs(work: Workspace) -> dict[str, Any]:
    return {
        "critique": work.config.critique.model_dump(),
        **of_rules("constitution", work.constitution),
        **of_model(work, "assistant"),
        **(
            of_model(work, "critic")
            if work.config.models.critic or work.config.apart("critic", "assistant")
            else {}
        ),
    }
