"""Packed layers give what the plain ones give."""

from pathlib import Path

import pytest
import torch
from torch import nn

from solon.config import EngineSettings
from solon.inference import packed_linear
from solon.inference.engine import Question
from solon.inference.transformers_engine import TransformersEngine
from solon.models import load_model
from solon.prompts.dialogue import user

pytestmark = pytest.mark.skipif(
    not packed_linear.can_pack(), reason="this processor has no bfloat16 products"
)


def linear(bias: bool) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(96, 160, bias=bias, dtype=torch.bfloat16)


def assert_alike(packed: nn.Module, plain: nn.Module, shape: tuple[int, ...]) -> None:
    states = torch.randn(*shape, 96, dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(packed(states), plain(states), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 7), (128, 1)])
def test_products_are_the_plain_layers(bias: bool, shape: tuple[int, ...]) -> None:
    plain = linear(bias)
    assert_alike(packed_linear.PackedLinear(plain), plain, shape)


def test_a_weight_is_replaced() -> None:
    plain, other = linear(bias=False), nn.Linear(96, 160, bias=False)
    packed = packed_linear.PackedLinear(plain)
    packed.load(torch.empty(0))
    packed.load(other.weight)
    assert_alike(packed, other.to(torch.bfloat16), (4,))


def test_all_but_the_head_is_packed_and_scores_the_same(tiny_model: Path) -> None:
    engine = TransformersEngine(str(tiny_model), EngineSettings(dtype="bfloat16", device="cpu"))
    head = engine._model.get_output_embeddings()
    kinds = {
        type(each) for each in engine._model.modules() if "Linear" in type(each).__name__ and each is not head
    }
    assert kinds == {packed_linear.PackedLinear} and type(head) is nn.Linear
    question = Question("q", [user("What is the weather like?")], ("A", "B", "C"))
    (scores,) = engine.scores([question])
    text, prompt = engine._dialogue.prompt(question.messages, "")
    plain = load_model(str(tiny_model), torch.float32)
    with torch.inference_mode():
        expected = plain(torch.from_numpy(prompt)[None]).logits[0, -1].log_softmax(-1)
    letters = [engine._dialogue.continuation(text, prompt, each, False) for each in question.choices]
    assert scores.logprobs == pytest.approx([float(expected[int(each[0])]) for each in letters], abs=0.02)
