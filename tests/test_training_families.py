"""Families whose attention, experts, states or heads are not the plain kind are trained as others are.

A sample; SOLON_TEST_FAMILIES=1 tries every family in every training, which takes half an hour.
"""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from solon import config, models, scoring_heads
from solon.stages import preference
from solon.training import setup
from toy_training import QUESTIONS, pair, unwatched
from training_families import FAMILIES, TRAININGS, build, measure

pytestmark = pytest.mark.numeric

WHOLE = "SOLON_TEST_FAMILIES" in os.environ
# "+" is with adapters.
SAMPLE = {
    "mixtral": ["sft+", "rloo", "ppo+"],  # experts in one stack, whose router has a loss of its own
    "llama4_text": ["sft", "pm", "grpo+"],  # chunks; its trunk is not where its class says
    "falcon_mamba": ["pm", "rloo+"],  # a state; its trunk gives no attention
    "deepseek_v4": ["sft+", "ppo"],  # layers that are linear in name alone; padding changes what it reads
    "gpt_bigcode": ["sft", "pm+"],  # dropout by function; a classifier that is not the general one
}
ASKED = {name: [f"{kind}{with_}" for kind in TRAININGS for with_ in ("", "+")] for name in FAMILIES}
TRIED = [(family, training) for family, each in (ASKED if WHOLE else SAMPLE).items() for training in each]


@pytest.fixture(scope="session")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorer")
    pairs = [pair(question, "Yes.", "No", 0.9) for question in QUESTIONS]
    settings = config.PreferenceModel(batch_size=8, micro_batch_size=8)
    preference.train(pairs, str(tiny_model), folder, settings, 0, unwatched)
    return folder


@pytest.fixture(scope="session")
def built(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"": tmp_path_factory.mktemp("families"), "tokenizer": tiny_model}


@pytest.mark.parametrize(("family", "training"), TRIED)
def test_it_is_trained(
    family: str, training: str, built: dict[str, Path], scorer: Path, tmp_path: Path
) -> None:
    """See ``training_families`` for what is right of it."""
    if family not in built:
        why = build(family, built["tokenizer"], built[""] / family)
        if why and WHOLE:
            pytest.skip(f"transformers cannot run it itself: {why}")
        assert not why, why
        built[family] = built[""] / family
    kind, adapters = training.removesuffix("+"), training.endswith("+")
    status, note = measure(kind, adapters, built[family], scorer, tmp_path / "out")
    assert status == "right", note


def test_a_head_made_here_is_read_as_transformers_own(tiny_model: Path, tmp_path: Path) -> None:
    """Of a family that has a class: the same weights, by the same names, give the same scores."""
    settings = models.load_config(str(tiny_model))
    own, made = scoring_heads.classifier(settings), scoring_heads.made(settings)
    assert made is not own and made.__name__ == own.__name__
    settings.num_labels = 1
    scorer = made.from_pretrained(tiny_model, config=settings).eval()
    scorer.save_pretrained(tmp_path)
    tokens = torch.tensor([[5, 6, 7, 8, 0, 0], [5, 6, 7, 8, 9, 10]])
    again = own.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(scorer(tokens).logits, again(tokens).logits)


def test_adapters_go_on_linear_layers_alone(built: dict[str, Path], tmp_path: Path) -> None:
    """Not on stacks of experts, which PEFT would give them in the place of a shared expert's layers."""
    assert not build("qwen2_moe", built["tokenizer"], tmp_path)
    model = models.load_model(str(tmp_path))
    names = setup.lora_config(config.Lora(rank=2), model, "CAUSAL_LM").target_modules
    assert {name.rpartition(".")[2] for name in names} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "shared_expert_gate"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in names)
