"""What trainings hold: never logits of all tokens of a batch, and activations as is asked for."""

from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from transformers import modeling_utils

from largest_tensor import Largest
from solon import config, models
from solon.libraries import trl
from solon.stages import preference, reinforce, supervised
from toy_training import QUESTIONS, example, pair, prompt_records, unwatched

VOCABULARY, WIDTH = 512, 64  # the tiny model's

TWICE: Any = {"gradient_checkpointing": True}

# At least so many tokens of a batch have a next one that is learned from.
ANSWERED = 100


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl, "TOKENS_AT_ONCE", 8)
    monkeypatch.setattr(trl, "COLUMNS_AT_ONCE", 128)


def settings(**changes: Any) -> config.Reinforce:
    small = {
        "steps": 1,
        "prompts_per_step": 2,
        "samples_per_prompt": 8,
        "micro_batch_size": 16,
        "minibatches": 1,
        "max_tokens": 8,
        **TWICE,
    }
    return config.Reinforce(**{**small, **changes})


def sft(model: str, out: Path) -> None:
    examples = [example(question, "Yes. " * 6) for question in QUESTIONS]
    supervised.train(examples, model, out, config.Supervised(**TWICE), 0, unwatched)


def scorer(model: str, out: Path) -> None:
    pairs = [pair(question, "Yes. ", "No. ", 0.9) for question in QUESTIONS]
    preference.train(pairs, model, out, config.PreferenceModel(**TWICE), 0, unwatched)


def rl(model: str, out: Path, algorithm: str) -> None:
    asked = settings(algorithm=algorithm)
    reinforce.train(prompt_records(), model, model, out, asked, 0, unwatched)


def dpo(model: str, out: Path) -> None:
    pairs = [pair(question, "Yes. " * 6, "No. " * 6, 0.9) for question in QUESTIONS]
    asked = settings(algorithm="dpo", prompts_per_step=7, micro_batch_size=14, max_tokens=96)
    reinforce.train(pairs, model, None, out, asked, 0, unwatched)


TRAININGS = {
    "sft": sft,
    "pm": scorer,
    "dpo": dpo,
    **{name: partial(rl, algorithm=name) for name in ("rloo", "ppo")},
}


@pytest.fixture
def run_twice(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Gets each layer that is to run again in a backward pass."""
    layers: list[Any] = []
    usual = modeling_utils.checkpoint

    def noted(function: Any, *arguments: Any, **options: Any) -> Any:
        layers.append(function.args[0])
        return usual(function, *arguments, **options)

    monkeypatch.setattr(modeling_utils, "checkpoint", noted)
    return layers


@pytest.mark.parametrize("name", TRAININGS)
def test_no_training_makes_all_logits(
    name: str, tiny_model: Path, tmp_path: Path, run_twice: list[Any]
) -> None:
    with Largest(VOCABULARY) as seen:
        TRAININGS[name](str(tiny_model), tmp_path)
    assert len(set(run_twice)) == 2  # all layers of the tiny model
    assert VOCABULARY * WIDTH <= seen.numbers < ANSWERED * VOCABULARY


@pytest.mark.parametrize("whole", [False, True])
def test_a_models_own_head_is_what_trls_is_in_parts_too(whole: bool, tiny_model: Path) -> None:
    """For families whose logits TRL does not know how to make. As a whole it is last, and is seen to be."""
    model = models.load_model(str(tiny_model))
    tokens = torch.arange(3, 303)[None]
    labels = tokens.roll(-1, 1).masked_fill(tokens < 20, -100)
    trl.fuse_head(model, 0.7)
    found = []
    for forward in (model.forward, MethodType(trl.own_head(0.7, whole), model)):
        model.zero_grad()
        with Largest(VOCABULARY) as seen:
            output = forward(tokens, shift_labels=labels, fused_lm_head=True)
            (output.log_probs * torch.linspace(0, 1, 300)).sum().backward()
        found.append([output.log_probs, output.entropy, *(weight.grad for weight in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert whole == (seen.numbers >= 280 * VOCABULARY)


def test_a_head_that_trl_does_not_know_is_found_out(tiny_model: Path) -> None:
    model = models.load_model(str(tiny_model))
    usual = type(model).forward

    def doubled(self: Any, *arguments: Any, **options: Any) -> Any:
        output = usual(self, *arguments, **options)
        output.logits = output.logits * 2
        return output

    model.__class__ = type("Doubled", (type(model),), {"forward": doubled})
    trl.fuse_head(model, 1.0)
    tokens = torch.arange(3, 103)[None]
    expected = model(tokens).logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    with Largest(VOCABULARY) as seen:
        logprobs, _ = trl.fused_logprobs(
            model, {"input_ids": tokens[:, :-1], "shift_labels": tokens[:, 1:].contiguous()}
        )
    torch.testing.assert_close(logprobs, expected, atol=1e-4, rtol=1e-4)
    assert seen.numbers < 99 * VOCABULARY
