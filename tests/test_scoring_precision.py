"""Scores in bfloat16: the logits of choices are not rounded to the model's own type."""

from pathlib import Path

import pytest
import torch
from torch import nn

from solon.config import EngineSettings
from solon.inference import choice_scores, open_engine
from solon.inference.choice_scores import logits_in_float32
from solon.inference.engine import Question
from solon.prompts.dialogue import user

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_those_of_the_exact_product(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_scores, "HEAD_ROWS", 64)  # two whole parts and a rest
    torch.manual_seed(0)
    head = nn.Linear(256, 150, bias=bias).bfloat16()
    states = 40 * torch.randn(9, 256).bfloat16()  # logits of some 20, where bfloat16 has steps of 0.125
    exact = states.double() @ head.weight.double().T + (head.bias.double() if bias else 0)
    with logits_in_float32(head):
        found = head(states)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-3)  # float32 sums of 256 products
    assert (head(states).double() - exact).abs().max() > 0.03  # what it is without, before and after


def test_two_orders_of_one_question_do_not_tie(tiny_model: Path) -> None:
    """Rounded logits differ by whole steps, so that differences of many questions coincide."""
    questions = [
        Question(str(number), [user(f"Which is better, (A) {number} or (B) {number + 1}?")], ("A", "B"))
        for number in range(40)
    ]
    settings = EngineSettings(dtype="bfloat16", device="cpu", batch_size=8)
    with open_engine(str(tiny_model), settings) as engine:
        gaps = [scores.logprobs[0] - scores.logprobs[1] for scores in engine.choice_logprobs(questions)]
    assert len({round(gap, 6) for gap in gaps}) == len(questions)
