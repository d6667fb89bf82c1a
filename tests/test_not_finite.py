"""Numbers that are not finite never become a text, a label, a score or a reward."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from solon import models
from solon.config import EngineSettings
from solon.errors import NotFinite
from solon.inference.engine import Engine, Question, Request
from solon.inference.plain_engine import PlainEngine
from solon.inference.sampling import sample
from solon.inference.transformers_engine import TransformersEngine
from solon.prompts.dialogue import assistant, user
from solon.training.preference_scores import score

SETTINGS = EngineSettings(device="cpu", dtype="float32", batch_size=2)
ASKED = [user("Tea?")]


def texts(temperature: float, top_p: float = 1.0) -> Callable[[Engine], object]:
    request = Request("1", ASKED, max_tokens=3, temperature=temperature, top_p=top_p)
    return lambda engine: list(engine.generate([request]))


WAYS: dict[str, Callable[[Engine], object]] = {
    "greedy": texts(0),
    "sampled": texts(1),
    "nucleus": texts(1, 0.9),
    "letters": lambda engine: list(engine.scores([Question("1", ASKED, ("A", "B"))])),
    "log-likelihood": lambda engine: engine.loglikelihood([[*ASKED, assistant("With pleasure.")]]),
}


@pytest.fixture(scope="module")
def broken(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose numbers are too large at one token, so that no trial at the start need meet it."""
    folder = tmp_path_factory.mktemp("broken")
    tokenizer, model = (
        AutoTokenizer.from_pretrained(tiny_model),
        AutoModelForCausalLM.from_pretrained(tiny_model),
    )
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.get_input_embeddings().weight.data[tokenizer.encode("T")[0]] = math.inf
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [TransformersEngine, PlainEngine])
def test_engines_name_the_model_and_what_to_try(broken: Path, kind: type[Engine], way: str) -> None:
    with (
        pytest.raises(NotFinite, match=r"broken.*' are not finite numbers.*engine\.dtype to float32"),
        kind(str(broken), SETTINGS) as engine,
    ):
        WAYS[way](engine)


def test_a_preference_model_gives_no_such_score(tiny_model: Path, tmp_path: Path) -> None:
    model = models.load_preference_model(str(tiny_model))
    model.score.weight.data[0, 0] = math.nan
    model.save_pretrained(tmp_path / "judge")
    tokenizer = models.load_tokenizer(str(tiny_model))
    loaded = models.load_preference_model(str(tmp_path / "judge"))
    with pytest.raises(NotFinite, match="judge' gives scores that are not finite"):
        score(loaded, tokenizer, [[*ASKED, assistant("Yes.")]], 1)


def test_masked_tokens_are_no_fault(tiny_model: Path) -> None:
    """Some models give minus infinity to tokens that stand for nothing."""
    logits = torch.tensor([[0.0, -math.inf, 1.0]])
    for temperature in (0.0, 1.0):
        drawn, _ = sample(logits, torch.tensor([temperature]), torch.ones(1), torch.tensor([0.9]))
        assert drawn.tolist() == [2]
