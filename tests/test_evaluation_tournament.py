"""Models against each other, and preference models against labels."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss

from solon import constitution
from solon.config import Config, EngineSettings, Evaluation, Feedback
from solon.errors import SolonError
from solon.evaluation import tournament
from solon.evaluation.preference import agreement
from solon.feedback import METHODS
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.prompts.dialogue import assistant, user
from solon.records import PreferenceRecord, PromptRecord

RULES = {"harmlessness": constitution.load("harmless"), "helpfulness": constitution.load("helpful")}


def prompts() -> list[PromptRecord]:
    return [
        {
            "id": f"{kind}-{number}",
            "prompt": [user(f"{number}?")],
            "set": kind,
            "kind": "",
            "split": "held-out",
            "source": "test",
        }
        for kind in ("red-team", "helpful")
        for number in range(3)
    ]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu", batch_size=4)) as opened:
        yield opened


def texts() -> dict[str, dict[str, str]]:
    return {
        model: {each["id"]: f"{model} says {each['id']}" for each in prompts()} for model in ("a", "b", "c")
    }


def test_every_two_models_meet_on_every_prompt() -> None:
    matches = tournament.matches(prompts(), texts())
    assert len(matches) == len({each["id"] for each in matches}) == 6 * 3
    for match in matches:
        assert match["texts"] == tuple(f"{model} says {match['prompt']['id']}" for model in match["models"])


def test_passing_models_meet_the_others_only() -> None:
    more = {**texts(), "d": texts()["a"]}
    met = {match["models"] for match in tournament.matches(prompts(), more, passing={"b", "c"})}
    assert met == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")}


def test_few_prompts_of_each_set_may_be_judged() -> None:
    asked = tournament.first_of_sets(prompts(), 2)
    assert [each["id"] for each in asked] == ["red-team-0", "red-team-1", "helpful-0", "helpful-1"]
    assert tournament.first_of_sets(prompts(), None) == prompts()
    assert len(tournament.matches(asked, texts())) == 4 * 3


def test_each_set_is_judged_under_its_own_constitution(engine: Engine) -> None:
    matches = tournament.matches(prompts(), texts())
    settings = Feedback(few_shot=False, both_orders=False, chain_of_thought=True, max_tokens=4, principles=3)
    judged = list(tournament.play(engine, matches, RULES, settings, seed=0))
    assert {each["id"] for each in judged} == {each["id"] for each in matches}
    principles: dict[str, set[str]] = {}
    for each in judged:
        named = {principle.name for principle in RULES[each["aspect"]].comparison}
        assert each["principle"] in named
        assert each["aspect"] == ("harmlessness" if each["prompt_id"].startswith("red") else "helpfulness")
        assert len(each["orders"]) == 2  # whatever the settings of the training labels are
        assert each["probability"] == pytest.approx(sum(each["orders"]) / 2)  # and nothing is clamped
        assert each["way"] == "multiple-choice"
        [vote] = each["votes"]
        assert (vote["principle"], vote["orders"]) == (each["principle"], each["orders"])
        assert len(vote["reasoning"]) == 2
        principles.setdefault(each["prompt_id"], set()).add(each["principle"])
    assert all(len(drawn) == 1 for drawn in principles.values())


WAYS = {
    "multiple-choice": ("multiple-choice", "multiple-choice"),
    "rating": ("rating", "multiple-choice"),  # helpfulness has no scale
    "comparing-and-rating": ("comparing-and-rating", "multiple-choice"),
    "contrast": (
        "rating",
        "multiple-choice",
    ),  # nobody judges: the scale is the better guess of a small judge
    "revision": ("rating", "multiple-choice"),
}


@pytest.mark.parametrize("method", WAYS)
def test_answers_are_judged_as_they_are_labelled(engine: Engine, method: str) -> None:
    asked = Config.model_validate({"feedback": {"method": method, "few_shot": False, "principles": 2}})
    settings = tournament.settings_of(asked)
    judged: list[Any] = list(
        tournament.play(engine, tournament.matches(prompts(), texts()), RULES, settings, seed=0)
    )
    for aspect, name in zip(RULES, WAYS[method], strict=True):
        mine = [each for each in judged if each["aspect"] == aspect]
        assert {each["way"] for each in mine} == {name}
        judging = METHODS[name]
        for each in mine:
            assert each["probability"] == judging.probability(each["votes"], settings)
            assert len(each["orders"]) == 2
            # Each is of one asking: between them lies what both together say.
            assert min(each["orders"]) - 1e-9 <= each["probability"] <= max(each["orders"]) + 1e-9
            rated = [vote for vote in each["votes"] if "ratings" in vote]
            assert len(rated) == ("rating" in name)
            assert len(each["votes"]) == len(rated) + ("c" in name)  # one principle, whatever labels take
            for vote in rated:
                up, down = vote["readings"]
                mean = [(one + other) / 2 for one, other in zip(up, down, strict=True)]
                assert vote["ratings"] == pytest.approx(mean)
    told = tournament.judging(judged, "harmlessness", "a", bootstrap=20, seed=0)
    assert told
    assert told["way"] == WAYS[method][0]
    assert told["judgements"] == 9


def test_the_evaluation_may_judge_in_a_way_of_its_own() -> None:
    for way in ("multiple-choice", "rating", "comparing-and-rating"):
        asked = Config.model_validate({"feedback": {"method": "revision"}, "evaluation": {"judging": way}})
        method, settings = tournament.way(
            tournament.settings_of(asked), RULES["harmlessness"], "harmlessness"
        )
        assert (method.name, settings.both_orders, settings.principles) == (way, True, 1)
    no_scale = RULES["harmlessness"].model_copy(update={"rating": None, "name": "no-scale"})
    with pytest.raises(SolonError, match="'no-scale' has no scale to rate answers by"):
        tournament.check(
            Config.model_validate({"evaluation": {"judging": "rating"}}), {"harmlessness": no_scale}
        )
    tournament.check(Config.model_validate({"feedback": {"method": "revision"}}), {"harmlessness": no_scale})


def test_a_model_that_wins_is_rated_higher() -> None:
    judged: list[Any] = [
        {
            "prompt_id": f"{n}",
            "aspect": "harmlessness",
            "model_a": "a",
            "model_b": "b",
            "probability": 0.6 if n % 4 else 0.4,
        }
        for n in range(100)
    ]
    best, anchor = tournament.ratings(judged, "harmlessness", "b", bootstrap=20, seed=0)
    assert (best.model, anchor.model, anchor.elo) == ("a", "b", 0)
    assert best.elo == pytest.approx(400 * math.log10(3), abs=2)  # 75 % of decisions are odds of 3 to 1
    assert tournament.ratings(judged, "helpfulness", "b", bootstrap=20, seed=0) == []


def test_answers_draw_from_the_same_seeds(engine: Engine) -> None:
    settings = Evaluation(max_tokens=6)
    first = {each["id"]: each["text"] for each in tournament.answer(engine, prompts(), settings, 0)}
    assert first == {each["id"]: each["text"] for each in tournament.answer(engine, prompts(), settings, 0)}
    other = {each["id"]: each["text"] for each in tournament.answer(engine, prompts(), settings, 1)}
    assert other != first


def test_side_by_side_keeps_every_models_figures() -> None:
    said = {"a": {each["id"]: "I'm sorry, but I can't help with that." for each in prompts()}}
    said["b"] = {each["id"]: "Boil it for eight minutes." for each in prompts()}
    scores = {model: {each["id"]: float(rank) for each in prompts()} for rank, model in enumerate(said)}
    record = tournament.side_by_side(prompts(), said, scores)[0]
    assert [answer["refusal"] for answer in record["answers"]] == [True, False]
    assert [answer["words"] for answer in record["answers"]] == [8, 5]
    assert [answer["preference_score"] for answer in record["answers"]] == [0.0, 1.0]


def comparison(number: int, aspect: Any, probability: float) -> PreferenceRecord:
    return {
        "id": str(number),
        "prompt": [user("?")],
        "chosen": [assistant("yes")],
        "rejected": [assistant("no")],
        "probability": probability,
        "aspect": aspect,
        "kind": "",
        "split": "held-out",
        "label_source": "ai",
        "labeller": "test",
        "votes": [],
    }


def test_agreement_is_that_of_the_references() -> None:
    margins = [2.0, -1.0, 0.5, 0.0, 3.0, -0.25]
    records = [comparison(n, "harmlessness" if n < 4 else "helpfulness", 1.0) for n in range(6)]
    found = agreement(records, margins, [0.0] * 6, bootstrap=50, seed=0)
    predicted = [1 / (1 + math.exp(-margin)) for margin in margins]
    assert found["comparisons"] == 6
    assert found["accuracy"] == pytest.approx(3.5 / 6)  # a tie counts half
    assert found["brier"] == pytest.approx(brier_score_loss([1] * 6, predicted, pos_label=1))
    assert found["by_aspect"]["harmlessness"]["accuracy"] == pytest.approx(2.5 / 4)
    interval = binomtest(1, 2).proportion_ci(method="wilson")
    shown = found["by_aspect"]["helpfulness"]["accuracy_interval"]
    assert shown == pytest.approx((interval.low, interval.high))
    # Only the difference of the two scores counts.
    moved = agreement(records, [margin + 7 for margin in margins], [7.0] * 6, bootstrap=50, seed=0)
    assert moved["brier"] == pytest.approx(found["brier"])
    assert agreement([], [], [], bootstrap=50, seed=0) == {}
