"""Names become models: the embedded one, folders, GGUF files; anything else is one clear error."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

import gguf_files
from solon import models
from solon.errors import SolonError
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE, assistant, user


def test_the_embedded_model_is_dequantized_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLON_CACHE", str(tmp_path))
    folder = Path(models.resolve("smollm2"))
    assert folder.parent == tmp_path
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert models.resolve("smollm2") == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]  # nothing half made is left
    model = models.load_model(str(folder))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    # A .gguf file by its path is the same model, from the same cache.
    assert models.resolve(str(models.embedded_file("smollm2"))) == str(folder)
    assert len(models.weights_hash("smollm2")) == 64
    assert models.weights_hash("org/name") == ""


@pytest.mark.parametrize("name", ["smollm", "/no/such/folder", "missing.gguf", "", "a/b/c"])
def test_an_unknown_name_is_one_clear_error(name: str) -> None:
    with pytest.raises(SolonError, match=r"is not known: give one of 'smollm2', a transformers folder"):
        models.load_model(name)


def test_a_folder_without_weights_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SolonError, match="could not be loaded from"):
        models.load_model(str(folder))


@pytest.mark.parametrize(
    ("without", "fields", "said"),
    [
        (
            ["blk.1.ffn_up.weight"],
            {},
            r"lacks 1 of the model's weights, such as model\.layers\.1.*download it",
        ),
        (["token_embd.weight"], {}, r"lacks \d+ of the model's weights"),
        (
            ["blk.1.ffn_up.weight", "output_norm.weight"],
            {"split_count": 3, "split_no": 0},
            "one of 3 parts; join",
        ),
    ],
)
def test_a_gguf_file_without_some_of_its_tensors_is_never_filled_in(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without: list[str],
    fields: dict[str, int],
    said: str,
) -> None:
    monkeypatch.setenv("SOLON_CACHE", str(tmp_path / "cache"))
    path = str(gguf_files.write(tmp_path / "model.gguf", tiny_model, without, **fields))
    for _ in range(2):  # nor is it there the second time
        with pytest.raises(SolonError, match=said):
            models.load_model(path)
    assert models.load_model(str(gguf_files.write(tmp_path / "whole.gguf", tiny_model))).num_parameters()


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLON_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(SolonError, match="could not be read as a GGUF model"):
        models.load_model(str(path))
    assert list((tmp_path / "cache").iterdir()) == []


def test_base_models_get_the_papers_format(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    assert AutoTokenizer.from_pretrained(folder).chat_template is None
    tokenizer = models.load_tokenizer(str(folder))
    assert tokenizer.chat_template == HUMAN_ASSISTANT_TEMPLATE
    dialogue = [user("Hi"), assistant("Hello"), user("Bye")]
    text = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, tokenize=False)
    start, end = tokenizer.bos_token, tokenizer.eos_token
    assert text == f"{start}\n\nHuman: Hi\n\nAssistant: Hello{end}\n\nHuman: Bye\n\nAssistant:"
    assert models.load_tokenizer(str(tiny_model)).chat_template != HUMAN_ASSISTANT_TEMPLATE
