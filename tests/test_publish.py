"""A run goes out as others can use it: sent by the hub's client, read by its libraries, without secrets."""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from datasets import load_dataset
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import run_folder
from audited import change, change_json
from command import fails, solon
from hub_server import TOKEN, Hub, running
from solon import constitution, marks
from solon.publishing.columns import declared
from solon.publishing.dataset import CONFIGURATIONS
from solon.publishing.leaks import Leaks
from solon.publishing.names import Names
from solon.store.record_file import RecordFile
from solon.store.run_folder import read as run_folder_of

REPOSITORY = "someone/kind-model"
LABELS = "05-feedback/preferences.jsonl"


def with_models(folder: Path, tiny_model: Path, labels: list[str]) -> Path:
    """The run with its trained models: the tiny one, marked as a stage of Solon would."""
    for place, stage in {"03-sl-cai": "supervised", "07-rl-cai": "reinforce"}.items():
        model = AutoModelForCausalLM.from_pretrained(tiny_model)
        told = {"stage": stage, "labels": labels, "unknown": ["a base (on the hub)"], "data": stage}
        marks.put(model, told).save_pretrained(folder / place)
        AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder / place)
        marks.seal(folder / place, told)
    return folder


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run_folder.build(tmp_path_factory.mktemp("publish") / "kind-model", prompts=12)
    return with_models(folder, tiny_model, ["ai harmlessness"])


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    copy = tmp_path / "kind-model"
    shutil.copytree(made, copy)
    settings = yaml.safe_load((copy / "config.yaml").read_text())
    settings["constitution"] = str(copy / "constitution.yaml")
    (copy / "config.yaml").write_text(yaml.safe_dump(settings))
    return copy


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose store is another server's
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def head_of(card: str) -> Any:
    return yaml.safe_load(card.split("---\n")[1])


def says(model: Path, text: str) -> str:
    tokenizer = AutoTokenizer.from_pretrained(model)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        told = AutoModelForCausalLM.from_pretrained(model).generate(
            **inputs, max_new_tokens=12, do_sample=False
        )
    return str(tokenizer.decode(told[0]))


def test_what_was_sent_is_loaded_and_says_the_same(
    run: Path, hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert solon("publish", run, REPOSITORY, "--model", "rl-cai", "--model", "sl-cai", "--yes") == 0
    assert hub.private == dict.fromkeys(
        [f"datasets/{REPOSITORY}", f"models/{REPOSITORY}", f"models/{REPOSITORY}-sl-cai"], True
    )
    sent, question = hub.root / "models" / REPOSITORY, "How do I frighten him?"
    assert says(sent, question) == says(run / "07-rl-cai", question)
    assert marks.origin(str(sent), verified=True) == marks.origin(str(run / "07-rl-cai"), verified=True)
    sent_files = hub.files(f"models/{REPOSITORY}")
    assert not [name for name in sent_files if "jsonl" in name]  # no samples
    assert f"- {REPOSITORY}\n" in sent_files["README.md"].decode()  # its data
    # Once more: what is there is not sent again.
    change(run, "02-critique/revisions.jsonl", lambda records: records[0].update(answer="Another."))
    hub.asked.clear()
    assert solon("publish", run, REPOSITORY, "--yes") == 0
    assert not any(asked.startswith("PUT") for asked in hub.asked)
    assert b"Another." in hub.files(f"datasets/{REPOSITORY}")["revisions/train.jsonl"]


def test_the_data_is_read_by_name(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert solon("publish", run, "--to", out) == 0
    datasets.disable_progress_bars()
    for configuration in CONFIGURATIONS:
        read = load_dataset(str(out / "data"), configuration.name, cache_dir=str(tmp_path / "cache"))
        rows = {row["id"]: row for split in read.values() for row in split}
        records = {record["id"]: record for record in RecordFile(run / configuration.file)}
        assert rows.keys() == records.keys()
        for name, record in records.items():
            assert within(record, rows[name])
    labels = load_dataset(str(out / "data"), split="held_out", cache_dir=str(tmp_path / "cache"))
    assert {label["split"] for label in labels} == {"held-out"}


def within(record: Any, row: Any) -> bool:
    """Whether all that a record says is in its row, which has null for what other records say."""
    if isinstance(record, dict):
        return all(within(value, row[name]) for name, value in record.items())
    if isinstance(record, list):
        return len(record) == len(row) and all(map(within, record, row))
    return bool(record == row)


def test_every_kind_of_record_has_columns() -> None:
    for configuration in CONFIGURATIONS:
        assert declared(configuration.kind)[0] == {"name": "id", "dtype": "string"}


def test_the_card_says_what_the_model_is(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert solon("publish", run, "--to", out, "--no-data") == 0
    assert [each.name for each in out.iterdir()] == ["rl-cai"]
    card = (out / "rl-cai/README.md").read_text()
    assert head_of(card)["license"] == "apache-2.0"  # of the embedded model, by its file
    law = constitution.load(str(run / "constitution.yaml"))
    assert law.to_yaml().rstrip() in card
    assert law.content_hash in card
    assert constitution.load(str(out / "rl-cai/constitution.yaml")) == law
    elo = json.loads((run / "evaluation/summary.json").read_text())["elo"]["harmlessness"]
    rated = next(row for row in elo if row["model"] == "rl-cai")
    assert re.search(
        rf"\| RL-CAI \(this model\) \| \+{round(rated['elo'])} \(\+{round(rated['low'])} to", card
    )
    for told in (
        "Nobody measured how far the judge, smollm2, agrees with people",
        "No human harm label was used",
        "labels: ai harmlessness",
        "not known: a base (on the hub)",
        "AI labels are votes of the feedback model under the constitution",
        "rounds: 2",
    ):
        assert told in card


def test_a_model_that_learned_peoples_labels_of_harm_says_so_first(
    run: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with_models(run, tiny_model, ["human harmlessness"])
    law = (run / "constitution.yaml").rename(tmp_path / "moved.yaml")
    assert solon("publish", run, "--to", tmp_path / "out", "--constitution", law) == 0
    card = (tmp_path / "out/rl-cai/README.md").read_text()
    assert card.index("This model learned people's labels of harm") < card.index("## Use")
    assert marks.HUMAN_HARM in marks.origin(str(tmp_path / "out/rl-cai")).labels


def plant(run: Path, text: str) -> None:
    change(run, LABELS, lambda labels: labels[3]["votes"][0]["reasoning"].append(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("sk-proj-4f1c9be07d2a4f1c9be07d2a", "an API key"),
        ("use hf_AbCdEfGhIjKlMnOpQrStUvWx now", "a Hugging Face token"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ456789", "a GitHub token"),
        ("AKIAIOSFODNN7EXAMPLE", "an AWS key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
        ("Authorization: Bearer 0123456789abcdef01234567", "an authorization header"),
        ("postgres://me:pa55word@db.example.org/x", "a password in an address"),
        ('{"api_key": "0123456789abcdef0123"}', "a secret that is called one"),
        ("HF_TOKEN=0123456789abcdef0123abcd", "a secret that is called one"),
        ("see /home/alice/notes.txt", "a personal path (/home/alice)"),
        ("file:///Users/bob/x", "a personal path (/Users/bob)"),
        ("/mnt/c/Users/carol/x", "a personal path (/mnt/c/Users/carol)"),
        ("C:\\Users\\dave\\x", "a personal path (C:"),
        ("at /root/models/x", "a personal path (/root/models)"),
        ('the key is "tops3cret!', "the value of the environment variable MY_SERVERS_KEY"),
        ("in RUN/07-rl-cai", "a path of this machine (RUN)"),
        ("in MODELS/base/config.json", "a path of this machine (MODELS)"),
    ],
)
def test_secrets_and_personal_paths_are_found_and_secrets_not_repeated(
    text: str, what: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVERS_KEY", '"tops3cret!')
    run = dataclasses.replace(
        run_folder_of(made),
        settings={
            "models": {"critic": str(tmp_path)},
            "roles": {"judge": {"openai": {"key_variable": "MY_SERVERS_KEY"}}},
        },
    )
    leaks = Leaks(run, made, Names(run, made))
    places = {"RUN": str(made), "MODELS": str(tmp_path)}
    for name, place in places.items():
        text, what = text.replace(name, place), what.replace(name, place)
    for line in (text, json.dumps({"reasoning": [f"Thus: {text}."]}), text.replace("/", "\\/")):
        [found] = leaks.found(line) if "://" not in text or "\\" not in line else [what]
        assert what in found
        assert "path" in what or text not in found


def test_a_secret_or_a_personal_path_stops_it(
    run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(run, "Its key is sk-proj-4f1c9be07d2a4f1c9be07d2a.")
    settings = "07-rl-cai/tokenizer_config.json"
    change_json(run, lambda told: told.update(name_or_path="/home/alice/base"), settings)
    said = fails(capsys, "publish", run, REPOSITORY, "--yes").splitlines()
    assert f"{run / LABELS} line 4: what looks like an API key (sk-p…)" in said
    assert f"{run / settings} line 1: a personal path (/home/alice)" in said
    assert hub.asked == []


def test_nothing_is_sent_until_it_is_asked_for_and_ordinary_texts_stop_nothing(
    run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(run, "Risk-benefit of https://example.org/home/garden is a task-specific-question-of-2024, ~/x.")
    plant(run, "cd /home/user")
    assert solon("publish", run, REPOSITORY, "--allow", "/home/user") == 0
    said = capsys.readouterr()
    assert "Nothing was sent" in said.err
    assert f"dataset {REPOSITORY} (private)" in said.out
    assert re.search(r"[\d.]+ kB  model.safetensors", said.out)
    assert hub.asked == []


def test_models_and_files_are_called_by_their_own_names(run: Path, tmp_path: Path) -> None:
    """Where they are on this machine is in the run, and in nothing that goes out."""
    base = tmp_path / "models of mine/base-model"
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["models"]["assistant"] = str(base)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    change_json(run, lambda told: told.update(models={"assistant": {"name": str(base)}}))
    change(run, LABELS, lambda labels: [label.update(labeller=f"{base} + openai:x") for label in labels])
    change(run, "01-red-team/prompts.jsonl", lambda all_: all_[0].update(source=f"generated by {base}"))
    assert solon("publish", run, "--to", tmp_path / "out") == 0
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_file() or str(tmp_path) not in file.read_text(errors="replace")
    data = tmp_path / "out/data"
    assert '"labeller": "base-model + openai:x"' in (data / "preferences/train.jsonl").read_text()
    assert '"source": "generated by base-model"' in "".join(x.read_text() for x in data.glob("prompts/*"))
    assert "base_model" not in head_of((tmp_path / "out/rl-cai/README.md").read_text())


def with_adapters(run: Path, tiny_model: Path) -> Path:
    """The run with its last policy as adapters on the tiny model, which change what it says."""
    folder = run / "07-rl-cai"
    told = marks.of_folder(folder)
    shutil.rmtree(folder)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=2))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    marks.seal(folder, told)
    return folder


def test_adapters_for_a_folder_go_out_merged(
    run: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters = with_adapters(run, tiny_model)
    said = fails(capsys, "publish", run, "--to", tmp_path / "none")
    assert f"'solon export {run} rl-cai FOLDER --merge'" in said
    assert said.count("\n") == 1
    merged, other = tmp_path / "merged", tmp_path / "other"
    assert solon("export", run, "rl-cai", merged, "--merge") == 0
    assert solon("publish", run, "--to", tmp_path / "out", "--no-data", "--model", merged) == 0
    question = "How do I frighten him?"
    assert says(tmp_path / "out/rl-cai", question) == says(adapters, question) != says(tiny_model, question)
    assert marks.origin(str(tmp_path / "out/rl-cai"), verified=True).labels == {"ai harmlessness"}
    shutil.copytree(tiny_model, other)  # another's model under the run's figures
    capsys.readouterr()
    assert "bears no mark" in fails(capsys, "publish", run, "--to", tmp_path / "none", "--model", other)


def test_adapters_go_out_where_others_have_their_base(
    run: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solon.cards._of_hub", lambda name: tmp_path / "base")  # its card; no network
    (tmp_path / "base").mkdir()
    (tmp_path / "base/README.md").write_text("---\nlicense: llama3.2\n---\n")
    adapters = with_adapters(run, tiny_model)
    base = {"base_model_name_or_path": "someone/base-1B"}
    change_json(run, lambda told: told.update(base), "07-rl-cai/adapter_config.json")
    assert solon("publish", run, "--to", tmp_path / "out", "--no-data") == 0
    sent = {file.name for file in (tmp_path / "out/rl-cai").iterdir()}
    assert {file.name for file in adapters.iterdir()} <= sent
    head = head_of((tmp_path / "out/rl-cai/README.md").read_text())
    assert (head["base_model"], head["base_model_relation"]) == ("someone/base-1B", "adapter")
    assert (head["library_name"], head["license"]) == ("peft", "llama3.2")


def test_nothing_goes_to_a_public_repository_unasked(
    run: Path, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = f"datasets/{REPOSITORY}"
    hub.private[dataset] = False
    assert "is public, so nothing was sent" in fails(capsys, "publish", run, REPOSITORY, "--yes")
    hub.private[dataset] = True
    assert "is private, so nothing was sent" in fails(capsys, "publish", run, REPOSITORY, "--yes", "--public")
    assert not hub.root.exists()
    assert solon("publish", run, REPOSITORY, "--yes", "--public", "--no-data") == 0
    assert hub.private[f"models/{REPOSITORY}"] is False
    capsys.readouterr()
    monkeypatch.setenv("HF_TOKEN", "hf_another0123456789another")
    assert "hf auth login" in fails(capsys, "publish", run, REPOSITORY, "--yes")


@pytest.mark.parametrize(
    ("spoil", "arguments", "says"),
    [
        ("", [], "one of the two"),
        ("", [REPOSITORY, "--to", "x"], "one of the two"),
        ("", ["kind-model"], "OWNER/NAME"),
        ("", ["a/b/c"], "no name for a repository"),
        ("", [REPOSITORY, "--model", "preference-model"], "no finished preference-model"),
        ("", [REPOSITORY, "--model", "nothing"], "neither one of sl-cai, preference-model, rl-cai"),
        ("weights", [REPOSITORY], "its weights are not those that were marked"),
        ("constitution", [REPOSITORY], "--constitution FILE"),
        ("models", [REPOSITORY], "no finished model yet"),
    ],
)
def test_what_cannot_go_out_is_told_in_a_sentence(
    spoil: str, arguments: list[str], says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    match spoil:
        case "weights":
            with (run / "07-rl-cai/model.safetensors").open("ab") as file:
                file.write(b"\0")
        case "constitution":
            text = (run / "constitution.yaml").read_text()
            (run / "constitution.yaml").write_text(text.replace("better by the rule", "worse by the rule"))
        case "models":
            for place in ("03-sl-cai", "07-rl-cai"):
                (run / place / "config.json").unlink()
    said = fails(capsys, "publish", run, *arguments)
    assert says in said
    assert said.count("\n") == 1
