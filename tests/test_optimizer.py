"""Optimisers whose state has 8 bits, in every kind of training."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from solon import config, models
from solon.config import Config
from solon.errors import SolonError
from solon.libraries import bitsandbytes
from solon.pipeline.workspace import Workspace
from solon.progress import Progress, Watcher
from solon.stages import reinforce, supervised
from solon.training import optimizer
from toy_training import QUESTIONS, assert_a_kill_changes_nothing, example, prompt_records

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is missing")


def sft(model: Path, out: Path, progress: Progress, **changes: Any) -> dict[str, float]:
    small: dict[str, Any] = {"batch_size": 2, "micro_batch_size": 2, "learning_rate": 1e-3, "save_steps": 1}
    examples = [example(question, "Yes.") for question in QUESTIONS[:6]]
    return supervised.train(examples, str(model), out, config.Supervised(**small, **changes), 0, progress)


def ppo(model: Path, out: Path, progress: Progress, **changes: Any) -> dict[str, float]:
    small: dict[str, Any] = {"algorithm": "ppo", "steps": 2, "prompts_per_step": 1, "samples_per_prompt": 2}
    small |= {"minibatches": 1, "max_tokens": 2, "learning_rate": 1e-3, "save_steps": 1}
    asked = config.Reinforce(**small, **changes)
    return reinforce.train(prompt_records(), str(model), str(model), out, asked, 0, progress)


@needs_bitsandbytes
@pytest.mark.parametrize(("train", "kill"), [(sft, 2), (ppo, 1)])
def test_resuming_is_exact(train: Any, kill: int, tiny_model: Path, tmp_path: Path) -> None:
    in_8_bits = partial(train, tiny_model, optimizer="adamw-8bit")
    assert_a_kill_changes_nothing(in_8_bits, tmp_path, kills=(kill,))


@needs_bitsandbytes
def test_moments_have_8_bits_but_those_of_embeddings(tiny_model: Path) -> None:
    model = models.load_model(str(tiny_model))
    made = optimizer.adamw("adamw-8bit", [{"params": list(model.parameters()), "lr": 1e-3}], model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    model(torch.arange(3, 9)[None], labels=torch.arange(3, 9)[None]).loss.backward()
    made.step()
    for name, weight in model.named_parameters():
        whole = "embed" in name or weight.numel() < 4096  # what bitsandbytes leaves as it is
        assert made.state[weight]["state1"].dtype == (torch.float32 if whole else torch.uint8), name
        # Adam's first step is the learning rate's, whatever the gradient.
        assert (weight - before[name]).abs().max().item() == pytest.approx(1e-3, rel=0.02)


def test_without_bitsandbytes_it_is_refused_before_a_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitsandbytes, "find_spec", lambda name: None)
    said = {"models": {"assistant": str(tiny_model)}, "reinforce": {"optimizer": "adamw-8bit"}}
    missing = r"needs bitsandbytes, which is not installed: run 'pip install solon\[4bit\]', or set it to"
    with pytest.raises(SolonError, match=rf"^optimizer adamw-8bit {missing} adamw$"):
        Workspace(Config.model_validate(said), tmp_path / "run", Watcher())
    said["reinforce"] = {"weights": "4bit", "lora": {}}
    with pytest.raises(SolonError, match=rf"^reinforce\.weights 4bit {missing} bfloat16$"):
        Workspace(Config.model_validate(said), tmp_path / "run", Watcher())


@pytest.mark.parametrize(
    ("name", "device", "instead"),
    [
        ("paged-adamw-8bit", "cpu", "adamw-8bit"),
        ("adamw-8bit", "mps", "adamw"),
        ("paged-adamw-8bit", "mps", "adamw"),
    ],
)
def test_what_the_device_cannot_is_refused(
    name: str, device: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitsandbytes, "find_spec", lambda name: True)
    monkeypatch.setattr(models, "best_device", lambda: device)
    with pytest.raises(
        SolonError, match=rf"^optimizer {name} needs a CUDA device, .* on {device}: set it to {instead}$"
    ):
        optimizer.check(name)
