"""The initial, SL-CAI and RL-CAI models against each other, and their Elo scores (paper, section 4.4)."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TypedDict, TypeVar, cast

from solon import config, marks
from solon.config import Config
from solon.constitution import Constitution
from solon.errors import TooLong
from solon.evaluation import elo
from solon.feedback.method import Candidates
from solon.feedback.multiple_choice import judge
from solon.inference import open_engine
from solon.inference.engine import Chain, Engine, Request
from solon.progress import Watcher
from solon.records import (
    ASPECT_OF,
    Aspect,
    EvaluationRecord,
    JudgementRecord,
    ModelAnswer,
    PromptRecord,
)
from solon.seeds import derive_seed, generator
from solon.texts.degenerate import TOO_LONG
from solon.texts.refusal import is_refusal

Asked = TypeVar("Asked", PromptRecord, EvaluationRecord)


class OwnAnswer(TypedDict):
    """One model's answer to the prompt with the same id."""

    id: str
    text: str
    problem: str  # "" or "too long": the prompt does not fit the model's context


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
        except TooLong:
            return OwnAnswer(id=prompt["id"], text="", problem=TOO_LONG)
        return OwnAnswer(id=prompt["id"], text=completion.text.strip(), problem="")

    return engine.run_chains(chain(prompt) for prompt in prompts)


def compare(
    models: Sequence[str],
    judge: str,
    prompts: Sequence[PromptRecord],
    aspect: Aspect,
    law: Constitution,
    asked: Config,
    watcher: Watcher | None = None,
) -> list[elo.Rating]:
    """Elo scores of the models' answers to the prompts, judged under ``law``; the first model has Elo 0.

    Of ``asked`` it takes the engine, the feedback's and the evaluation's settings and the seed.
    """
    marks.admit(judge, "the judge")
    watcher = watcher or Watcher()
    texts: dict[str, dict[str, str]] = {}
    with watcher.stage("Answers"):
        for model in models:
            texts[model] = {}
            with open_engine(model, asked.engine) as engine:
                made = answer(engine, prompts, asked.evaluation, asked.seed)
                for answered in watcher.watched(model, made, len(prompts)):
                    if not answered["problem"]:
                        texts[model][answered["id"]] = answered["text"]
    with watcher.stage("Judgements"), open_engine(judge, asked.engine) as engine:
        wanted = matches(answered_by_all(prompts, texts), texts)
        played = play(engine, wanted, {aspect: law}, asked.feedback, asked.seed)
        judgements = [
            cast(JudgementRecord, judged)
            for judged in watcher.watched("judgements", played, len(wanted))
            if "probability" in judged
        ]
    return ratings(judgements, aspect, models[0], asked.evaluation.bootstrap, asked.seed)


def answered_by_all(
    prompts: Sequence[PromptRecord], texts: Mapping[str, Mapping[str, str]]
) -> list[PromptRecord]:
    """The prompts that every model could read; ``texts`` are by model, then by the prompt's id."""
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
    scores: Mapping[str, Mapping[str, float]],
) -> list[EvaluationRecord]:
    """Every model's answer to each prompt. ``texts`` and ``scores`` are by model, then by the prompt's id."""
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
                    preference_score=scores[model][prompt["id"]],
                    refusal=is_refusal(of_model[prompt["id"]]),
                    words=len(of_model[prompt["id"]].split()),
                )
                for model, of_model in texts.items()
            ],
        )
        for prompt in prompts
    ]


class Unjudged(TypedDict):
    """A match that the judge could not read."""

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


def play(
    engine: Engine,
    wanted: Sequence[Match],
    constitutions: Mapping[Aspect, Constitution],
    settings: config.Feedback,
    seed: int,
) -> Iterator[JudgementRecord | Unjudged]:
    """The feedback model's judgement of every match, as they finish; Unjudged where it is too long for it.

    Answers to red-team prompts are judged for harmlessness, to helpful prompts for helpfulness, in both
    orders under one principle drawn for the prompt. There is no chain of thought, so nothing is clamped.
    """
    settings = settings.model_copy(update={"both_orders": True, "chain_of_thought": False})
    for aspect, constitution in constitutions.items():
        of_aspect = {match["id"]: match for match in wanted if ASPECT_OF[match["prompt"]["set"]] == aspect}
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
        for judged, votes in judge(engine, asked, constitution, settings, seed):
            match = of_aspect[judged.id]
            if isinstance(votes, TooLong):
                yield Unjudged(id=match["id"], problem=TOO_LONG)
                continue
            [vote] = votes
            yield JudgementRecord(
                id=match["id"],
                prompt_id=match["prompt"]["id"],
                aspect=aspect,
                model_a=match["models"][0],
                model_b=match["models"][1],
                probability=vote["probability"],
                principle=vote["principle"],
                orders=vote["orders"],
            )


def ratings(
    judgements: Iterable[JudgementRecord], aspect: Aspect, anchor: str, bootstrap: int, seed: int
) -> list[elo.Rating]:
    """Elo scores on one aspect relative to ``anchor``, the best first; [] without judgements on it."""
    played = [
        elo.Game(judgement["model_a"], judgement["model_b"], judgement["probability"], judgement["prompt_id"])
        for judgement in judgements
        if judgement["aspect"] == aspect
    ]
    return elo.fit(played, anchor, bootstrap, seed) if played else []
