"""Training in two processes: the same numbers as in one, and what the processes say comes through."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import correlation
from typing import Any

import pytest
import torch
from transformers import set_seed

from reward_together import rewards
from slow import SLOW
from solon import config, constitution, models
from solon.config import Config
from solon.errors import SolonError
from solon.feedback.sample_judges import Judges
from solon.marks import KEY
from solon.pipeline import launch
from solon.policy import rollouts
from solon.policy.length_control import length
from solon.store.record_file import RecordFile
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
SCRIPT = Path(__file__).with_name("train_together.py")
STRATEGIES = {
    "ddp": ["supervised", "preference", "rloo", "grpo", "dpo", "feedback", "ppo"],
    "fsdp": ["preference", "dpo", "rloo-lora", "ppo-lora"],
}
if "SOLON_TEST_FAULTS" in os.environ:
    STRATEGIES["ddp"] += ["dr-grpo", "ppo-lora"]
    STRATEGIES["fsdp"] += [
        "rloo",
        "grpo",
        "ppo",
        "supervised-lora",
        "preference-lora",
        "grpo-lora",
        "dpo-lora",
    ]
WORDS = ("A llama.", "Nothing much, to be sure.", "The night, because of the stars and of nothing else.")
EXAMPLES = [example(f"{number} things?", WORDS[number % 3] * (1 + number % 4)) for number in range(12)]
PAIRS = [pair(f"{number}?", WORDS[number % 3], WORDS[(number + 1) % 3], number / 12) for number in range(12)]
OWN = "python:own_rewards_of_tests:brevity"
SMALL = {"batch_size": 4, "micro_batch_size": 1, "learning_rate": 1e-3}
RL = {"steps": 2, "prompts_per_step": 4, "samples_per_prompt": 2, "micro_batch_size": 2, "max_tokens": 12}

Task = tuple[str, list[Any], list[str | None], config.Section]


@pytest.fixture(scope="module")
def tasks(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    tiny, scorer = str(tiny_model), tmp_path_factory.mktemp("scorer")
    set_seed(0)
    models.load_preference_model(tiny).save_pretrained(scorer)
    models.load_tokenizer(tiny).save_pretrained(scorer)
    rl = [
        config.Reinforce(
            algorithm=name, learning_rate=1e-3, epochs_per_step=passes, length_control=controlled, **RL
        )
        for name, passes, controlled in (
            ("rloo", 1, False),
            ("grpo", 2, True),
            ("dr-grpo", 1, False),
            ("ppo", 2, True),
        )
    ]
    pairs = {"steps": 2, "prompts_per_step": 4, "micro_batch_size": 2, "learning_rate": 1e-3}
    lora: dict[str, Any] = {"lora": config.Lora(rank=4, alpha=8), "weights": "float32"}
    adapted: dict[str, Task] = {
        "supervised": ("supervised", EXAMPLES, [tiny], config.Supervised(**lora, **SMALL)),
        "preference": ("preference-model", PAIRS, [tiny], config.PreferenceModel(**lora, **SMALL)),
    }
    began = [str(tmp_path_factory.mktemp(name)) for name in adapted]  # the policy's and the scorer's adapters
    for out, (stage, records, names, settings) in zip(began, adapted.values(), strict=True):
        launch.train(stage, records, names, Path(out), settings, 4, unwatched, config.TrainingScale())
    for each in rl:
        if each.algorithm != "dr-grpo":
            adapted[each.algorithm] = ("reinforce", prompt_records(), [*began], each.model_copy(update=lora))
    adapted["dpo"] = (
        "reinforce",
        PAIRS,
        [began[0], None],
        config.Reinforce(algorithm="dpo", **lora, **pairs),
    )
    return {
        "feedback": (
            "reinforce",
            [{**record, "set": "red-team"} for record in prompt_records()],
            [tiny, None],
            config.Reinforce(reward={"rating": 9, OWN: 1}, learning_rate=1e-3, **RL),
        ),
        **{f"{name}-lora": task for name, task in adapted.items()},
        "dpo": ("reinforce", PAIRS, [tiny, None], config.Reinforce(algorithm="dpo", **pairs)),
        "supervised": ("supervised", EXAMPLES, [tiny], config.Supervised(epochs=2, **SMALL)),
        "preference": ("preference-model", PAIRS, [tiny], config.PreferenceModel(epochs=2, **SMALL)),
        **{each.algorithm: ("reinforce", prompt_records(), [tiny, str(scorer)], each) for each in rl},
    }


def judges_of(names: list[str | None], settings: config.Section) -> Judges | None:
    """The feedback model, where it rewards: the policy's own beginning."""
    if not (isinstance(settings, config.Reinforce) and settings.asks_feedback):
        return None
    law = constitution.load("harmless")
    return Judges(
        models=[str(names[0])],
        role=config.Role(),
        settings=config.Feedback(),
        laws={"harmlessness": law, "helpfulness": law},
        engine=config.EngineSettings(device="cpu", dtype="float32", batch_size=8),
        scale=config.Scale(),
    )


@pytest.fixture(scope="module")
def alone(tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of them."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollouts, "number_type", lambda: "float32")  # as in the two: see train_together.py
        for name in set().union(*STRATEGIES.values()):
            stage, records, names, settings = tasks[name]
            scale, judges = config.TrainingScale(), judges_of(names, settings)
            launch.train(stage, records, names, folder / name, settings, 3, unwatched, scale, judges=judges)
    return folder


@pytest.fixture(scope="module")
def together(tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes make of them; they are started once a strategy, which is what takes the time."""
    folder = tmp_path_factory.mktemp("together")
    for strategy, names_of in STRATEGIES.items():
        scale = config.TrainingScale(processes=2, strategy=strategy)
        for name in names_of:
            stage, records, names, settings = tasks[name]
            judges = judges_of(names, settings)
            launch.write_task(stage, records, names, folder / strategy / name, settings, 3, judges=judges)
        folders = [str(folder / strategy / name) for name in names_of]
        line = [*launch.command(scale), str(SCRIPT), *folders]
        done = subprocess.run(
            line, env=launch.environment(scale), check=False, capture_output=True, text=True
        )
        assert not done.returncode, done.stderr[-6000:]
    return folder


@pytest.mark.parametrize(
    ("strategy", "name"), [(strategy, name) for strategy, names in STRATEGIES.items() for name in names]
)
def test_two_processes_train_as_one(strategy: str, name: str, alone: Path, together: Path) -> None:
    assert_trained_alike(together / strategy / name, alone / name)
    if (alone / name / "samples.jsonl").exists():  # every answer once, and those that one process samples
        written = [folder / name / "samples.jsonl" for folder in (together / strategy, alone)]
        assert written[0].read_text() == written[1].read_text()


@SLOW
def test_length_is_controlled_over_all_processes_at_one_sample_a_prompt(
    tasks: dict[str, Task], tmp_path: Path
) -> None:
    """As PPO may have it. No part of what is left goes with length."""
    [_, _, [_, scorer], _] = tasks["rloo"]
    (tmp_path / "alone").mkdir()
    (tmp_path / "together").mkdir()
    alone = rewards(scorer, tmp_path / "alone", 0, 1)
    script = str(Path(__file__).with_name("reward_together.py"))
    line = [*launch.command(TWO), script, scorer, str(tmp_path / "together")]
    subprocess.run(line, env=launch.environment(TWO), check=True, capture_output=True, text=True)
    shares = [json.loads((tmp_path / f"together/{process}.json").read_text()) for process in range(2)]
    assert [reward for share in shares for reward in share] == pytest.approx(alone, abs=1e-5)
    samples = RecordFile(tmp_path / "together/samples.jsonl").read()
    lengths = [length(sample["response"]) for sample in samples]
    assert abs(correlation(lengths, [sample["reward"] for sample in samples])) > 0.2
    assert correlation(lengths, alone) == pytest.approx(0, abs=1e-4)


def configured(folder: Path) -> Any:
    """The adapters' configuration, or the model's but for hashes of weights, which differ in rounding."""
    adapters = folder / "adapter_config.json"
    if adapters.exists():
        said = json.loads(adapters.read_text())
        return said | {"target_modules": sorted(said["target_modules"])}
    said = json.loads((folder / "config.json").read_text())
    del said[KEY]["weights"], said[KEY]["seal"]
    return said


def assert_trained_alike(ours: Path, theirs: Path) -> None:
    ours_rows, theirs_rows = metrics_of(ours), metrics_of(theirs)
    assert len(ours_rows) == len(theirs_rows) > 1
    for two, one in zip(ours_rows, theirs_rows, strict=True):
        if theirs.name == "supervised":
            # TRL averages the accuracies of micro-batches, and those of two processes are one to it.
            assert two.pop("accuracy") == pytest.approx(one.pop("accuracy"), abs=0.05)
        assert two == pytest.approx(one, rel=2e-4, abs=2e-4)
    weights, expected = weights_of(ours), weights_of(theirs)
    assert weights.keys() == expected.keys()
    assert all(torch.allclose(weights[name], expected[name], atol=1e-4) for name in expected)
    assert configured(ours) == configured(theirs)


@SLOW
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ppo_goes_on_from_its_checkpoint(
    strategy: str, tasks: dict[str, Task], alone: Path, tmp_path: Path
) -> None:
    stage, records, names, settings = tasks["ppo"]
    settings, out = settings.model_copy(update={"save_steps": 1, "checkpoints": 1}), tmp_path / "ppo"
    chosen = " ".join(f"{name}={value}" for name, value in launch.FSDP.items()) if strategy == "fsdp" else ""
    started = " ".join(launch.command(config.TrainingScale(processes=2)))
    scale = config.TrainingScale(launcher=f"env {chosen} {started} {SCRIPT}")
    with pytest.raises(Killed):
        launch.train(stage, records, names, out, settings, 3, killed_at(1), scale)
    written = len(list(out.glob("checkpoint-1/*.distcp")))
    assert written == {"ddp": 1, "fsdp": 2}[strategy]
    seen: list[int] = []
    launch.train(stage, records, names, out, settings, 3, lambda step, *_: seen.append(step), scale)
    assert seen == [2]
    assert {path.name for path in out.iterdir()} == CHECKPOINT | {"samples.jsonl", "step-1"}
    assert_trained_alike(out, alone / "ppo")


@SLOW
def test_shared_out_weights_come_together_also_after_a_kill(
    tasks: dict[str, Task], alone: Path, tmp_path: Path
) -> None:
    """The whole way, by a launcher of the user's: watched, killed, going on from a sharded checkpoint."""
    stage, records, names, settings = tasks["supervised"]
    settings, out = settings.model_copy(update={"save_steps": 2}), tmp_path / "supervised"
    shared_out = " ".join(f"{name}={value}" for name, value in launch.FSDP.items())
    started = " ".join(launch.command(config.TrainingScale(processes=2)))
    scale = config.TrainingScale(launcher=f"env {shared_out} {started} {SCRIPT}")
    with pytest.raises(Killed):
        launch.train(stage, records, names, out, settings, 3, killed_at(5), scale)
    assert len(list(out.glob("checkpoint-4/pytorch_model_fsdp_0/*.distcp"))) == 2
    assert not (out / "model.safetensors").exists()
    seen: list[int] = []
    metrics = launch.train(
        stage, records, names, out, settings, 3, lambda step, steps, _: seen.append(step), scale
    )
    assert seen == [5, 6]
    assert metrics == metrics_of(out)[-1]
    assert {path.name for path in out.iterdir()} == CHECKPOINT
    assert_trained_alike(out, alone / "supervised")


def test_a_stages_error_comes_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    scale = config.TrainingScale(launcher=" ".join(launch.command(config.TrainingScale())))
    with pytest.raises(SolonError, match="nothing to train on"):
        launch.train("supervised", [], [str(tiny_model)], tmp_path, config.Supervised(), 0, unwatched, scale)


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
        (
            {"supervised": {"lora": {}, "weights": "4bit"}, "scale": {"training": {"strategy": "fsdp"}}},
            "cannot share out weights in 4 bits",
        ),
        (
            {"reinforce": {"optimizer": "adamw-8bit"}, "scale": {"training": {"strategy": "fsdp"}}},
            "cannot share out the state of optimizer adamw-8bit",
        ),
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
