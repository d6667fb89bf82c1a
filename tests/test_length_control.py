"""Rewards without what they owe to length: the arithmetic. RL with them is in test_stage_reinforce.py."""

import math
from pathlib import Path

import pytest

from solon.policy.length_control import LengthControl
from solon.prompts.dialogue import assistant, user
from solon.records import Message
from solon.store.record_file import RecordFile

SLOPE = -0.7
WORDS = [1, 3, 7, 15]  # ln(1 + n) is 1, 2, 3 and 4 times ln 2
USUAL = 2.5 * math.log(2)


def answer(prompt: str, words: int) -> list[Message]:
    return [user(prompt), assistant(" ".join(["so"] * words))]


def scored(quality: float, words: int) -> float:
    return quality + SLOPE * math.log(1 + words)


def control(path: Path) -> LengthControl:
    return LengthControl(RecordFile(path))


def test_what_goes_with_length_is_taken_off(tmp_path: Path) -> None:
    asked = [(prompt, words) for prompt in ("Good?", "Bad?") for words in WORDS]
    qualities = {"Good?": 5.0, "Bad?": -5.0}
    found = control(tmp_path / "none").controlled(
        1, [answer(*each) for each in asked], [scored(qualities[prompt], words) for prompt, words in asked]
    )
    # As if all had the usual length: what is left are the prompts' own levels.
    assert found == pytest.approx([qualities[prompt] + SLOPE * USUAL for prompt, _ in asked])


def test_a_policy_that_gets_better_and_shorter_keeps_what_is_better(tmp_path: Path) -> None:
    ours = control(tmp_path / "none")
    ours.controlled(1, [answer("A?", words) for words in WORDS], [scored(0, words) for words in WORDS])
    found = ours.controlled(2, [answer("A?", words) for words in (0, 1)], [scored(2, 0), scored(2, 1)])
    assert ours.slope == pytest.approx(SLOPE)
    assert found == pytest.approx([2 + SLOPE * USUAL] * 2)


def test_answers_of_one_length_are_left_alone(tmp_path: Path) -> None:
    scores = [0.5, -1.0, 2.0]
    assert control(tmp_path / "none").controlled(1, [answer("A?", 4)] * 3, scores) == scores


def test_what_differs_otherwise_is_least_squares(tmp_path: Path) -> None:
    found = control(tmp_path / "none")
    found.controlled(1, [answer("A?", words) for words in WORDS], [1.0, 0.0, 2.0, 0.0])
    # Lengths are -1.5, -0.5, 0.5 and 1.5 ln 2 from their mean, scores 0.25, -0.75, 1.25 and -0.75.
    assert found.slope == pytest.approx((-0.375 + 0.375 + 0.625 - 1.125) / (5 * math.log(2)))
