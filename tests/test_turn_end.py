"""The end of a turn is what the chat template writes: engines stop at it, trainings teach it."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from solon import config, models
from solon.config import EngineSettings
from solon.inference import open_engine
from solon.inference.engine import Request
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE, assistant, user
from solon.prompts.turn_end import turn_end
from solon.stages import supervised
from toy_training import example, unwatched

ENDS = ("<|end|>", "<|user|>", "<|assistant|>")
# By what is special in them: the template, with X and Y for the turns' ends, and what they end at.
TEMPLATES: dict[str, tuple[str, str, set[str], list[str]]] = {
    "chatml": ("<|im_start|>R\nC<|im_end|>\n", "<|im_end|>", {"<|im_end|>"}, []),
    "no white space": ("<|R|>C<|end|>", "<|end|>", {"<|end|>"}, []),
    "no end of its own": ("<|R|>\nC", "<|endoftext|>", {"<|user|>", "<|endoftext|>"}, []),
    "plain text": ("\n### R:\nC", "<|endoftext|>", {"<|endoftext|>"}, ["### user:"]),
}


def template_of(turn: str) -> str:
    body = turn.replace("R", "{{ message['role'] }}").replace("C", "{{ message['content'] }}")
    header = turn.partition("C")[0].replace("R", "assistant")
    opening = f"{{% if add_generation_prompt %}}{header}{{% endif %}}"
    return f"{{% for message in messages %}}{body}{{% endfor %}}{opening}"


def with_template(tiny_model: Path, folder: Path, template: str) -> str:
    """The tiny model as base models come: its end of text is not what its template ends turns with."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": list(ENDS)})
    tokenizer.chat_template, tokenizer.eos_token = template, "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.resize_token_embeddings(len(tokenizer))
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_ends_a_turn(tiny_model: Path, tmp_path: Path, name: str) -> None:
    turn, end, tokens, strings = TEMPLATES[name]
    folder = with_template(tiny_model, tmp_path, template_of(turn))
    tokenizer = models.load_tokenizer(folder)
    assert tokenizer.eos_token == end
    with open_engine(folder, EngineSettings(dtype="float32", device="cpu")) as engine:
        dialogue: Any = engine._dialogue  # type: ignore[attr-defined]
    assert {tokenizer.convert_ids_to_tokens(token) for token in dialogue.ends} == tokens | {"<|endoftext|>"}
    assert list(dialogue.stops(())) == strings
    # What is trained on ends in a token that ends a turn, however the template came to us.
    text = tokenizer.apply_chat_template([user("Tea?"), assistant("Yes.")], tokenize=False)
    assert text.rstrip().endswith(end)
    asked = tokenizer.apply_chat_template([user("Tea?")], add_generation_prompt=True, tokenize=False)
    assert not asked.rstrip().endswith(end)
    assert models.load_tokenizer(folder).chat_template == tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "again")  # a checkpoint is not settled twice
    (tmp_path / "again" / "config.json").write_text((tmp_path / "config.json").read_text())
    assert models.load_tokenizer(str(tmp_path / "again")).chat_template == tokenizer.chat_template


def test_a_template_that_writes_the_end_of_text_elsewhere_keeps_it(tiny_model: Path, tmp_path: Path) -> None:
    template = "{{ eos_token }}" + template_of(TEMPLATES["chatml"][0])
    tokenizer = models.load_tokenizer(with_template(tiny_model, tmp_path, template))
    assert tokenizer.eos_token == "<|endoftext|>"
    assert turn_end(tokenizer).tokens == ["<|im_end|>"]


def test_the_papers_format_ends_as_it_did(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = models.load_tokenizer(with_template(tiny_model, tmp_path, HUMAN_ASSISTANT_TEMPLATE))
    assert tokenizer.chat_template == HUMAN_ASSISTANT_TEMPLATE
    assert tokenizer.eos_token == "<|endoftext|>"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_model_that_was_trained_comes_to_its_end(tiny_model: Path, tmp_path: Path, name: str) -> None:
    model = with_template(tiny_model, tmp_path / "base", template_of(TEMPLATES[name][0]))
    asked = config.Supervised(epochs=40, batch_size=1, micro_batch_size=1, learning_rate=3e-3)
    out = tmp_path / "out"
    supervised.train([example("Who are you?", "I am tea.")], model, out, asked, 0, unwatched)
    with open_engine(str(out), EngineSettings(dtype="float32", device="cpu")) as engine:
        request = Request("0", [user("Who are you?")], max_tokens=40, temperature=0)
        made = next(engine.generate([request]))
    assert (made.text, made.finish) == ("I am tea.", "stop")
    # And for those who load it without Solon.
    tokenizer, trained = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    inputs = tokenizer.apply_chat_template(
        [user("Who are you?")], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    tokens = trained.generate(**inputs, max_new_tokens=40)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(tokens, skip_special_tokens=True) == "I am tea."
    assert len(tokens) < 40


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.6, "do_sample": False}, {"top_p": 0.9, "min_p": 0.1, "do_sample": False}]
)
def test_ways_to_generate_that_do_not_go_together_lose_no_training(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.save_pretrained(tmp_path / "odd")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "odd")
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    (tmp_path / "odd" / "generation_config.json").write_text(model.generation_config.to_json_string())
    asked = config.Supervised(epochs=2, batch_size=1, micro_batch_size=1, save_steps=1)
    out = tmp_path / "out"
    supervised.train([example("Who?", "I am.")], str(tmp_path / "odd"), out, asked, 0, unwatched)
    saved = AutoModelForCausalLM.from_pretrained(out).generation_config
    assert models.load_tokenizer(str(out)).eos_token_id in saved.eos_token_id
