"""``solon eval evasiveness``, ``refusals``, ``over-refusal``: who refuses what, and how well it is told."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from solon import marks
from solon.cli.options import NO_SETTINGS, AsJson, ConfigFile, Limit, Settings, configuration
from solon.cli.show import SCREEN, show
from solon.config import Config
from solon.errors import SolonError
from solon.evaluation import evasiveness as measure
from solon.evaluation import refusal_judge
from solon.evaluation.evasiveness import LabelledAnswer
from solon.evaluation.paper_evals import drawn
from solon.inference import open_engine
from solon.store.files import write_atomically
from solon.texts import refusal
from solon.texts.refusal import Verdict

Judge = Annotated[
    str | None, typer.Option("--judge", help="A model that reads prompt and answer, measured as well.")
]


def add_to(app: typer.Typer) -> None:
    app.command("evasiveness")(evasiveness)
    app.command("refusals")(refusals)
    app.command("over-refusal")(over_refusal)


def evasiveness(
    file: Annotated[
        Path, typer.Option("--data", help="A table with 'completion' and 'final_label', as XSTest's.")
    ],
    judge: Judge = None,
    limit: Limit = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """How well refusals are told from help, by wording and by a judge, against people's labels."""
    asked = configuration(config, settings)
    answers = drawn(measure.read_labelled(file, with_prompt=bool(judge)), limit, asked.seed)
    labels = [answer.label for answer in answers if answer.label]
    safe = [answer.safe for answer in answers]

    def figures(verdicts: Sequence[Verdict | None]) -> dict[str, Any]:
        return {**measure.agreement(labels, verdicts), **measure.by_prompt(safe, verdicts)}

    found = [refusal.classify(answer.text) for answer in answers]
    if not any(found) and not judge:
        raise SolonError(
            f"{file}: no answer is in English, and wording tells of no other; have a model judge with --judge"
        )
    measured: dict[str, Any] = figures(found) if any(found) else {"cannot_tell": len(found)}
    if judge:
        measured["judge"] = {"model": judge, **figures(_judged(judge, answers, asked))}
    if labelled := measure.by_prompt(safe, labels):
        measured["people"] = labelled
    show(measured, as_json)


def refusals(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Answers of one model each, such as PALMS_*.jsonl."),
    ],
    as_json: AsJson = False,
) -> None:
    """How often each file's answers refuse and evade, and how far the others are from the first."""
    measured: dict[str, Any] = {}
    first: dict[str, list[bool]] | None = None
    for file in files:
        answers = measure.read_answers(file)
        evading: dict[str, list[bool]] = {}
        for answer in answers:
            if not refusal.can_tell(answer.text):
                continue
            evading.setdefault(answer.prompt, []).append(refusal.is_evasive(answer.text))
        if str(file) in measured:
            raise SolonError(f"{file} is given twice; give each file once")
        figures = measure.rates([refusal.classify(answer.text) for answer in answers], evading)
        if first is None:
            first = evading
        elif first.keys() & evading.keys():
            figures["from_first"] = measure.difference(evading, first)
        measured[str(file)] = figures
    show(measured, as_json)


def over_refusal(
    model: Annotated[str, typer.Argument(help="The model that answers.")],
    file: Annotated[Path, typer.Option("--data", help="A table with 'prompt' and 'label', as XSTest's.")],
    judge: Judge = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the answers, as JSON Lines.")] = None,
    limit: Limit = None,
    config: ConfigFile = None,
    settings: Settings = NO_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """A model's refusals of safe prompts that sound unsafe, beside its compliance with unsafe ones."""
    asked = configuration(config, settings)
    answers = _answered(model, drawn(measure.read_prompts(file), limit, asked.seed), asked)
    safe = [answer.safe for answer in answers]
    verdicts = [refusal.classify(answer.text) for answer in answers]
    measured: dict[str, Any] = measure.by_prompt(safe, verdicts)
    if judge:
        measured["judge"] = {"model": judge, **measure.by_prompt(safe, _judged(judge, answers, asked))}
    if out:
        rows = (
            {"prompt": answer.prompt, "label": "safe" if answer.safe else "unsafe", "completion": answer.text}
            | {"found": verdict, "because": refusal.reasons(answer.text)}
            for answer, verdict in zip(answers, verdicts, strict=True)
        )
        write_atomically(out, "".join(json.dumps(row) + "\n" for row in rows))
    show(measured, as_json)


def _answered(model: str, prompts: Sequence[LabelledAnswer], asked: Config) -> list[LabelledAnswer]:
    with (
        SCREEN.stage(f"{model} answers"),
        open_engine(model, asked.engine, role=asked.role("policy")) as engine,
    ):
        made = measure.answer(engine, prompts, asked.evaluation, asked.seed)
        by_id = {answer.id: answer for answer in SCREEN.watched("answers", made, len(prompts))}
    return [by_id[prompt.id] for prompt in prompts if prompt.id in by_id]


def _judged(judge: str, answers: Sequence[LabelledAnswer], asked: Config) -> list[Verdict | None]:
    """None where the judge gave no verdict."""
    marks.admit(judge, "the judge")
    with (
        SCREEN.stage(f"{judge} as judge of refusals"),
        open_engine(judge, asked.engine, role=asked.role("judge", judge)) as engine,
    ):
        judged = refusal_judge.judge(engine, answers)
        by_id = {answer.id: verdict for answer, verdict in SCREEN.watched("answers", judged, len(answers))}
    return [by_id.get(answer.id) for answer in answers]
