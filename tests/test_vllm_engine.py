"""What only the vLLM engine does (make test-vllm); what all do is in test_engine_conformance.py."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

from solon.config import Config, EngineSettings, Reinforce
from solon.errors import SolonError
from solon.inference import open_engine
from solon.inference.engine import Engine, Question, Request
from solon.pipeline.workspace import Workspace
from solon.policy.samplers import open_sampler
from solon.policy.task import Task
from solon.progress import Watcher
from solon.prompts.dialogue import assistant, user
from solon.role_settings import Role
from thinking_models import thinking_model

SETTINGS = EngineSettings(kind="vllm", dtype="float32", batch_size=4, vllm={"enforce_eager": True})
THINKS = Role(thinking_tokens=9)
REQUESTS = [Request(str(n), [user(f"Tell me about {n}.")], max_tokens=12, temperature=0) for n in range(6)]
QUESTION = Question("q", [user("Which?")], ("one", "another one, or two", "it"))


def test_vllm_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    ours = ("inference.vllm_engine", "inference.vllm_workers", "policy.vllm_sampler", "libraries.vllm")
    for name in (f"solon.{module}" for module in ours):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    for name in [name for name in sys.modules if name.startswith("vllm")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SolonError, match=r"pip install solon\[vllm\]"):
        open_engine(str(tiny_model), SETTINGS)
    settings = Reinforce()
    task = Task([], str(tiny_model), None, tiny_model, settings, 0, lambda *_: None, engine=SETTINGS)
    with pytest.raises(SolonError, match=r"pip install solon\[vllm\]"):
        open_sampler(task, None)


class Hidden:
    """Finds no vllm, though it may be there."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name.startswith("vllm"):
            raise ModuleNotFoundError("No module named 'vllm'", name="vllm")


@pytest.fixture(scope="module")
def other_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another checkpoint of the tiny model."""
    folder = tmp_path_factory.mktemp("other")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    pytest.importorskip("vllm")
    with open_engine(str(tiny_model), SETTINGS) as engine:
        yield engine


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the tiny model, of a rank that vLLM's own adapters cannot have."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    lora = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", init_lora_weights=False))
    folder = tmp_path_factory.mktemp("adapters")
    lora.save_pretrained(folder)
    return folder


def said(engine: Engine) -> tuple[dict[str, str], tuple[float, ...]]:
    [scores] = engine.choice_logprobs([QUESTION])
    return {each.id: each.text for each in engine.generate(REQUESTS)}, scores.logprobs


def test_another_checkpoint_takes_the_place_of_the_first(
    engine: Engine, tiny_model: Path, other_model: Path
) -> None:
    plain = EngineSettings(dtype="float32", device="cpu", batch_size=4)
    first = said(engine)
    for name in (other_model, tiny_model):
        assert engine.load(str(name))
        assert engine.model_name == str(name)
        texts, scores = said(engine)
        with open_engine(str(name), plain) as expected:
            wanted_texts, wanted_scores = said(expected)
        assert texts == wanted_texts
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-3)
    assert said(engine)[0] == first[0]


def test_only_checkpoints_of_the_same_kind_do(engine: Engine, tmp_path: Path) -> None:
    assert not engine.load("smollm2")
    assert not engine.load("openai:tiny")
    engine.submit(REQUESTS[0])
    with pytest.raises(ValueError, match="in flight"):
        engine.load(engine.model_name)
    assert [each.id for each in engine.poll()] == ["0"]


def test_scoring_may_be_left_early_and_amid_generation(engine: Engine) -> None:
    questions = [Question(str(n), [user(f"{n}?")], ("yes", "no, never")) for n in range(9)]
    expected = {each.id: each.logprobs for each in engine.choice_logprobs(questions)}
    for request in REQUESTS:
        engine.submit(request)
    completions = engine.poll()
    scoring = engine.choice_logprobs(questions)
    first = next(scoring)
    scoring.close()
    for scores in (first, *engine.choice_logprobs(questions)):
        np.testing.assert_allclose(scores.logprobs, expected[scores.id], atol=1e-3)
    while found := engine.poll():
        completions += found
    assert sorted(each.id for each in completions) == [request.id for request in REQUESTS]


def test_feedback_shares_the_dialogue_under_its_principles(engine: Engine) -> None:
    """One long dialogue under many short principles, as in the layout with the principle last."""
    engine.usage.tokens_computed = engine.usage.tokens_naive = 0
    dialogue = [user("May I take this bicycle? " * 20), assistant("Ask its owner. " * 10)]
    questions = [
        Question(str(n), [*dialogue, user(f"Judge it by principle {n}.")], ("A", "B")) for n in range(16)
    ]
    list(engine.choice_logprobs(questions))
    assert engine.usage.tokens_computed < 0.25 * engine.usage.tokens_naive


def test_many_choices(engine: Engine) -> None:
    """vLLM takes 128 tokens a request."""
    choices = tuple(chr(code) for code in range(33, 127)) * 2
    [scores] = engine.choice_logprobs([Question("q", [user("Which?")], choices)])
    assert len(scores.logprobs) == 188
    np.testing.assert_allclose(scores.logprobs[:94], scores.logprobs[94:], atol=1e-4)


def test_the_workspace_exchanges_weights_in_place(
    tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("vllm")
    config = Config(models={"assistant": str(tiny_model), "feedback": str(other_model)}, engine=SETTINGS)
    work = Workspace(config, tmp_path, Watcher())
    first = work.engine("policy", str(tiny_model))
    list(first.generate(REQUESTS))
    second = work.engine("policy", str(other_model))
    assert second is first
    assert second.model_name == str(other_model)
    work.close_engine()
    assert work.take_usage()["requests"] == len(REQUESTS)


def test_what_vllm_cannot_do_is_said(engine: Engine, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SolonError, match=r"engine\.device is 'mps'"):
        open_engine(str(tiny_model), SETTINGS.model_copy(update={"device": "mps"}))
    GPT2Config(architectures=["Nonsense"], model_type="gpt2").save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    with pytest.raises(SolonError, match=r"vLLM cannot run model .* transformers"):
        open_engine(str(tmp_path), SETTINGS)


@pytest.mark.parametrize("kind", ["deepseek", "qwen", "channels"])
def test_thoughts_are_parted_and_closed_as_elsewhere(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("vllm")
    folder, made = str(thinking_model(tiny_model, tmp_path, kind)), []
    for settings in (SETTINGS, EngineSettings(dtype="float32", device="cpu", batch_size=4)):
        with open_engine(folder, settings, role=THINKS) as engine:
            made.append({each.id: (each.thinking, each.text) for each in engine.generate(REQUESTS)})
            made[-1]["cut"] = ("", str(engine.usage.thoughts_cut))
    assert made[0] == made[1]


def test_adapters_are_a_model_like_any_other(engine: Engine, adapters: Path, tiny_model: Path) -> None:
    """Opened by their folder, and taken into an engine that is open."""
    with open_engine(str(adapters), SETTINGS.model_copy(update={"kind": "transformers"})) as other:
        expected = said(other)[0]
    assert expected != said(engine)[0]
    with open_engine(str(adapters), SETTINGS) as opened:
        assert said(opened)[0] == expected
    assert engine.load(str(adapters))  # type: ignore[attr-defined]
    assert said(engine)[0] == expected
    assert engine.load(str(tiny_model))  # type: ignore[attr-defined]
