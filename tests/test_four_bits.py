"""Weights in 4 bits compute what the weights do that they stand for: in models, adapters and engines."""

import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from solon import config, models
from solon.errors import SolonError
from solon.inference import open_engine, precision
from solon.inference.engine import Question, Request
from solon.libraries import bitsandbytes
from solon.prompts.dialogue import user
from solon.stages import supervised
from solon.training import setup
from toy_training import QUESTIONS, example, metrics_of, unwatched

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is missing")

TOKENS = torch.arange(5, 45).view(2, 20)
SIZE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}


def stood_for(packed: Any, whole: Any) -> Any:
    """The ``whole`` model, of the same family, with the weights that the packed one multiplies with."""
    for name, weight in packed.named_parameters():
        place, _, kind = name.rpartition(".")
        layer, meant = packed.get_submodule(place), weight
        if kind == "weight" and bitsandbytes.in_four_bits(layer):
            meant = bitsandbytes.whole_weight(layer)
            if not isinstance(whole.get_submodule(place), torch.nn.Linear):  # GPT-2's lie the other way round
                meant = meant.T
        whole.get_parameter(name).data = meant.detach().clone()
    return whole


@needs_bitsandbytes
@pytest.mark.parametrize("load", [models.load_model, models.load_preference_model])
def test_it_computes_what_its_own_weights_do(load: Any, tiny_model: Path) -> None:
    """In evaluation and in training, with the gradients of adapters."""
    packed = load(str(tiny_model), in_4_bits=True)
    whole = stood_for(packed, load(str(tiny_model)))
    assert sum(map(bitsandbytes.in_four_bits, packed.modules())) == 14
    found = []
    for base in (packed, whole):
        torch.manual_seed(0)
        lora = setup.lora_config(
            config.Lora(rank=4), base, "CAUSAL_LM" if load == models.load_model else "SEQ_CLS"
        )
        model = get_peft_model(base, lora).eval()
        with torch.no_grad():
            found.append([model(input_ids=TOKENS).logits])
        logits = model.train()(input_ids=TOKENS).logits
        logits.square().sum().backward()
        found[-1] += [logits, *(weight.grad for weight in model.parameters() if weight.grad is not None)]
    assert len(found[0]) >= 2 + 2 * 14
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@needs_bitsandbytes
def test_layers_that_are_read_otherwise_stay_whole(tmp_path: Path) -> None:
    """Mamba's code reads weights of layers that it does not call."""
    for family, options in {"gpt2": {"n_head": 2}, "mamba": {"state_size": 8}}.items():
        folder = tmp_path / family
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZE, **options)).save_pretrained(
            folder
        )
        packed = models.load_model(str(folder), in_4_bits=True)
        assert any(map(bitsandbytes.in_four_bits, packed.modules()))
        whole = stood_for(packed, models.load_model(str(folder)))
        torch.testing.assert_close(packed(TOKENS).logits, whole(TOKENS).logits, atol=1e-3, rtol=1e-3)


@needs_bitsandbytes
def test_an_engine_answers_as_its_own_weights_do(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_type", lambda: torch.float32)
    packed = models.load_model(str(tiny_model), in_4_bits=True)
    stood_for(packed, models.load_model(str(tiny_model))).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    found = []
    for kind in ("transformers", "generate"):
        for model, dtype in ((str(tiny_model), "4bit"), (str(tmp_path), "float32")):
            asked = config.EngineSettings(kind=kind, dtype=dtype, device="cpu")
            engine = open_engine(model, asked)
            [text] = engine.generate([Request("0", [user("Who?")], max_tokens=8, temperature=0.0)])
            [scores] = engine.choice_logprobs([Question("0", [user("Who?")], (" A", " B"))])
            found.append((text.text, list(scores.logprobs)))
    assert len({text for text, _ in found}) == 1
    for _, scores in found[1:]:
        assert scores == pytest.approx(found[0][1], abs=1e-3)


@needs_bitsandbytes
def test_adapters_on_it_keep_their_precision(tiny_model: Path, tmp_path: Path) -> None:
    """TRL would round them to bfloat16."""
    asked = config.Supervised(lora=config.Lora(rank=2), weights="4bit", batch_size=4, micro_batch_size=4)
    supervised.train(
        [example(question, "Yes.") for question in QUESTIONS], str(tiny_model), tmp_path, asked, 0, unwatched
    )
    assert metrics_of(tmp_path)[-1]["gradient_norm"] > 0
    for name, weight in load_file(tmp_path / "adapter_model.safetensors").items():
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, weight.bfloat16().float()), name


@needs_bitsandbytes
def test_what_is_packed_already_is_taken_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    packed = models.load_model(str(tiny_model), in_4_bits=True)
    packed.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    again = models.load_model(str(tmp_path), in_4_bits=True)
    torch.testing.assert_close(again(TOKENS).logits, packed(TOKENS).logits)


@needs_bitsandbytes
def test_what_cannot_be_packed_is_said(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "quantised")
    said = json.loads((folder / "config.json").read_text()) | {
        "quantization_config": {"quant_method": "gptq", "bits": 4}
    }
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(
        SolonError, match=r"quantised' is quantised \(gptq\), so it cannot be held in 4 bits: name"
    ):
        models.load_model(str(folder), in_4_bits=True)
    options: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
    for family in ("falcon", "mixtral"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZE, **options))
        model.save_pretrained(tmp_path / family)
    with pytest.raises(
        SolonError, match=r"falcon' has no layers that can be held in 4 bits: ask for bfloat16"
    ):
        models.load_model(str(tmp_path / "falcon"), in_4_bits=True)
    with caplog.at_level(logging.WARNING, "solon"):
        models.load_model(str(tmp_path / "mixtral"), in_4_bits=True)
    assert "its experts, which are held together, are not packed in 4 bits" in caplog.text


def test_without_bitsandbytes_it_is_said(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitsandbytes, "find_spec", lambda name: None)
    with pytest.raises(
        SolonError,
        match=r"^model '.*' in 4 bits needs bitsandbytes, .* run 'pip install solon\[4bit\]', or ask for",
    ):
        models.load_model(str(tiny_model), in_4_bits=True)
