"""Rewards without what they owe to length: the arithmetic. RL with them is in test_stage_reinforce.py."""

import math
import random
from pathlib import Path
from statistics import correlation

import pytest

from solon import config
from solon.policy.length_control import LengthControl
from solon.policy.rollouts import Rollout
from solon.policy.sample_log import SampleLog
from solon.prompts.dialogue import user
from solon.records import PromptRecord
from solon.store.record_file import RecordFile

SLOPE = -0.7
WORDS = [1, 3, 7, 15]  # ln(1 + n) is 1, 2, 3 and 4 times ln 2
USUAL = 2.5 * math.log(2)


def said(words: int) -> str:
    return " ".join(["so"] * words)


def scored(quality: float, words: int) -> float:
    return quality + SLOPE * math.log(1 + words)


def records(*ids: str) -> list[PromptRecord]:
    return [
        {"id": each, "prompt": [], "set": "helpful", "kind": "", "split": "train", "source": "test"}
        for each in ids
    ]


def control(path: Path) -> LengthControl:
    return LengthControl(RecordFile(path))


def test_what_goes_with_length_is_taken_off(tmp_path: Path) -> None:
    asked = [(prompt, words) for prompt in ("Good?", "Bad?") for words in WORDS]
    qualities = {"Good?": 5.0, "Bad?": -5.0}
    found = control(tmp_path / "none").controlled(
        1,
        [prompt for prompt, _ in asked],
        [said(words) for _, words in asked],
        [scored(qualities[prompt], words) for prompt, words in asked],
    )
    # As if all had the usual length: what is left are the prompts' own levels.
    assert found == pytest.approx([qualities[prompt] + SLOPE * USUAL for prompt, _ in asked])


def test_a_policy_that_gets_better_and_shorter_keeps_what_is_better(tmp_path: Path) -> None:
    ours = control(tmp_path / "none")
    ours.controlled(1, ["A?"] * 4, list(map(said, WORDS)), [scored(0, words) for words in WORDS])
    found = ours.controlled(2, ["A?"] * 2, list(map(said, (0, 1))), [scored(2, 0), scored(2, 1)])
    assert ours.slope == pytest.approx(SLOPE)
    assert found == pytest.approx([2 + SLOPE * USUAL] * 2)


def test_answers_of_one_length_are_left_alone(tmp_path: Path) -> None:
    scores = [0.5, -1.0, 2.0]
    assert control(tmp_path / "none").controlled(1, ["A?"] * 3, [said(4)] * 3, scores) == scores


def test_what_differs_otherwise_is_least_squares(tmp_path: Path) -> None:
    found = control(tmp_path / "none")
    found.controlled(1, ["A?"] * 4, list(map(said, WORDS)), [1.0, 0.0, 2.0, 0.0])
    # Lengths are -1.5, -0.5, 0.5 and 1.5 ln 2 from their mean, scores 0.25, -0.75, 1.25 and -0.75.
    assert found.slope == pytest.approx((-0.375 + 0.375 + 0.625 - 1.125) / (5 * math.log(2)))


def test_at_one_answer_a_prompt_the_step_is_the_measure(tmp_path: Path) -> None:
    """PPO's setting in the paper. The correlation of scores with length is -0.97 before and 0 afterwards."""
    draw = random.Random(0)
    ours, before, after, long = control(tmp_path / "none"), [], [], []
    for step in range(1, 11):
        words = [draw.randint(1, 60) for _ in range(16)]
        scores = [scored(draw.gauss(0, 0.1), count) for count in words]
        prompts = [f"{step}-{number}" for number in range(16)]
        found = ours.controlled(step, prompts, list(map(said, words)), scores)
        if step == 1:  # the slope is of these alone
            assert correlation(list(map(math.log1p, words)), found) == pytest.approx(0, abs=1e-9)
        before += scores
        after += found
        long += [math.log1p(count) for count in words]
    assert ours.slope == pytest.approx(SLOPE, abs=0.05)
    assert correlation(long, before) < -0.9
    assert abs(correlation(long, after)) < 0.1


def test_prompts_with_one_answer_and_with_several_are_each_measured_by_their_like(tmp_path: Path) -> None:
    prompts = ["many"] * 4 + ["one", "two", "three"]
    words = [*WORDS, 2, 5, 11]
    scores = [scored(9.0, count) for count in WORDS] + [scored(0.0, count) for count in (2, 5, 11)]
    ours = control(tmp_path / "none")
    ours.controlled(1, prompts, list(map(said, words)), scores)
    assert ours.slope == pytest.approx(SLOPE)  # the level of "many" is not taken for length


def test_prompts_with_the_same_text_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    """What a killed run reads back has the ids too, and goes on with the same slope."""
    prompts, words = ["a", "a", "b", "b"], [1, 3, 1, 7]
    scores = [scored(5, 1), scored(5, 3), scored(-5, 1), scored(-5, 7)]
    ours = control(tmp_path / "none")
    ours.controlled(1, prompts, list(map(said, words)), scores)
    assert ours.slope == pytest.approx(SLOPE)
    log = SampleLog(tmp_path, [{**record, "prompt": [user("Same?")]} for record in records("a", "b")])
    log.append(1, prompts, [Rollout([], said(count), False) for count in words], scores)
    again = control(tmp_path / "samples.jsonl")
    assert again.controlled(2, ["a"], [said(7)], [1.0]) == ours.controlled(2, ["a"], [said(7)], [1.0])


def test_one_answer_a_step_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ValueError, match="length_control compares a step's answers, and a step has one"):
        config.Reinforce(
            algorithm="ppo", prompts_per_step=1, samples_per_prompt=1, length_control=True, micro_batch_size=1
        )
