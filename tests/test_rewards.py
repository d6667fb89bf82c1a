"""What rewards the policy's samples: AI feedback, functions of one's own, and sums of them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from solon import config, constitution
from solon.audit.replay import difference as audit_difference
from solon.config import EngineSettings, Scale
from solon.constitution import Constitution
from solon.errors import SetAside, SolonError, TooLong, Unjudged
from solon.feedback import samples
from solon.feedback.rating import expected
from solon.feedback.sample_judges import Judges, asked
from solon.inference.engine import ChoiceScores, Question
from solon.policy import own_rewards
from solon.policy.rewards import Rewarded, SumOfRewards
from solon.policy.rollouts import Rollout
from solon.policy.sample_log import SampleLog
from solon.policy.task import Task
from solon.records import PromptRecord
from solon.role_settings import Role
from solon.stages import reinforce
from solon.store.record_file import RecordFile
from toy_training import assert_a_kill_changes_nothing, prompt_records, unwatched

LAWS: dict[Any, Constitution] = {
    "harmlessness": constitution.load("harmless"),
    "helpfulness": constitution.load("helpful"),
}
SCALE = LAWS["harmlessness"].scale_of_answers()
PROMPTS: list[PromptRecord] = [
    {**record, "set": of_set}  # type: ignore[typeddict-item]
    for record, of_set in zip(prompt_records(2), ("red-team", "helpful"), strict=True)
]
TEXTS = ["No, never.", "Yes. First, take it.", "Ask someone else.", "A llama is an animal.", "Who?", "Me."]
ANSWERS = [Rollout([], text, False) for text in TEXTS]
IDS = ["0"] * 3 + ["1"] * 3
OWN = "python:own_rewards_of_tests:brevity"
SMALL: dict[str, Any] = {
    "steps": 2,
    "prompts_per_step": 2,
    "samples_per_prompt": 3,
    "micro_batch_size": 6,
    "max_tokens": 6,
    "learning_rate": 1e-3,
}


class Asking:
    """The tiny model's engine, opened once; what it is asked is counted, and some of it goes wrong."""

    def __init__(self, judges: Judges) -> None:
        self.engine = judges.open(judges.models[0])
        self.asked: list[Question] = []
        self.refused, self.left = "nothing of the kind", 10**9
        self._scores = self.engine.choice_logprobs
        self.engine.choice_logprobs = self._watched  # type: ignore[method-assign]
        self.engine.close = lambda: None  # type: ignore[method-assign]

    def _watched(self, questions: Sequence[Question]) -> Iterator[ChoiceScores | SetAside]:
        self.asked += questions
        refused = {one.id for one in questions if self.refused in one.messages[-1]["content"]}
        yield from (TooLong(id, "too long") for id in refused)
        for scores in self._scores([one for one in questions if one.id not in refused]):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield scores


@pytest.fixture(scope="module")
def judges(tiny_model: Path) -> Judges:
    engine = EngineSettings(device="cpu", dtype="float32", batch_size=8)
    settings = config.Feedback(few_shot=False, principles=2)
    models = [str(tiny_model)]
    return Judges(models=models, role=Role(), settings=settings, laws=LAWS, engine=engine, scale=Scale())


@pytest.fixture(scope="module")
def opened(judges: Judges) -> Asking:
    return Asking(judges)


@pytest.fixture
def asking(opened: Asking, monkeypatch: pytest.MonkeyPatch) -> Asking:
    monkeypatch.setattr(Judges, "open", lambda self, model: opened.engine)
    opened.asked, opened.refused, opened.left = [], "nothing of the kind", 10**9
    return opened


def task(out: Path, judges: Judges | None, reward: Any) -> Task:
    settings = config.Reinforce(reward=reward, **SMALL)
    return Task(PROMPTS, "policy", None, out, settings, 7, unwatched, judges=judges)


def given(
    out: Path, judges: Judges | None, reward: Any, step: int = 1, scores: Sequence[float] = (0.0,) * 6
) -> list[Rewarded]:
    asks = task(out, judges, reward)
    return SumOfRewards(asks, SampleLog(out, PROMPTS))(step, IDS, ANSWERS, scores)


def records(out: Path) -> list[Any]:
    return RecordFile(out / "samples.jsonl").read()


def test_ratings_and_comparisons_reward(judges: Judges, asking: Asking, tmp_path: Path) -> None:
    """Answers to helpful prompts, whose constitution has no scale, are compared."""
    rewarded = given(tmp_path, judges, "rating")
    told = records(tmp_path)
    assert [record["id"] for record in told] == [f"1/{number}" for number in range(6)]
    assert [each.reward for each in rewarded] == [record["reward"] for record in told]
    for record in told[:3]:
        [vote] = record["votes"]
        assert vote["principle"] == "rating"
        assert record["reward"] == pytest.approx(1 - fmean(vote["readings"][0] + vote["readings"][1]) / 4)
        assert 0 < record["reward"] < 1
    for record in told[3:]:
        assert {vote["against"] for vote in record["votes"]} == {"1/3", "1/4", "1/5"} - {record["id"]}
        assert len({vote["principle"] for vote in record["votes"][:2]}) == 2
        assert record["reward"] == pytest.approx(fmean(vote["probability"] for vote in record["votes"]))
    assert fmean(record["reward"] for record in told[3:]) == pytest.approx(0.5)
    assert {record["judge"] for record in told} == set(judges.models)
    assert len(asking.asked) == 3 * 2 + 3 * 2 * 2  # twice rated; three pairs, both ways, by two principles
    [took] = asked(tmp_path)
    assert (took["id"], took["usage"]["requests"]) == ("1", len(asking.asked))


def test_a_rating_is_the_one_that_labels_have(judges: Judges, asking: Asking, tmp_path: Path) -> None:
    given(tmp_path, judges, "rating")
    from solon.feedback.rating import rate
    from solon.prompts.dialogue import assistant

    [(_, rated)] = rate(asking.engine, [[*PROMPTS[0]["prompt"], assistant(TEXTS[0])]], SCALE)
    assert not isinstance(rated, SetAside)
    assert records(tmp_path)[0]["votes"][0]["ratings"][0] == pytest.approx(rated.value, abs=1e-4)
    assert expected([0.0] * 5) == 2


def test_rewards_are_summed_with_weights(judges: Judges, asking: Asking, tmp_path: Path) -> None:
    scores = [float(number) for number in range(6)]
    weights = {"preference-model": 0.5, OWN: 2, "comparison": -1}
    rewarded = given(tmp_path, judges, weights, scores=scores)
    for number, (record, each) in enumerate(zip(records(tmp_path), rewarded, strict=True)):
        assert record["rewards"]["preference-model"] == number
        assert record["rewards"][OWN] == -len(TEXTS[number]) / 100
        compared = fmean(vote["probability"] for vote in record["votes"])
        assert each.reward == pytest.approx(number / 2 - len(TEXTS[number]) / 50 - compared)


def test_a_kill_amid_a_step_changes_nothing(judges: Judges, asking: Asking, tmp_path: Path) -> None:
    reward = {"rating": 1, "comparison": 1}
    for step in (1, 2):
        given(tmp_path / "whole", judges, reward, step)
    given(tmp_path / "broken", judges, reward, 1)
    asking.left = 5
    with pytest.raises(KeyboardInterrupt):
        given(tmp_path / "broken", judges, reward, 2)
    asking.left = 10**9
    given(tmp_path / "broken", judges, reward, 2)
    whole, broken = (tmp_path / name / "samples.jsonl" for name in ("whole", "broken"))
    assert broken.read_bytes() == whole.read_bytes()
    asking.asked = []
    assert given(tmp_path / "broken", judges, reward, 2) == given(tmp_path / "whole", judges, reward, 2)
    assert asking.asked == []


def test_what_a_server_has_said_is_not_asked_again(
    judges: Judges, asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(tmp_path, judges, "comparison")
    whole, votes = records(tmp_path), len(asking.asked)
    kept = [record for record in whole if record["id"] not in {"1/1", "1/5"}]
    (tmp_path / "samples.jsonl").unlink()
    RecordFile(tmp_path / "samples.jsonl").append(*kept)
    asking.asked = []
    monkeypatch.setattr("solon.policy.rewards.on_server", lambda model: True)
    given(tmp_path, judges, "comparison")
    assert votes > 0
    assert asking.asked == []  # every pair has one whose votes are there
    for before, after in zip(whole, records(tmp_path), strict=True):
        assert audit_difference(before, after) is None


def test_a_sample_without_a_rating_is_not_learned_from(
    judges: Judges, asking: Asking, tmp_path: Path
) -> None:
    asking.refused = TEXTS[1]
    rewarded = given(tmp_path, judges, "rating")
    assert [each.rated for each in rewarded] == [number != 1 for number in range(6)]
    assert rewarded[1].reward == pytest.approx((rewarded[0].reward + rewarded[2].reward) / 2)
    assert [record.get("problem") for record in records(tmp_path)][:2] == ["", "too long"]
    asking.refused = ""
    with pytest.raises(SolonError, match=r"not one of the 6 samples of step 2 \(too long\)"):
        given(tmp_path, judges, "rating", step=2)


def test_a_pair_that_is_set_aside_leaves_the_others(judges: Judges, asking: Asking, tmp_path: Path) -> None:
    asking.refused = TEXTS[1]
    rewarded = given(tmp_path, judges, "comparison")
    told = records(tmp_path)
    assert [each.rated for each in rewarded] == [number != 1 for number in range(6)]
    assert {vote["against"] for vote in told[0]["votes"]} == {"1/2"}


def test_votes_count_by_their_principles_weights() -> None:
    def vote(probability: float, against: str, **weight: float) -> Any:
        return {"probability": probability, "against": against, **weight}

    votes = [vote(0.9, "1/1", weight=3.0), vote(0.1, "1/1"), vote(0.3, "1/2")]
    assert samples.part(votes, "comparison") == pytest.approx((0.7 + 0.3) / 2)
    assert samples.part([vote(0.9, "1/1", weight=0.0), votes[2]], "comparison") == 0.3
    assert samples.part([vote(0.9, "1/1", weight=0.0)], "comparison") is None


def test_a_panel_rewards_by_its_mean(judges: Judges, asking: Asking, tmp_path: Path) -> None:
    two = judges.model_copy(update={"models": ["one", "two"]})
    rewarded = given(tmp_path / "two", two, "rating")
    alone = given(tmp_path / "one", judges, "rating")
    told = records(tmp_path / "two")
    assert told[0]["judge"] == "one + two"
    assert [vote["judge"] for vote in told[0]["votes"]] == ["one", "two"]
    assert [each.reward for each in rewarded] == pytest.approx([each.reward for each in alone], abs=1e-5)


def test_judges_are_told_to_another_process_whole(judges: Judges) -> None:
    told = judges.having_spent()
    there = Judges.model_validate(told.model_dump(mode="json"))
    assert there == told
    assert there.laws["harmlessness"].content_hash == LAWS["harmlessness"].content_hash


def test_constitutions_must_have_what_rewards_need() -> None:
    rl = config.Reinforce(reward="rating", algorithm="ppo", samples_per_prompt=1)
    with pytest.raises(SolonError, match=r"'helpful' has no scale .* add a scale under 'rating'"):
        samples.check(rl, config.Feedback(), LAWS)
    bare = LAWS["harmlessness"].model_copy(update={"rating": None, "comparison": []})
    for reward, says in (("rating", "has no scale"), ("comparison", "has no comparison principle")):
        with pytest.raises(SolonError, match=says):
            samples.check(config.Reinforce(reward=reward), config.Feedback(), {"harmlessness": bare})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:f", "there is no module 'no_such_module' in .*: start Solon where the module is"),
        ("own_rewards_of_tests:brevty", r"no function 'brevty' \(did you mean 'brevity'\?\)"),
        ("own_rewards_of_tests:constant", "has no function 'constant'"),
        ("own_rewards_of_tests:one_too_few", "gives 5 numbers for 6 answers: have it return one each"),
        (
            "own_rewards_of_tests:not_a_number",
            "gives nan to the answer 'No, never.': have it return",
        ),
        ("own_rewards_of_tests:words", "gives 'good' to the answer"),
        ("own_rewards_of_tests:fails", r"fails: ZeroDivisionError: .* \(.*own_rewards_of_tests.py line 25\)"),
        ("broken:f", r"whose module fails: SyntaxError: .* \(.*broken.py line 1\)"),
        ("raising:f", r"whose module fails: ModuleNotFoundError: No module named 'nowhere' \(.*line 1\)"),
    ],
)
def test_what_is_wrong_with_a_reward_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "raising.py").write_text("import nowhere\n")
    with pytest.raises(SolonError, match=says):
        given(tmp_path, None, f"python:{name}")


def test_a_module_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "likes_llamas.py").write_text("def llamas(prompts, answers):\n    return map(len, answers)\n")
    assert [each.reward for each in given(tmp_path, None, "python:likes_llamas:llamas")] == list(
        map(len, TEXTS)
    )
    assert own_rewards.source("python:likes_llamas:llamas") == tmp_path / "likes_llamas.py"


def test_rl_goes_on_after_a_kill_as_if_there_had_been_none(
    tiny_model: Path, judges: Judges, asking: Asking, tmp_path: Path
) -> None:
    settings = config.Reinforce(reward={"rating": 9, OWN: 1}, **{**SMALL, "steps": 3, "save_steps": 1})
    red = [{**record, "set": "red-team"} for record in prompt_records(2)]

    def train(out: Path, progress: Callable[..., None]) -> dict[str, float]:
        given: Any = (red, str(tiny_model), None, out, settings, 0, progress)
        return reinforce.train(*given, judges=judges)

    assert_a_kill_changes_nothing(train, tmp_path, (2,))


def test_rl_does_not_learn_from_what_nobody_rated(
    tiny_model: Path, judges: Judges, asking: Asking, tmp_path: Path
) -> None:
    """All samples of one prompt are unrated: the step's mean stands in their place."""
    asking.refused = prompt_records()[1]["prompt"][0]["content"]
    settings = config.Reinforce(reward="rating", **SMALL)
    out = tmp_path / "out"
    red = [{**record, "set": "red-team"} for record in prompt_records(2)]
    reinforce.train(red, str(tiny_model), None, out, settings, 0, unwatched, judges=judges)  # type: ignore[arg-type]
    told = records(out)
    assert {record["prompt_id"] for record in told if record.get("problem")} == {"1"}
    mark = (out / "solon-mark.json").read_text()
    assert "ai harmlessness" in mark
    assert Unjudged.problem not in mark
