"""Training in two processes: the same numbers as in one, and what the processes say comes through."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from solon import config, launch, models
from solon.config import Config
from solon.errors import SolonError
from toy_training import (
    CHECKPOINT,
    Killed,
    example,
    killed_at,
    metrics_of,
    pair,
    prompt_records,
    unwatched,
    weights_of,
)

TWO = config.TrainingScale(processes=2)
WORDS = ("A llama.", "Nothing much, to be sure.", "The night, because of the stars and of nothing else.")
EXAMPLES = [example(f"{number} things?", WORDS[number % 3] * (1 + number % 4)) for number in range(12)]
PAIRS = [pair(f"{number}?", WORDS[number % 3], WORDS[(number + 1) % 3], number / 12) for number in range(12)]
SMALL = {"batch_size": 4, "micro_batch_size": 1, "learning_rate": 1e-3}
RL = {"steps": 2, "prompts_per_step": 4, "samples_per_prompt": 2, "micro_batch_size": 2, "max_tokens": 12}

Task = tuple[str, list[Any], list[str], config.Section]


@pytest.fixture(scope="module")
def tasks(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    tiny, scorer = str(tiny_model), tmp_path_factory.mktemp("scorer")
    set_seed(0)
    models.load_preference_model(tiny).save_pretrained(scorer)
    models.load_tokenizer(tiny).save_pretrained(scorer)
    rl = [
        config.Reinforce(algorithm=name, learning_rate=1e-3, epochs_per_step=passes, **RL)
        for name, passes in (("rloo", 1), ("grpo", 2))
    ]
    return {
        "supervised": ("supervised", EXAMPLES, [tiny], config.Supervised(epochs=2, **SMALL)),
        "preference": ("preference", PAIRS, [tiny], config.PreferenceModel(epochs=2, **SMALL)),
        **{each.algorithm: ("reinforce", prompt_records(), [tiny, str(scorer)], each) for each in rl},
    }


@pytest.fixture(scope="module")
def together(tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of all tasks; they are started once, which is what takes the time."""
    folder = tmp_path_factory.mktemp("together")
    for name, (stage, records, names, settings) in tasks.items():
        launch.write_task(stage, records, names, folder / name, settings, 3)
    script = Path(__file__).with_name("train_together.py")
    line = [*launch.command(TWO), str(script), *(str(folder / name) for name in tasks)]
    subprocess.run(line, env=launch.environment(TWO), check=True, capture_output=True, text=True)
    return folder


@pytest.mark.parametrize("name", ["supervised", "preference", "rloo", "grpo"])
def test_two_processes_train_as_one(
    name: str, tasks: dict[str, Task], together: Path, tmp_path: Path
) -> None:
    stage, records, names, settings = tasks[name]
    launch.train(stage, records, names, tmp_path, settings, 3, unwatched, config.TrainingScale())
    alone, shared = metrics_of(tmp_path), metrics_of(together / name)
    assert len(alone) == len(shared) > 1
    for one, two in zip(alone, shared, strict=True):
        if stage == "supervised":  # TRL averages micro-batches' accuracies, and two processes' are one to it
            assert two.pop("accuracy") == pytest.approx(one.pop("accuracy"), abs=0.05)
        assert two == pytest.approx(one, rel=2e-4, abs=2e-4)
    ours, theirs = weights_of(together / name), weights_of(tmp_path)
    assert all(torch.allclose(ours[weight], theirs[weight], atol=1e-4) for weight in theirs)
    if stage == "reinforce":  # every answer once, and those that one process samples
        written = [(folder / "samples.jsonl").read_text() for folder in (together / name, tmp_path)]
        assert written[0] == written[1]


def test_a_stage_is_launched_watched_and_goes_on(
    tasks: dict[str, Task], together: Path, tmp_path: Path
) -> None:
    stage, records, names, settings = tasks["supervised"]
    settings = settings.model_copy(update={"save_steps": 2})
    with pytest.raises(Killed):
        launch.train(stage, records, names, tmp_path, settings, 3, killed_at(4), TWO)
    seen: list[int] = []
    metrics = launch.train(
        stage, records, names, tmp_path, settings, 3, lambda step, steps, _: seen.append(step), TWO
    )
    assert seen and seen[0] > 2
    assert metrics == metrics_of(tmp_path)[-1]
    assert metrics_of(tmp_path) == metrics_of(together / "supervised")
    assert {path.name for path in tmp_path.iterdir()} == CHECKPOINT


def test_what_goes_wrong_is_told(tiny_model: Path, tmp_path: Path) -> None:
    def launched(launcher: str) -> None:
        scale = config.TrainingScale(launcher=launcher)
        launch.train(
            "supervised", EXAMPLES, [str(tiny_model)], tmp_path, config.Supervised(), 0, unwatched, scale
        )

    with pytest.raises(SolonError, match="no-such-command"):
        launched("no-such-command --config_file none")
    with pytest.raises(SolonError, match=r"status 1; .*launched.log says why"):
        launched("false")
    said = "print('a library speaks'); print('{\\\"error\\\": \\\"the loss is too high\\\"}')"
    with pytest.raises(SolonError, match=r"^the loss is too high$"):
        launched(f'{sys.executable} -c "{said}"')
    assert "a library speaks" in (tmp_path / launch.LOG).read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"supervised": {"batch_size": 8, "micro_batch_size": 8}, "scale": {"training": {"processes": 3}}},
            "3",
        ),
        ({"reinforce": {"algorithm": "ppo"}, "scale": {"training": {"processes": 2}}}, "ppo in 2 processes"),
    ],
)
def test_what_processes_cannot_share_is_refused_at_once(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Config.model_validate(changed)


def test_the_environment_keeps_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert launch.environment(TWO)["OMP_NUM_THREADS"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert int(launch.environment(TWO)["OMP_NUM_THREADS"]) == max(1, (os.cpu_count() or 1) // 2)
    sharded = config.TrainingScale(processes=2, strategy="fsdp")
    assert launch.environment(sharded)["ACCELERATE_USE_FSDP"] == "true"
