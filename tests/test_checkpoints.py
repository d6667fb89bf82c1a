"""What a checkpoint says to other programs: how the model is sampled, and in older ones' names."""

import json
import os
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig

import older_readers
from solon import models
from solon.training import checkpoints
from training_families import build

# An interpreter with an older transformers, such as 4.57.
OLDER = "SOLON_TEST_OLDER_READER"


def saved(model: Path, folder: Path) -> Path:
    folder.mkdir()
    checkpoints.save(models.load_model(str(model)), models.load_tokenizer(str(model)), folder)
    return folder


def with_positions(model: Path, folder: Path, **rope: object) -> Path:
    shutil.copytree(model, folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"rope_parameters": rope}))
    return folder


def test_a_models_own_way_of_sampling_goes_no_further(tiny_model: Path, tmp_path: Path) -> None:
    """In RL and on servers a checkpoint is sampled as it was trained: from whole distributions."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    own = GenerationConfig(
        do_sample=True, temperature=0.6, top_k=20, min_p=0.1, repetition_penalty=1.3, eos_token_id=2
    )
    own.save_pretrained(folder)
    said = GenerationConfig.from_pretrained(saved(folder, tmp_path / "saved")).to_diff_dict()
    assert said.keys() <= {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version"}
    assert said["eos_token_id"] == [2]


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 500000.0},
        {"rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0},
        {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_positions_are_said_in_older_names_too(
    tiny_model: Path, tmp_path: Path, rope: dict[str, object]
) -> None:
    model = with_positions(tiny_model, tmp_path / "model", **rope)
    folder = saved(model, tmp_path / "saved")
    said = json.loads((folder / "config.json").read_text())
    assert said["rope_theta"] == rope["rope_theta"]
    assert (said.get("rope_scaling") or {}).items() <= rope.items()
    assert ("rope_scaling" in said) == (rope["rope_type"] != "default")
    assert positions(folder) == positions(model)
    again = saved(folder, tmp_path / "again")  # a checkpoint of a checkpoint
    assert (again / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def positions(folder: Path) -> object:
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder)
    return config.rope_parameters


def test_what_a_family_would_read_otherwise_is_not_said(tiny_model: Path, tmp_path: Path) -> None:
    """LFM 3 has positions for each kind of layer, and takes "rope_scaling" for all of them."""
    assert not build("lfm3", tiny_model, tmp_path / "model")
    folder = saved(tmp_path / "model", tmp_path / "saved")
    assert positions(folder) == positions(tmp_path / "model")
    assert "rope_scaling" not in json.loads((folder / "config.json").read_text())


def test_the_tokenizer_is_named_as_older_readers_know_it(tiny_model: Path, tmp_path: Path) -> None:
    folder = saved(tiny_model, tmp_path / "saved")
    said = json.loads((folder / "tokenizer_config.json").read_text())
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"
    before, after = AutoTokenizer.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(folder)
    assert said["chat_template"] == after.chat_template == before.chat_template
    text = "<|im_start|>Tea?<|im_end|>"
    assert after(text)["input_ids"] == before(text)["input_ids"]
    assert after.all_special_tokens == before.all_special_tokens


@pytest.mark.skipif(OLDER not in os.environ, reason=f"{OLDER} names no interpreter")
@pytest.mark.parametrize("family", ["llama", "mixtral", "gemma3_text", "gpt_neox", "stablelm", "qwen2"])
def test_an_older_version_reads_it_right(family: str, tiny_model: Path, tmp_path: Path) -> None:
    """python tests/older_readers.py tries all families."""
    assert not build(family, tiny_model, tmp_path / "model")
    older_readers.unusual_positions(tmp_path / "model" / "config.json")
    folder = saved(tmp_path / "model", tmp_path / "saved")
    assert older_readers.compare(os.environ[OLDER], folder) == "right"
