"""Quantised weights are unpacked, all that comes of them is whole, or the model is refused before a run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from solon import models
from solon.config import Config
from solon.errors import SolonError
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher

BLOCK = 32


def packed(model: Path, folder: Path, **method: object) -> Path:
    """The model's folder, its configuration saying that the weights are quantised."""
    shutil.copytree(model, folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"quantization_config": method}))
    return folder


def fp8(model: Path, folder: Path) -> dict[str, Tensor]:
    """The model in that folder in blocks of float8, as DeepSeek's are; returns what they stand for."""
    packed(model, folder, quant_method="fp8", activation_scheme="dynamic", weight_block_size=[BLOCK, BLOCK])
    torch.manual_seed(0)
    meant, written = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        written[name] = meant[name] = weight
        if "_proj" in name:
            scale = 0.001 + 0.001 * torch.rand(weight.shape[0] // BLOCK, weight.shape[1] // BLOCK)
            each = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
            written[name] = (weight / each).to(torch.float8_e4m3fn)
            written[f"{name}_scale_inv"] = scale
            meant[name] = written[name].float() * each
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    return meant


def test_weights_that_can_be_unpacked_are(tiny_model: Path, tmp_path: Path) -> None:
    meant = fp8(tiny_model, tmp_path / "fp8")
    models.check_policy(str(tmp_path / "fp8"))
    for model in (
        models.load_model(str(tmp_path / "fp8")),
        models.load_preference_model(str(tmp_path / "fp8")),
    ):
        found = dict(model.named_parameters())
        assert {weight.dtype for weight in found.values()} == {torch.float32}
        for name in meant.keys() & found.keys():
            torch.testing.assert_close(found[name], meant[name])
        model.save_pretrained(tmp_path / "saved")
        assert "quantization_config" not in json.loads((tmp_path / "saved/config.json").read_text())


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "one of next year"])
def test_others_are_refused_before_a_run(tiny_model: Path, tmp_path: Path, method: str) -> None:
    folder = packed(tiny_model, tmp_path / "packed", quant_method=method, bits=4)
    asked = Config.model_validate({"models": {"assistant": str(tiny_model), "policy": str(folder)}})
    with pytest.raises(SolonError, match=rf"packed' is quantised \({method}\), so .* as models\.policy$"):
        Workspace(asked, tmp_path / "run", Watcher())


def test_a_family_without_a_language_model_is_refused_before_a_run(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "encoder")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(said | {"model_type": "vit", "architectures": ["ViTModel"]})
    )
    with pytest.raises(
        SolonError, match=r"of a family \(vit\) that transformers has no causal language model"
    ):
        models.check_scorer(str(folder))
