"""What models from elsewhere say of the labels that they learned from, and what cannot be known of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import yaml

from solon import cards
from solon.errors import SolonError
from solon.marks import HUMAN_HARM, admit, origin


def theirs(folder: Path, text: str = "", config: Any = None, **head: Any) -> Path:
    """A model's folder, its weights left out: nothing reads them here."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | (config or {})))
    front = f"---\n{yaml.safe_dump(head)}---\n" if head else ""
    if front or text:
        (folder / "README.md").write_text(front + text)
    return folder


TELLING: dict[str, Callable[[Path], Path]] = {
    "a data set": lambda at: theirs(at / "model", datasets=["Anthropic/hh-rlhf"]),
    "one of several": lambda at: theirs(at / "model", datasets=["c4", "PKU-Alignment/PKU-SafeRLHF-30K"]),
    "a data set alone": lambda at: theirs(at / "model", datasets="PKU-Alignment/BeaverTails"),
    "with its part": lambda at: theirs(at / "model", datasets=["Anthropic/hh-rlhf/harmless-base"]),
    "a base model": lambda at: theirs(at / "model", base_model="PKU-Alignment/beaver-7b-v1.0-reward"),
    "a base of several": lambda at: theirs(at / "model", base_model=["a/b", "x/reward-model-harmless"]),
    "a tag": lambda at: theirs(at / "model", tags=["dataset:Anthropic/hh-rlhf"]),
    "the text": lambda at: theirs(at / "model", "# Model\n\nIt was trained on Anthropic's hh-rlhf data."),
    "the folder": lambda at: theirs(at / "llama-harmless-reward-7b"),
    "the hub's cache": lambda at: theirs(at / "models--PKU-Alignment--beaver-7b-v1.0-cost/snapshots/0ab1"),
    "turned round": lambda at: theirs(at / "rm_for_safety"),
    "both aspects": lambda at: theirs(at / "helpful-and-harmless-rm"),
    "the configuration's origin": lambda at: theirs(at / "model", config={"_name_or_path": "x/beaver-7b"}),
    "its classes": lambda at: theirs(at / "model", config={"id2label": {"0": "safe", "1": "unsafe"}}),
    "an older harm scorer": lambda at: theirs(at / "model", config={cards.BEFORE: True}),
    "a head that is no YAML": lambda at: theirs(at / "model", "---\ndatasets: [a\n- hh-rlhf\n---\nA model."),
}


@pytest.mark.parametrize("what", TELLING)
def test_what_tells_of_peoples_labels_of_harm_is_refused(what: str, tmp_path: Path) -> None:
    model = str(TELLING[what](tmp_path))
    assert origin(model).labels == {HUMAN_HARM}
    with pytest.raises(SolonError, match="learned people's labels of harm"):
        admit(model, "the policy")
    admit(model, "the policy", asked=True)


SILENT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no card": (lambda at: theirs(at / "model"), "origin unknown: it has no card"),
    "a card of other things": (
        lambda at: theirs(at / "model", "A model.", datasets=["HuggingFaceTB/smollm-corpus"]),
        "origin unknown: its card names no such labels",
    ),
    "the helpful part": (
        lambda at: theirs(at / "helpful-rm", datasets=["Anthropic/hh-rlhf/helpful-base"]),
        "origin unknown: its card names no such labels",
    ),
    "measured on it": (
        lambda at: theirs(at / "model", "We trained it. It was evaluated on BeaverTails."),
        "origin unknown: its card names BeaverTails",
    ),
    "a run's folder": (
        lambda at: theirs(
            at / "harmless-run" if (at / "harmless-run").mkdir() else at / "06-preference-model"
        ),
        "origin unknown: it has no card",
    ),
    "a safe name": (lambda at: theirs(at / "safe-chat-7b"), "origin unknown: it has no card"),
    "a card that is no text": (
        lambda at: theirs(at / "model", "\0\xff", tags=[None, 3]),
        "origin unknown: its card names no such labels",
    ),
}


@pytest.mark.parametrize("what", SILENT)
def test_what_says_nothing_is_unknown(what: str, tmp_path: Path) -> None:
    make, said = SILENT[what]
    model = make(tmp_path)
    found = admit(str(model), "the policy")
    assert found.labels == frozenset()
    assert found.unknown == (f"{model.name} ({said})",)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smollm2", "smollm2 (origin unknown: an embedded model)"),
        ("openai:gpt", "openai:gpt (origin unknown: on a server)"),
    ],
)
def test_nothing_is_known_of_models_without_a_folder(name: str, said: str) -> None:
    assert origin(name).unknown == (said,)


def test_a_hub_name_speaks_though_the_hub_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert origin("org-of-none/model").unknown == ("org-of-none/model (origin unknown: on the hub)",)
    assert origin("PKU-Alignment/beaver-7b-v1.0-cost").labels == {HUMAN_HARM}
    assert origin("openai:harmless-reward-7b").labels == {HUMAN_HARM}


def test_adapters_are_what_their_base_is(tmp_path: Path) -> None:
    base = theirs(tmp_path / "base", datasets=["Anthropic/hh-rlhf"])
    for name, named in (("here", str(base)), ("hub", "PKU-Alignment/beaver-7b-v1.0-reward")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))
        assert origin(str(folder)).labels == {HUMAN_HARM}
    harmless = theirs(tmp_path / "silent")
    (tmp_path / "here/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(harmless)}))
    assert origin(str(tmp_path / "here")).unknown == (
        "here (origin unknown: it has no card)",
        "silent (origin unknown: it has no card)",
    )
    itself = {"base_model_name_or_path": str(tmp_path / "here")}
    (tmp_path / "here/adapter_config.json").write_text(json.dumps(itself))
    assert origin(str(tmp_path / "here")).labels == frozenset()
    for one, other in (("here", "hub"), ("hub", "here")):
        (tmp_path / one / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": str(tmp_path / other)})
        )
    assert len(origin(str(tmp_path / "here")).unknown) == 2


def of_gguf(path: Path, **fields: Any) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
    writer.add_array("tokenizer.ggml.tokens", ["hh-rlhf", "a"])
    for key, value in fields.items():
        name = f"general.{key.replace('__', '.')}"
        writer.add_array(name, value) if isinstance(value, list) else writer.add_string(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_the_fields_of_a_gguf_file_are_its_card(tmp_path: Path) -> None:
    silent = of_gguf(tmp_path / "model.gguf", name="Smollm2 135M", tags=["chat", "text"])
    assert origin(str(silent)).unknown == (
        "model.gguf (origin unknown: no field of the file names such labels)",
    )
    assert cards.gguf_texts(silent) == ["llama", "Smollm2 135M", "chat", "text"]
    for number, fields in enumerate(
        [
            {"name": "Beaver-7B V1.0 Reward"},
            {"datasets": ["Anthropic/hh-rlhf"]},
            {"dataset__0__repo_url": "https://huggingface.co/PKU-Alignment/PKU-SafeRLHF"},
            {"base_model__0__name": "Harmless Reward 7B"},
        ]
    ):
        assert origin(str(of_gguf(tmp_path / f"{number}.gguf", **fields))).labels == {HUMAN_HARM}, fields
    whole = silent.read_bytes()
    for length in range(0, len(whole), 7):  # cut off anywhere, it says what it can
        silent.write_bytes(whole[:length])
        assert origin(str(silent)).labels == frozenset()
