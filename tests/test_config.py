"""Configurations: defaults are the paper's, mistakes are named, files are found beside the configuration."""

from importlib import resources
from pathlib import Path

import pytest

from solon import config
from solon.cli.options import configuration, overrides
from solon.errors import SolonError


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_papers() -> None:
    defaults = config.Config()
    assert defaults.critique.rounds == 4
    assert defaults.critique.temperature == 1
    assert defaults.feedback.clamp == (0.4, 0.6)
    assert defaults.feedback.both_orders
    assert defaults.supervised.epochs == 1
    assert defaults.supervised.revisions == "all"


def test_packaged_configurations_load() -> None:
    with resources.as_file(resources.files("solon") / "configs") as folder:
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["eight-gpus.yaml", "laptop.yaml", "one-gpu.yaml", "paper.yaml"]
        for name in names:
            config.load(folder / name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("critique:\n  round: 2\n", "line 2: critique.round is not a known field"),
        ("feedback:\n  principles: 0\n", "line 2: feedback.principles is 0: input should be greater"),
        (
            "feedback:\n  clamp: [0.6, 0.4]\n",
            "line 2: feedback.clamp is [0.6, 0.4]: the lower bound comes first",
        ),
        ("seed: 1\nseed: 2\n", "line 2: 'seed' is given a second time"),
        (
            "supervised:\n  batch_size: 12\n  micro_batch_size: 8\n",
            "line 1: supervised batch_size is 12, no multiple of micro_batch_size 8",
        ),
        ("reinforce:\n  samples_per_prompt: 1\n", "samples_per_prompt is 1, but rloo compares samples"),
        (
            "reinforce:\n  reward: ratings\n",
            "line 2: reinforce.reward has 'ratings' (did you mean 'rating'?); rewards are preference-model",
        ),
        ("reinforce:\n  reward: {rating: 0}\n", "line 2: reinforce.reward has the weight 0 for rating"),
        ("reinforce:\n  reward: [rating]\n", "line 2: reinforce.reward is ['rating']: name one reward"),
        (
            "reinforce: {algorithm: dpo, reward: rating}\n",
            "reward is for algorithms that sample answers, and dpo learns from pairs",
        ),
        (
            "reinforce: {algorithm: ppo, samples_per_prompt: 1, reward: comparison}\n",
            "reward compares the samples of a prompt: give samples_per_prompt 2 or more",
        ),
        ("- a\n", "line 1: expected fields"),
        ("critique: {rounds: [\n", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SolonError) as caught:
        config.load(write(tmp_path, text))
    assert says in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_settings_are_laid_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "critique: {rounds: 3, max_tokens: 9}\n")
    asked = configuration(path, ["critique.rounds=1", "feedback.principles=all", "supervised.lora={rank: 4}"])
    assert (asked.critique.rounds, asked.critique.max_tokens) == (1, 9)
    assert asked.feedback.principles == "all"
    assert asked.supervised.lora is not None
    assert asked.supervised.lora.rank == 4
    with pytest.raises(SolonError, match=r"laid over it: critique.rounds is 'two'"):
        configuration(path, ["critique.rounds=two"])
    with pytest.raises(SolonError, match=r"critique.rounds is 'two'"):
        configuration(None, ["critique.rounds=two"])


@pytest.mark.parametrize("setting", ["critique.rounds", "=2", "critique..rounds=1", "a=[1"])
def test_what_is_no_setting_is_refused(setting: str) -> None:
    with pytest.raises(SolonError, match="--set"):
        overrides([setting])


def test_a_setting_and_a_part_of_it_are_refused() -> None:
    with pytest.raises(SolonError, match="a part of what an earlier --set gave"):
        overrides(["critique=1", "critique.rounds=2"])


def test_files_are_found_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "law.yaml").write_text("name: mine\n")
    (tmp_path / "prompts.jsonl").write_text("")
    text = "constitution: law.yaml\nprompts: {red_team: {source: prompts.jsonl}}\n"
    asked = config.load(write(tmp_path, text + "models: {assistant: org/name}\n"))
    assert asked.constitution == str(tmp_path / "law.yaml")
    assert asked.prompts.red_team.source == str(tmp_path / "prompts.jsonl")
    assert asked.models.assistant == "org/name"
    assert asked.prompts.helpful.source == "packaged"


def test_prompts_may_have_their_old_name(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, "red_team: {generate: 3}\n")).prompts.generate == 3
    with pytest.raises(SolonError, match=r"red_team\.generate is -1"):
        config.load(write(tmp_path, "red_team: {generate: -1}\n"))
    with pytest.raises(SolonError, match="has prompts and red_team, which is its old name; write prompts"):
        config.load(write(tmp_path, "red_team: {generate: 3}\n"), {"prompts": {"generate": 2}})
