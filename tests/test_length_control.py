"""Rewards without what they owe to length: the arithmetic, that RL learns from them, and kills."""

import math
import random
import string
from pathlib import Path
from typing import Literal

import pytest

from solon import config
from solon.prompts.dialogue import assistant, user
from solon.records import Message
from solon.run import RecordFile
from solon.stages import preference, reinforce
from solon.stages.length_control import LengthControl
from toy_training import assert_a_kill_changes_nothing, metrics_of, pair, prompt_records, unwatched

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


@pytest.fixture(scope="module")
def lover_of_brevity(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    draw = random.Random(0)

    def text(words: int) -> str:
        return " ".join("".join(draw.choices(string.ascii_letters, k=4)) for _ in range(words))

    pairs = [pair(f"{number}?", text(1 + number % 2), text(4 + number % 6), 1.0) for number in range(160)]
    out = tmp_path_factory.mktemp("lover") / "out"
    small = config.PreferenceModel(batch_size=20, micro_batch_size=20, learning_rate=3e-3, epochs=4)
    preference.train(pairs, str(tiny_model), out, small, 0, unwatched)
    return str(out)


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "ppo"])
def test_rl_learns_from_the_rewards_without_length(
    tiny_model: Path,
    lover_of_brevity: str,
    tmp_path: Path,
    algorithm: Literal["rloo", "grpo", "ppo"],
) -> None:
    small, said = settings(algorithm), {}
    for name, wanted in (("controlled", small), ("not", small.model_copy(update={"length_control": False}))):
        reinforce.train(
            prompt_records(), str(tiny_model), lover_of_brevity, tmp_path / name, wanted, 1, unwatched
        )
    for name in ("controlled", "not"):
        again = control(tmp_path / "none")
        samples = RecordFile(tmp_path / name / "samples.jsonl").read()
        for row in metrics_of(tmp_path / name):
            of_step = [each for each in samples if each["step"] == row["step"]]
            scores = [each["reward"] for each in of_step]  # the records keep the preference model's scores
            if name == "controlled":
                dialogues = [[*each["prompt"], assistant(each["response"])] for each in of_step]
                scores = again.controlled(row["step"], dialogues, scores)
            assert row["reward"] == pytest.approx(sum(scores) / len(scores), abs=1e-4)
        said[name] = {(each["step"], each["id"]): each["response"] for each in samples}
    assert all(said["not"][key] == text for key, text in said["controlled"].items() if key[0] == 1)
    assert said["not"] != said["controlled"]


@pytest.mark.parametrize("algorithm", ["rloo", "ppo"])
def test_a_kill_changes_nothing(
    tiny_model: Path,
    lover_of_brevity: str,
    tmp_path: Path,
    algorithm: Literal["rloo", "grpo", "ppo"],
) -> None:
    small = settings(algorithm)
    assert_a_kill_changes_nothing(
        lambda out, progress: reinforce.train(
            prompt_records(), str(tiny_model), lover_of_brevity, out, small, 1, progress
        ),
        tmp_path,
        kills=(5, 6),
    )


def settings(algorithm: Literal["rloo", "grpo", "ppo"]) -> config.Reinforce:
    return config.Reinforce(
        algorithm=algorithm,
        length_control=True,
        steps=7,
        save_steps=2,
        prompts_per_step=2,
        samples_per_prompt=4,
        micro_batch_size=4,
        max_tokens=6,
        learning_rate=1e-2,
        kl_limit=math.inf,
    )
