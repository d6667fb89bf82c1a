"""Packed layers give what the plain ones give."""

from pathlib import Path

import pytest
import torch
from torch import nn

from solon.config import EngineSettings
from solon.inference import packed_linear
from solon.inference.engine import Question
from solon.inference.transformers_engine import TransformersEngine
from solon.libraries.torch import can_pack
from solon.models import load_model
from solon.prompts.dialogue import user

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02}


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    found: torch.dtype = request.param
    if not can_pack(found):
        pytest.skip(f"PyTorch packs no weights in {found} on this machine")
    return found


def linear(bias: bool, dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(96, 160, bias=bias, dtype=dtype)


def assert_alike(packed: nn.Module, plain: nn.Linear, shape: tuple[int, ...]) -> None:
    dtype = plain.weight.dtype
    states = torch.randn(*shape, 96, dtype=dtype)
    with torch.inference_mode():
        torch.testing.assert_close(
            packed(states), plain(states), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype] / 2
        )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 7), (128, 1)])
def test_products_are_the_plain_layers(bias: bool, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    plain = linear(bias, dtype)
    assert_alike(packed_linear.PackedLinear(plain), plain, shape)


def test_a_weight_is_replaced(dtype: torch.dtype) -> None:
    plain, other = linear(False, dtype), nn.Linear(96, 160, bias=False)
    packed = packed_linear.PackedLinear(plain)
    packed.load(torch.empty(0))
    packed.load(other.weight)
    assert_alike(packed, other.to(dtype), (4,))


def test_all_but_the_head_is_packed_and_scores_the_same(
    tiny_model: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_linear, "LEAST_WEIGHTS", 0)  # it has only small ones
    name = str(dtype).removeprefix("torch.")
    settings = EngineSettings.model_validate({"dtype": name, "device": "cpu"})
    engine = TransformersEngine(str(tiny_model), settings)
    head = engine._model.head
    kinds = {
        type(each)
        for each in engine._model.network.modules()
        if "Linear" in type(each).__name__ and each is not head
    }
    assert kinds == {packed_linear.PackedLinear} and type(head) is nn.Linear
    question = Question("q", [user("What is the weather like?")], ("A", "B", "C"))
    (scores,) = engine.scores([question])
    text, prompt = engine._dialogue.prompt(question.messages, "")
    plain = load_model(str(tiny_model), torch.float32)
    with torch.inference_mode():
        expected = plain(torch.from_numpy(prompt)[None]).logits[0, -1].log_softmax(-1)
    letters = [engine._dialogue.continuation(text, prompt, each, False) for each in question.choices]
    assert scores.logprobs == pytest.approx(
        [float(expected[int(each[0])]) for each in letters], abs=TOLERANCE[dtype]
    )


def test_small_layers_stay_as_they_are(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    packed_linear.pack(model, model.get_output_embeddings())
    assert not any(isinstance(each, packed_linear.PackedLinear) for each in model.modules())
