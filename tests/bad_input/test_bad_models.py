"""Models that must be refused before a run begins; what comes with a model never runs as code."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import Case, case, named, place, refused
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from solon import models
from solon.errors import SolonError

Damage = Callable[[Path], None]

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer_config.json"


def cut(name: str, keep: int) -> Damage:
    """Only the first bytes of a file, or all but the last where ``keep`` is negative."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep]) and None  # type: ignore[func-returns-value]


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: str | bytes) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None  # type: ignore[func-returns-value]


def fields(name: str, **changes: Any) -> Damage:
    """Fields of a JSON file changed; those that are ``...`` taken out."""

    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps({k: v for k, v in found.items() if v is not ...}))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return rewrite


def shards(folder: Path) -> None:
    """An index that names a shard which is not there."""
    names = dict.fromkeys(load_file(folder / WEIGHTS), "model-00001-of-00002.safetensors")
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def larger_tokenizer(folder: Path) -> None:
    """The end of a turn gets a token that the model does not have."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "<|over|>"})
    # Were it the end of text alone, what the template writes would be taken for that (prompts/turn_end.py).
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|over|>")
    tokenizer.save_pretrained(folder)


# Found before the run begins.
AT_ONCE = [
    case("weights cut off", cut(WEIGHTS, -100), f"{WEIGHTS} is missing, damaged or cut off", "copy it anew"),
    case("half the weights", cut(WEIGHTS, 100_000), f"{WEIGHTS} is missing, damaged or cut off", "copy it anew"),
    case("a cut off header", cut(WEIGHTS, 100), f"{WEIGHTS} is missing, damaged or cut off", "copy it anew"),
    case("empty weights", written(WEIGHTS, ""), f"{WEIGHTS} is missing, damaged or cut off", "copy it anew"),
    case("a page in place of weights", written(WEIGHTS, "<html>not found</html>"), WEIGHTS, "copy it anew"),
    case("a header past all memory", written(WEIGHTS, b"\xff" * 8 + b"{}"), WEIGHTS, "copy it anew"),
    case("an LFS pointer", written(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), WEIGHTS, "copy it anew"),
    case("no weights", without(WEIGHTS), "has no weights", f"copy its {WEIGHTS} there"),
    case("a missing shard", shards, "model-00001-of-00002.safetensors is missing", "copy it anew"),
    case("a damaged index", written(f"{WEIGHTS}.index.json", "{"), "index.json is damaged", "copy it anew"),
    case("pickled weights", pickled, "has its weights pickled (pytorch_model.bin)", "save it as safetensors", "unsafe:"),
    case("no configuration", without("config.json"), "is not known", "a transformers folder (with config.json)"),
    case("an empty configuration", written("config.json", ""), "could not be loaded", "copy it anew"),
    case("a configuration cut off", cut("config.json", 60), "could not be loaded", "copy it anew"),
    case("a list as configuration", written("config.json", "[]"), "could not be loaded", "copy it anew"),
    case("an unknown architecture", fields("config.json", model_type="mamb"), "could not be loaded", "name another"),
    case("no architecture", fields("config.json", model_type=..., architectures=...), "could not be loaded", "name"),
    case("code of its own", fields("config.json", model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
         "could not be loaded", "code"),
    case("no tokenizer", lambda folder: [(folder / n).unlink() for n in ("tokenizer.json", TOKENIZER)] and None,
         "could not be loaded", "copy it anew"),
    case("a tokenizer cut off", cut("tokenizer.json", 5000), "could not be loaded", "copy it anew"),
    case("an empty tokenizer", written("tokenizer.json", "{}"), "could not be loaded", "copy it anew"),
    case("no end of text", fields(TOKENIZER, eos_token=...), "no token that ends a text", "name one as eos_token"),
    case("a larger tokenizer", larger_tokenizer, "does not fit it: '<|over|>'", "copy the tokenizer"),
    case("a broken template", written("chat_template.jinja", "{% for m in messages %}"), "chat template", "mend it"),
    case("a template that refuses", written("chat_template.jinja", "{{ raise_exception('no') }}"), "(no)", "mend it"),
    case("a template of another data", written("chat_template.jinja", "{{ messages[0].a.b }}"), "template", "mend it"),
]  # fmt: skip


@named(AT_ONCE)
def test_is_refused_before_the_run_begins(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    assert callable(broken.content)
    broken.content(folder)
    config = tmp_path / "config.yaml"
    config.write_text("models: {assistant: ./model}\n")
    refused(capsys, tmp_path, (str(folder), *broken.says), "run", config)


# Found when the weights are read.
WHEN_READ = [
    case("a weight missing", weights(lambda all: all.pop("model.norm.weight")), "lacks 1 of its weights", "copy it anew"),
    case("other names", weights(lambda all: [all.update({f"x.{n}": all.pop(n)}) for n in list(all)]), "lacks", "copy"),
    case("a weight of another size", weights(lambda all: all.update({"model.norm.weight": torch.ones(3)})),
         "could not be loaded", "copy it anew"),
    case("another width", fields("config.json", hidden_size=128), "could not be loaded", "copy it anew"),
]  # fmt: skip


@named(WHEN_READ)
def test_is_refused_before_the_stage_begins(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_model: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    assert callable(broken.content)
    broken.content(folder)
    command = ["critique", "packaged", tmp_path / "out.jsonl", "--model", folder]
    refused(capsys, tmp_path, (str(folder), *broken.says), *command)


GGUF = [
    case("empty.gguf", "", "could not be read as a GGUF model", "download it again"),
    case("text.gguf", "not a model", "could not be read as a GGUF model", "download it again"),
    case("header.gguf", b"GGUF" + bytes(64), "could not be read as a GGUF model", "download it again"),
    case("cut-off.gguf", lambda path: path.write_bytes(embedded()[:1_000_000]) and None, "GGUF model", "download"),
    case("half.gguf", lambda path: path.write_bytes(embedded()[:60_000_000]) and None, "GGUF model", "download"),
    case("folder.gguf", Path.mkdir, "is not known", "a .gguf file"),
]  # fmt: skip


def embedded() -> bytes:
    return models.embedded_file("smollm2").read_bytes()


@named(GGUF)
def test_a_gguf_file_is_refused(
    broken: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SOLON_CACHE", str(tmp_path / "cache"))
    path = place(broken.content, tmp_path / broken.name)
    command = ["critique", "packaged", tmp_path / "out.jsonl", "--model", path]
    refused(capsys, tmp_path, (str(path), *broken.says), *command)


def test_a_language_model_is_no_preference_model(tiny_model: Path) -> None:
    with pytest.raises(SolonError, match="is no preference model"):
        models.load_preference_model(str(tiny_model), trained=True)
    assert models.load_preference_model(str(tiny_model)).num_labels == 1


class Burglar:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
@pytest.mark.parametrize(
    "load", [models.load_model, models.load_preference_model, models.weights_hash, models.check]
)
def test_a_pickle_is_never_loaded(
    name: str, load: Callable[[str], Any], tiny_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / WEIGHTS).unlink()
    marker = tmp_path / "burgled"
    (folder / name).write_bytes(pickle.dumps(Burglar(marker)))
    with pytest.raises(SolonError, match=rf"weights pickled \({name}\).*'unsafe:"):
        load(str(folder))
    assert not marker.exists()
    pickle.loads((folder / name).read_bytes())
    assert marker.exists()  # it would have


def test_a_pickle_beside_safe_weights_is_not_looked_at(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    marker = tmp_path / "burgled"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Burglar(marker)))
    assert models.load_model(str(folder)) is not None
    assert models.weights_hash(str(folder)) == models.weights_hash(str(tiny_model))
    assert not marker.exists()


def test_a_pickle_is_loaded_where_it_is_asked_for_by_name(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    pickled(folder)
    name = f"unsafe:{folder}"
    models.check(name)
    ours, theirs = models.load_model(name).state_dict(), models.load_model(str(tiny_model)).state_dict()
    assert all(torch.equal(ours[each], theirs[each]) for each in theirs)
    assert len(models.weights_hash(name)) == 64
    assert models.weights_hash(name) != models.weights_hash(str(tiny_model))
    # Even then the library reads tensors alone.
    marker = tmp_path / "burgled"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Burglar(marker)))
    with pytest.raises(SolonError, match="could not be loaded"):
        models.load_model(name)
    assert not marker.exists()


@pytest.mark.parametrize("load", [models.load_model, models.load_tokenizer, models.check])
def test_code_that_comes_with_a_model_is_never_run(
    load: Callable[[str], Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    marker = tmp_path / "burgled"
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    classes = {
        "AutoConfig": "mine.Config",
        "AutoModelForCausalLM": "mine.Model",
        "AutoTokenizer": ["mine.T", None],
    }
    fields("config.json", model_type="mine", auto_map=classes)(folder)
    fields(TOKENIZER, tokenizer_class="T", auto_map=classes)(folder)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # were it to ask
    with pytest.raises(SolonError, match="could not be loaded"):
        load(str(folder))
    assert not marker.exists()


def test_the_project_has_no_pickle_of_its_own() -> None:
    """Checkpoints hold torch's and the trainers' state, which is read back with tensors alone allowed."""
    for path in (Path(models.__file__).parent).rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "trust_remote_code=True" not in text, path
        for line in text.splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in text, path
