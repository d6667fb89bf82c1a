"""``report_to``: every trainer's metrics in TensorBoard's own files, and trackers that are not installed."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from command import fails
from solon import config, trackers
from solon.errors import SolonError
from solon.stages import preference, reinforce, supervised
from toy_training import example, metrics_of, pair, prompt_records, unwatched

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
)
EPOCH = {"batch_size": 1, "micro_batch_size": 1, "report_to": ["tensorboard"]}


def logged(out: Path, name: str) -> list[float]:
    """The values of a curve, in the order of the steps."""
    [events] = out.rglob("events.out.tfevents.*")
    found = accumulator.EventAccumulator(str(events))
    found.Reload()
    points = found.Scalars(name)
    assert [point.step for point in points] == list(range(1, len(points) + 1))
    return [point.value for point in points]


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preference model whose training was reported."""
    out = tmp_path_factory.mktemp("preference-model")
    pairs = [pair("Who?", "I.", "You.", 0.9), pair("Why?", "So.", "No.", 0.8)]
    settings = config.PreferenceModel.model_validate(EPOCH)
    preference.train(pairs, str(tiny_model), out, settings, 0, unwatched)
    return out


def test_preference_model(scorer: Path) -> None:
    expected = [row["loss"] for row in metrics_of(scorer)]
    assert logged(scorer, "train/loss") == pytest.approx(expected, abs=1e-6)


def test_supervised(tiny_model: Path, tmp_path: Path) -> None:
    examples = [example("Who are you?", "A model."), example("Why?", "So.")]
    settings = config.Supervised.model_validate(EPOCH)
    supervised.train(examples, str(tiny_model), tmp_path, settings, 0, unwatched)
    expected = [row["loss"] for row in metrics_of(tmp_path)]
    assert logged(tmp_path, "train/loss") == pytest.approx(expected, abs=1e-6)
    AutoModelForCausalLM.from_pretrained(tmp_path)  # the folder is still a checkpoint


@pytest.mark.parametrize(
    ("algorithm", "curve"), [("rloo", "train/reward"), ("grpo", "train/reward"), ("ppo", "reward")]
)
def test_reinforce(tiny_model: Path, scorer: Path, tmp_path: Path, algorithm: str, curve: str) -> None:
    few = {"steps": 2, "prompts_per_step": 1, "samples_per_prompt": 2, "micro_batch_size": 2, "max_tokens": 4}
    settings = config.Reinforce.model_validate({**few, "algorithm": algorithm, "report_to": ["tensorboard"]})
    out = tmp_path / "out"
    reinforce.train(prompt_records(), str(tiny_model), str(scorer), out, settings, 0, unwatched)
    expected = [row["reward"] for row in metrics_of(out)]
    assert logged(out, curve) == pytest.approx(expected, abs=1e-5)


def test_one_that_is_not_installed_is_told_before_the_run(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.PACKAGES, "wandb", ("no_such_package",))
    with pytest.raises(SolonError, match="'wandb', which is not installed: run 'pip install wandb'"):
        trackers.check(["tensorboard", "wandb"])
    file = tmp_path / "config.yaml"
    file.write_text(f"models: {{assistant: {tiny_model}}}\nreinforce: {{report_to: [wandb]}}\n")
    assert "pip install wandb" in fails(capsys, "run", file, "--dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()
