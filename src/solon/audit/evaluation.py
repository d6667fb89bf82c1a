"""The evaluation's answers, judgements and Elo scores, put together again from its records."""

import dataclasses
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from scipy.special import logit

from solon.audit import replay
from solon.audit.run import SETTING_OF, Found, Run, by_id
from solon.audit.texts import compared
from solon.evaluation import tournament
from solon.inference.engine import ChoiceScores, Engine, Question
from solon.records import SETS, JudgementRecord, PromptRecord
from solon.store.record_file import RecordFile

LAWS = {**SETTING_OF, "helpfulness": "evaluation.helpfulness_constitution"}
PASSING = re.compile(r"rl-cai-(\d+)")  # the policies kept on RL's way
SURE = 1e-12  # of probabilities that rounded to 0 or 1, so that log-odds are finite
FEWEST = 1e-3  # Elo points that count


def answers(run: Run) -> Found:
    """Side by side are each model's own answers to the prompts held out, with what is counted of them."""
    stored, texts = run.folder.answers, texts_of(run)
    if not stored and not run.done("evaluation"):
        return Found("0 answers")
    recorded = {
        (answer["model"], record["id"]): answer["preference_score"]
        for record in stored
        for answer in record["answers"]
    }
    asked = answered(run, texts)
    ends = {model: of_model for model, of_model in texts.items() if not PASSING.fullmatch(model)}
    scores = {model: {one["id"]: recorded.get((model, one["id"]), 0.0) for one in asked} for model in ends}
    wrong = compared(stored, tournament.side_by_side(asked, ends, scores), run.done("evaluation"))
    count = sum(len(record["answers"]) for record in stored)
    return Found(f"{count} answers to {len(stored)} prompts are those in their models' files", wrong)


def judgements(run: Run) -> Found:
    """Every match is judged, under the principle drawn for it, as its two orders say."""
    stored = run.folder.judgements
    counted = f"{len(stored)} judgements"
    if not stored and not run.done("evaluation"):
        return Found(counted)
    laws = {aspect: law for aspect, setting in LAWS.items() if (law := run.law(setting))}
    played = tournament.play(Judge(stored), wanted(run), laws, run.config.feedback, run.seed("evaluation"))
    here = [record for record in stored if record["aspect"] in laws]
    unknown = [
        f"principles of {one}: their constitution is no longer here" for one in LAWS.keys() - laws.keys()
    ]
    return Found(
        f"{counted} recomputed from their orders", compared(here, played, run.done("evaluation")), unknown
    )


class Judge(replay.Recorded):
    """Judges as recorded: log-probabilities that make the two orders' probabilities."""

    def __init__(self, recorded: Sequence[JudgementRecord]) -> None:
        super().__init__({})
        self._recorded = by_id(recorded)

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        for question in questions:
            name, *_, swapped = question.id.rsplit("/", 2)
            orders = self._recorded[name]["orders"] if name in self._recorded else [0.5, 0.5]
            first = min(max(orders[swapped == "True"], SURE), 1 - SURE)
            odds = float(logit(first))
            yield ChoiceScores(question.id, (0.0, odds) if swapped == "True" else (odds, 0.0))


def elo(run: Run) -> Found:
    """Elo scores and intervals, fitted to the judgements again with the seed of their resampling."""
    said, settings = run.folder.summary.get("elo") or {}, run.config.evaluation
    if not run.done("evaluation"):
        return Found("no Elo scores yet")
    wrong, count = [], 0
    for aspect in LAWS:
        fitted = tournament.ratings(
            run.folder.judgements, aspect, "initial", settings.bootstrap, run.seed("evaluation")
        )
        made = {each.model: dataclasses.asdict(each) for each in fitted}
        stored = {each["model"]: each for each in said.get(aspect) or []}
        count += len(made)
        wrong += [f"{model} is there once only" for model in stored.keys() ^ made.keys()]
        for model in stored.keys() & made.keys():
            wrong += [
                f"{model}'s {aspect} {name} is {stored[model].get(name)}, its judgements make {value}"
                for name, value in made[model].items()
                if name != "model" and not near(stored[model].get(name), value)
            ]
    return Found(f"{count} Elo scores fitted again to {len(run.folder.judgements)} judgements", wrong)


def near(one: Any, other: float) -> bool:
    return isinstance(one, int | float) and abs(one - other) < FEWEST


def wanted(run: Run) -> list[tournament.Match]:
    """The matches that are judged."""
    texts = texts_of(run)
    prompts = tournament.first_of_sets(answered(run, texts), run.config.evaluation.judged)
    passing = [model for model in texts if PASSING.fullmatch(model)]
    aside = by_id(RecordFile(run.path / "evaluation/unjudged.jsonl").read())
    return [each for each in tournament.matches(prompts, texts, passing) if each["id"] not in aside]


def files(run: Run) -> dict[str, list[tournament.OwnAnswer]]:
    """Every evaluated model's answers, in the evaluation's order of the models."""
    passing = [
        (int(match[1]), match[0])
        for file in (run.path / "evaluation").glob("rl-cai-*.jsonl")
        if (match := PASSING.fullmatch(file.stem))
    ]
    names = ["initial", "sl-cai", *(name for _, name in sorted(passing)), "rl-cai"]
    return {name: RecordFile(run.path / f"evaluation/{name}.jsonl").read() for name in names}


def texts_of(run: Run) -> dict[str, dict[str, str]]:
    """The texts of those that fit their model, by model and the prompt's id."""
    return {
        name: {each["id"]: each["text"] for each in of_model if not each["problem"]}
        for name, of_model in files(run).items()
    }


def answers_by(run: Run, engine: Engine, names: Container[str]) -> Iterator[tournament.OwnAnswer]:
    """The answers of an engine's model to the prompts with these ids."""
    prompts = [prompt for prompt in held_out(run) if prompt["id"] in names]
    return tournament.answer(engine, prompts, run.config.evaluation, run.seed("evaluation"))


def held_out(run: Run) -> list[PromptRecord]:
    return [
        prompt
        for prompt_set in SETS
        for prompt in run.folder.prompts
        if prompt["set"] == prompt_set and prompt["split"] == "held-out"
    ]


def answered(run: Run, texts: Mapping[str, Mapping[str, str]]) -> list[PromptRecord]:
    """The prompts held out that every model could read."""
    return tournament.answered_by_all(held_out(run), texts)
