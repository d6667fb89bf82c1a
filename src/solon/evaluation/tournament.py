"""The initial, SL-CAI and RL-CAI models against each other, and their Elo scores (paper, section 4.4)."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NotRequired, TypedDict, TypeVar, cast

from solon import config, marks
from solon.config import Config
from solon.constitution import Constitution
from solon.errors import SetAside, set_aside_note
from solon.evaluation import decisions, elo
from solon.evaluation.decisions import Decisions, Standing
from solon.feedback import METHODS, labelling
from solon.feedback.made import ByMaking
from solon.feedback.method import Candidates, Method
from solon.feedback.multiple_choice import ByMultipleChoice
from solon.inference import open_engine
from solon.inference.engine import Chain, Engine, Request
from solon.progress import Watcher
from solon.records import (
    ASPECT_OF,
    Aspect,
    Cut,
    EvaluationRecord,
    JudgementRecord,
    ModelAnswer,
    PromptRecord,
)
from solon.seeds import derive_seed, generator
from solon.texts.degenerate import NO_ANSWER
from solon.texts.refusal import is_refusal
from solon.texts.words import count
from solon.texts.written import trimmed

Asked = TypeVar("Asked", PromptRecord, EvaluationRecord)


class OwnAnswer(TypedDict):
    """One model's answer to the prompt with the same id."""

    id: str
    text: str
    cut: Cut
    # "", "no answer after thinking", or why nothing was written: "too long" (for the model), "filtered"
    problem: str
    thinking: NotRequired[str]  # what the model thought first, if it did


class Judging(Decisions):
    """How the judge decided on one aspect."""

    way: str
    standings: dict[str, Standing]  # by model


def answer(
    engine: Engine, prompts: Sequence[PromptRecord], settings: config.Evaluation, seed: int
) -> Iterator[OwnAnswer]:
    """The model's answers to held-out prompts, as they finish. Every model draws from the same seeds."""

    def chain(prompt: PromptRecord) -> Chain[OwnAnswer]:
        try:
            completion = yield Request(
                prompt["id"],
                prompt["prompt"],
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=derive_seed(seed, prompt["id"]),
            )
        except SetAside as error:
            return OwnAnswer(id=prompt["id"], text="", cut="", problem=error.problem)
        written = trimmed(completion.text, completion.finish, completion.thinking)
        wrong = NO_ANSWER if written.thinking and not written.text else ""
        made = OwnAnswer(id=prompt["id"], text=written.text, cut=written.cut, problem=wrong)
        return {**made, **written.thought}

    return engine.run_chains(chain(prompt) for prompt in prompts)


def compare(
    models: Sequence[str],
    judge: str,
    prompts: Sequence[PromptRecord],
    aspect: Aspect,
    law: Constitution,
    asked: Config,
    watcher: Watcher | None = None,
) -> tuple[list[elo.Rating], Judging | None]:
    """Elo scores of the models' answers to the prompts, judged under ``law``, and how the judge decided.

    The first model has Elo 0. Of ``asked`` it takes the engine, the feedback's and the evaluation's settings
    and the seed.
    """
    marks.admit(judge, "the judge")
    watcher = watcher or Watcher()
    check(asked, {aspect: law})
    texts: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    with watcher.stage("Answers"):
        for model in models:
            with open_engine(model, asked.engine, role=asked.role("policy")) as engine:
                made = answer(engine, prompts, asked.evaluation, asked.seed)
                answers = list(watcher.watched(model, made, len(prompts)))
            texts[model] = {each["id"]: each["text"] for each in answers if not each["problem"]}
            notes += set_aside_note(
                [each["problem"] for each in answers], len(prompts), f"answers of {model}"
            )
    with (
        watcher.stage("Judgements"),
        open_engine(judge, asked.engine, role=asked.role("judge", judge)) as engine,
    ):
        wanted = matches(answered_by_all(prompts, texts), texts)
        playing = play(engine, wanted, {aspect: law}, settings_of(asked), asked.seed)
        played = list(watcher.watched("judgements", playing, len(wanted)))
        judgements = [cast(JudgementRecord, each) for each in played if "probability" in each]
    notes += set_aside_note([str(each.get("problem", "")) for each in played], len(played), "comparisons")
    for note in notes:
        watcher.say(note)
    drawing = asked.evaluation.bootstrap, asked.seed
    rated = ratings(judgements, aspect, models[0], *drawing)
    return rated, judging(judgements, aspect, models[0], *drawing)


def answered_by_all(
    prompts: Sequence[PromptRecord], texts: Mapping[str, Mapping[str, str]]
) -> list[PromptRecord]:
    """The prompts that every model answered; ``texts`` are by model, then by the prompt's id."""
    return [prompt for prompt in prompts if all(prompt["id"] in of_model for of_model in texts.values())]


def first_of_sets(prompts: Iterable[Asked], count: int | None) -> list[Asked]:
    """The first ``count`` of each set of prompts; all where it is None."""
    seen: Counter[str] = Counter()
    first: list[Asked] = []
    for prompt in prompts:
        seen[prompt["set"]] += 1
        if count is None or seen[prompt["set"]] <= count:
            first.append(prompt)
    return first


def side_by_side(
    prompts: Sequence[PromptRecord],
    texts: Mapping[str, Mapping[str, str]],
    scores: Mapping[str, Mapping[str, float | None]],
) -> list[EvaluationRecord]:
    """Every model's answer to each prompt. ``texts`` and ``scores`` are by model, then by the prompt's id.

    There are no scores where no preference model was trained.
    """
    return [
        EvaluationRecord(
            id=prompt["id"],
            prompt=prompt["prompt"],
            set=prompt["set"],
            kind=prompt["kind"],
            answers=[
                ModelAnswer(
                    model=model,
                    text=of_model[prompt["id"]],
                    preference_score=scores[model][prompt["id"]] if scores else None,
                    refusal=is_refusal(of_model[prompt["id"]]),
                    words=count(of_model[prompt["id"]]),
                )
                for model, of_model in texts.items()
            ],
        )
        for prompt in prompts
    ]


class Unjudged(TypedDict):
    """A match that got no judgement: "too long" for the judge, "filtered", or it named neither answer."""

    id: str
    problem: str


class Match(TypedDict):
    """Two models' answers to one prompt, to be judged."""

    id: str
    prompt: PromptRecord
    models: tuple[str, str]
    texts: tuple[str, str]


def matches(
    prompts: Sequence[PromptRecord],
    texts: Mapping[str, Mapping[str, str]],
    passing: Collection[str] = (),
) -> list[Match]:
    """Every two models' answers to every prompt; ``texts`` are by model, then by the prompt's id.

    Models in ``passing`` do not meet one another, so that each more of them costs the same.
    """
    return [
        Match(
            id=f"{prompt['id']}:{one}:{other}",
            prompt=prompt,
            models=(one, other),
            texts=(texts[one][prompt["id"]], texts[other][prompt["id"]]),
        )
        for prompt in prompts
        for one, other in combinations(texts, 2)
        if one not in passing or other not in passing
    ]


def settings_of(asked: Config) -> config.Feedback:
    """How the evaluation of a run judges: as it labels, or by ``evaluation.judging``, without reasoning."""
    way = asked.evaluation.judging
    plainly = {"method": way, "chain_of_thought": False}
    return asked.feedback.model_copy(update=plainly) if way else asked.feedback


def way(settings: config.Feedback, law: Constitution, aspect: Aspect) -> tuple[Method, config.Feedback]:
    """The method that judges answers on an aspect under ``law``, and its settings.

    A method that labels without judging is for models that compare badly, so answers are rated in its place,
    and compared where ``law`` has no scale. Both orders are asked, under one principle. Nothing is clamped:
    that is for labels to train on.
    """
    if isinstance(METHODS[settings.method], ByMaking):
        settings = settings.model_copy(update={"method": "rating" if law.rating else "multiple-choice"})
    settings = settings.model_copy(update={"both_orders": True, "clamp": (0.0, 1.0), "principles": 1})
    return labelling(settings, law, aspect)


def check(asked: Config, laws: Mapping[Aspect, Constitution]) -> None:
    """Raises SolonError where a constitution lacks what answers are to be judged by under it."""
    for aspect, law in laws.items():
        method, settings = way(settings_of(asked), law, aspect)
        method.check(asked.model_copy(update={"feedback": settings}), law, aspect)


def questions(settings: config.Feedback, laws: Mapping[Aspect, Constitution]) -> int:
    """How many at most are asked about a match."""
    ways = [way(settings, law, aspect) for aspect, law in laws.items()]
    return max(method.questions(judging, 1) for method, judging in ways)


def play(
    engine: Engine,
    wanted: Sequence[Match],
    constitutions: Mapping[Aspect, Constitution],
    settings: config.Feedback,
    seed: int,
) -> Iterator[JudgementRecord | Unjudged]:
    """The judge's judgement of every match, as they finish; Unjudged where it gives none.

    Answers to red-team prompts are judged for harmlessness, to helpful ones for helpfulness, in the ``way``
    that settings and constitution make. Comparing is under one principle drawn for the prompt: the prompts
    average over principles, which count alike whatever they weigh in labels: runs that weigh them otherwise
    are measured alike.
    """
    for aspect, weighed in constitutions.items():
        constitution = weighed.unweighed
        of_aspect = {match["id"]: match for match in wanted if ASPECT_OF[match["prompt"]["set"]] == aspect}
        method, judging = way(settings, constitution, aspect)
        asked = (
            Candidates(
                id=match["id"],
                dialogue=match["prompt"]["prompt"],
                first=match["texts"][0],
                second=match["texts"][1],
                principles=constitution.draw_comparison(generator(seed, match["prompt"]["id"])),
            )
            for match in of_aspect.values()
        )
        for judged, votes in method.judge(engine, asked, constitution, judging, seed):
            match = of_aspect[judged.id]
            if isinstance(votes, SetAside):
                yield Unjudged(id=match["id"], problem=votes.problem)
                continue
            yield JudgementRecord(
                id=match["id"],
                prompt_id=match["prompt"]["id"],
                aspect=aspect,
                model_a=match["models"][0],
                model_b=match["models"][1],
                probability=method.probability(votes, judging),
                principle=votes[0]["principle"],
                orders=method.either_way(votes, judging),
                way=method.name,
                votes=votes,
            )


def ratings(
    judgements: Iterable[JudgementRecord],
    aspect: Aspect,
    anchor: str,
    bootstrap: int,
    seed: int,
    lean: Callable[[JudgementRecord], float] = lambda _: 0.0,
) -> list[elo.Rating]:
    """Elo scores on one aspect relative to ``anchor``, the best first; [] without judgements on it.

    What counts are decisions, not probabilities: see ``decisions``. ``lean`` is taken off each judgement's
    probabilities first.
    """
    played = [
        elo.Game(
            judgement["model_a"],
            judgement["model_b"],
            decisions.decision(judgement, lean(judgement)),
            judgement["prompt_id"],
        )
        for judgement in judgements
        if judgement["aspect"] == aspect
    ]
    return elo.fit(played, anchor, bootstrap, seed) if played else []


def judging(
    judgements: Sequence[JudgementRecord], aspect: Aspect, anchor: str, bootstrap: int, seed: int
) -> Judging | None:
    """How the judge decided, and what a slight bias would change; None without judgements on the aspect."""
    mine = [judgement for judgement in judgements if judgement["aspect"] == aspect]
    if not mine:
        return None

    def interval(model: str, sign: int) -> tuple[float, float]:
        def lean(judgement: JudgementRecord) -> float:
            return sign * decisions.lean_to(model, judgement, anchor)

        rated = {each.model: each for each in ratings(mine, aspect, anchor, bootstrap, seed, lean)}
        return rated[model].low, rated[model].high

    meetings: dict[str, list[JudgementRecord]] = {}
    for judgement in mine:
        models = {judgement["model_a"], judgement["model_b"]}
        if anchor in models:
            [model] = models - {anchor}
            meetings.setdefault(model, []).append(judgement)
    standings = {
        model: Standing(**decisions.count(of), low=interval(model, 1)[0], high=interval(model, -1)[1])
        for model, of in meetings.items()
    }
    ways = dict.fromkeys(judgement.get("way", ByMultipleChoice.name) for judgement in mine)
    return Judging(**decisions.count(mine), way=" and ".join(ways), standings=standings)
