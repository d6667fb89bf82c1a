"""The evaluation's answers, judgements and Elo scores, put together again from its records."""

import dataclasses
import json
import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from scipy.special import logit

from solon.audit import replay
from solon.audit.run import SETTING_OF, Found, Run, by_id
from solon.audit.texts import compared
from solon.config import Feedback
from solon.constitution import Constitution
from solon.evaluation import tournament
from solon.inference.engine import ChoiceScores, Engine, Question
from solon.records import ASPECT_OF, SETS, Aspect, JudgementRecord, PromptRecord
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
    laws = laws_of(run)
    later = ("way", "votes") if is_of_before(run) else ()
    played = (
        {name: value for name, value in without_guesses(record).items() if name not in later}
        for record in played_again(run, laws)
    )
    here = [without_guesses(record) for record in stored if record["aspect"] in laws]
    unknown = [
        f"principles of {one}: their constitution is no longer here" for one in LAWS.keys() - laws.keys()
    ]
    return Found(
        f"{counted} recomputed from their orders", compared(here, played, run.done("evaluation")), unknown
    )


def played_again(run: Run, laws: Mapping[Aspect, Constitution]) -> Iterator[Any]:
    """One match at a time: what the judge says of an answer differs from match to match by rounding."""
    judge, settings, seed = Judge(run), settings_of(run), run.seed("evaluation")
    for match in wanted(run):
        judge.playing = match["id"]
        yield from tournament.play(judge, [match], laws, settings, seed)


def without_guesses(judgement: Mapping[str, Any]) -> dict[str, Any]:
    """Of ratings nothing tells how probable their numbers were, so guesses are not worked out again."""
    plain = dict(judgement)
    if plain.get("votes"):
        plain["votes"] = [
            {name: part for name, part in vote.items() if name != "guessed"} for vote in plain["votes"]
        ]
    return plain


class Judge(replay.Recorded):
    """Judges the matches as recorded: log-probabilities that make what the judgements say."""

    playing = ""  # the match that is judged by ratings, whose questions don't name it

    def __init__(self, run: Run) -> None:
        self._letters: dict[tuple[str, str], tuple[float, float]] = {}  # by match and whether it is swapped
        self._priors: dict[str, float] = {}  # by principle
        self._readings: dict[tuple[str, str], float] = {}  # by match and question
        said: replay.Said = {}
        recorded, laws, seed = by_id(run.folder.judgements), laws_of(run), run.seed("evaluation")
        for match in wanted(run):
            judgement, law = recorded.get(match["id"]), laws.get(ASPECT_OF[match["prompt"]["set"]])
            if judgement is None or law is None:
                continue
            self._take(judgement, match["id"])
            settings = settings_of(run)
            _, judging = tournament.way(settings, law, judgement["aspect"])
            said |= replay.said_in_votes(judgement.get("votes") or [], match["id"], judging, seed)
        super().__init__(said)

    def _take(self, judgement: JudgementRecord, match: str) -> None:
        votes = judgement.get("votes") or []
        if not votes:  # of before: by multiple choice, and the probabilities alone
            odds = [float(logit(min(max(order, SURE), 1 - SURE))) for order in judgement["orders"]]
            pairs = [(odds[0], 0.0), (0.0, odds[1])]
        else:
            pairs = [(a, b) for vote in votes for a, b in vote.get("letters") or []]
        for swapped, letters in zip((False, True), pairs, strict=False):
            self._letters[match, str(swapped)] = letters
        for vote in votes:
            self._priors[vote["principle"]] = vote.get("prior", 0.0)
            for falling, both in zip((False, True), vote.get("readings") or [], strict=False):
                for place, reading in enumerate(both):  # as ``feedback.rating`` names its questions
                    self._readings[match, f"{place}/{falling}"] = reading

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        for question in questions:
            yield ChoiceScores(question.id, self._said_to(question))

    def _said_to(self, question: Question) -> tuple[float, ...]:
        if (reading := self._readings.get((self.playing, question.id))) is not None:
            return making(reading, len(question.choices))
        name, *_, swapped = question.id.rsplit("/", 2)
        if letters := self._letters.get((name, swapped)):
            return letters
        return self._priors.get(question.id.split("/", 1)[-1], 0.0), *[0.0] * (len(question.choices) - 1)


def making(mean: float, count: int) -> tuple[float, ...]:
    """Log-probabilities of 0, 1, ... that have this mean."""
    low = min(int(mean), count - 2)
    weights = [
        max(0.0, 1 - abs(mean - number)) if number in {low, low + 1} else 0.0 for number in range(count)
    ]
    return tuple(math.log(weight) if weight else -math.inf for weight in weights)


def laws_of(run: Run) -> dict[Aspect, Constitution]:
    """The constitutions that are here, by the aspect that is judged under each."""
    return {aspect: law for aspect, setting in LAWS.items() if (law := run.law(setting))}


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
        for model in stored.keys() & made.keys() if not is_of_before(run) else ():
            wrong += [
                f"{model}'s {aspect} {name} is {stored[model].get(name)}, its judgements make {value}"
                for name, value in made[model].items()
                if name != "model" and not near(stored[model].get(name), value)
            ]
    decided = {
        aspect: found
        for aspect in LAWS
        if (
            found := tournament.judging(
                run.folder.judgements, aspect, "initial", settings.bootstrap, run.seed("evaluation")
            )
        )
    }
    if "judging" in run.folder.summary and (
        place := replay.difference(run.folder.summary["judging"], json.loads(json.dumps(decided)))
    ):
        wrong.append(f"what the judge decided is said to have another {place}")
    counted = f"{count} Elo scores fitted again to {len(run.folder.judgements)} judgements"
    old = "how they were fitted: the run is of before 2026-12, when probabilities counted and not decisions"
    return Found(counted, wrong, [old] if count and is_of_before(run) else [])


def is_of_before(run: Run) -> bool:
    """Whether all was judged by multiple choice, and by its probabilities, as runs of before 2026-12 are."""
    return "judging" not in run.folder.summary


def settings_of(run: Run) -> Feedback:
    """How the run judges."""
    if is_of_before(run):
        plainly = {"method": "multiple-choice", "chain_of_thought": False}
        return run.config.feedback.model_copy(update=plainly)
    return tournament.settings_of(run.config)


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
