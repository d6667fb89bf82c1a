"""Marks: what learned people's labels of harm trains and labels nothing, however it comes to a door."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from command import TINY, fails, solon
from same_bytes import SMALL, merged
from solon import config, marks, pipeline
from solon.audit import audit
from solon.config import Config
from solon.errors import SolonError
from solon.marks import FILE, HUMAN_HARM, KEY, admit, origin
from solon.policy import kept_policies
from solon.stages import preference, reinforce, supervised
from solon.store.record_file import RecordFile
from solon.training import checkpoints
from toy_training import QUESTIONS, example, pair, prompt_records, unwatched

REFUSED = "learned people's labels of harm"
TRAINING: dict[str, Any] = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3}
REWARDED: dict[str, Any] = {
    "steps": 2,
    "prompts_per_step": 2,
    "samples_per_prompt": 2,
    "micro_batch_size": 4,
    "max_tokens": 4,
    "checkpoints": 1,
    "learning_rate": 1e-3,
}


def labels(source: str, aspect: str) -> list[Any]:
    pairs = [pair(question, "Yes.", "No", 0.8) for question in QUESTIONS]
    return [{**record, "label_source": source, "aspect": aspect} for record in pairs]


def trained(model: Path, out: Path, source: str = "human", aspect: str = "harmlessness") -> Path:
    """A preference model."""
    settings = config.PreferenceModel(**TRAINING)
    asked = (source, aspect) == ("human", "harmlessness")
    preference.train(labels(source, aspect), str(model), out, settings, 0, unwatched, human_harm=asked)
    return out


@pytest.fixture(scope="module")
def marked(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preference model that people's labels of harm trained."""
    return trained(tiny_model, tmp_path_factory.mktemp("marked") / "people")


@pytest.fixture(scope="module")
def unmarked(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that AI's labels of harm trained."""
    return trained(tiny_model, tmp_path_factory.mktemp("unmarked") / "ai", source="ai")


def mark_of(folder: Path) -> dict[str, Any]:
    beside: dict[str, Any] = json.loads((folder / FILE).read_text())
    if (folder / "config.json").exists():  # adapters have none
        assert json.loads((folder / "config.json").read_text())[KEY] == beside
    return beside


def test_a_mark_says_who_labelled_what(
    tiny_model: Path, marked: Path, unmarked: Path, tmp_path: Path
) -> None:
    mark = mark_of(marked)
    assert (mark["stage"], mark["labels"]) == ("preference-model", [HUMAN_HARM])
    assert mark["unknown"] == [f"{tiny_model.name} (origin unknown: it has no card)"]
    assert mark["forebears"]["policy"] == {
        "name": tiny_model.name,
        "weights": marks.hash_of_weights(tiny_model),
    }
    assert mark["data"] == marks.hash_of_records(reversed(labels("human", "harmlessness")))
    assert mark_of(unmarked)["labels"] == ["ai harmlessness"]
    helpful = trained(unmarked, tmp_path / "both", aspect="helpfulness")
    assert mark_of(helpful)["labels"] == ["ai harmlessness", "human helpfulness"]
    for folder in (marked, unmarked, helpful):
        assert origin(str(folder), verified=True).faults == ()


def test_labels_of_harm_by_people_are_refused_unless_asked_for(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [*labels("ai", "harmlessness"), {**labels("human", "harmlessness")[0], "id": "theirs"}]
    with pytest.raises(SolonError, match=r"1 of \d+ comparisons are people's labels of harm"):
        preference.train(
            records, str(tiny_model), tmp_path / "o", config.PreferenceModel(**TRAINING), 0, unwatched
        )
    file = tmp_path / "labels.jsonl"
    RecordFile(file).append(*records)
    said = fails(capsys, "preference-model", file, "--out", tmp_path / "o", "--model", tiny_model, *TINY)
    assert "people's labels of harm" in said and "preference_model.harmlessness" in said
    assert not (tmp_path / "o" / "config.json").exists()


def doors(model: Path, marked: Path, folder: Path) -> dict[str, list[Any]]:
    """A command at each door, with what it takes in the folder, and the marked model in one role."""
    prompts, labelled, pairs, revised, out = (
        folder / name for name in ("prompts.jsonl", "labels.jsonl", "pairs.jsonl", "revisions.jsonl", "out")
    )
    prompts.write_text("".join(json.dumps({"prompt": each["prompt"]}) + "\n" for each in prompt_records()))
    RecordFile(labelled).append(*labels("ai", "harmlessness"))
    common = {"id": "1", "prompt": [{"role": "user", "content": "Hi"}], "kind": ""}
    RecordFile(pairs).append(
        {**common, "set": "red-team", "split": "train", "responses": ["a", "b"], "problem": ""}
    )
    answered = [*common["prompt"], {"role": "assistant", "content": "Hello."}]  # type: ignore[misc]
    RecordFile(revised).append({**common, "answer": "Hello.", "rounds": [], "messages": answered})
    rated = folder / "rated.jsonl"
    rated.write_text(json.dumps({"transcript": "\n\nHuman: A?\n\nAssistant: B.", "rating": 1}) + "\n")
    (folder / "texts.jsonl").write_text(json.dumps({"prompt": "Hi", "label": "safe"}) + "\n")
    safe = ["--data", folder / "texts.jsonl", "--set", "evaluation.max_tokens=2"]
    rl = ["reinforce", prompts, out, "--policy"]
    return {
        "red-team": ["red-team", out, "--count", "1", "--model", marked],
        "critique": ["critique", prompts, out, "--model", marked],
        "answer": ["answer", prompts, out, "--model", marked],
        "supervised": ["supervised", revised, out, "--model", marked],
        "comparison": ["comparison", prompts, out, "--model", marked],
        "feedback": ["feedback", pairs, out, "--model", marked],
        "start of a preference model": ["preference-model", labelled, "--out", out, "--model", marked],
        "policy": [*rl, marked, "--preference-model", model],
        "reward": [*rl, model, "--preference-model", marked],
        "harm scorer": ["train", "harm-scorer", rated, out, "--model", marked],
        "judge": ["eval", "models", model, marked, "--judge", marked, "--count", "1"],
        "judge of harm": ["eval", "harmfulness", model, "--judge", marked],
        "judge of refusals": ["eval", "over-refusal", model, *safe, "--judge", marked],
    }


@pytest.mark.parametrize("spoken", ["marked", "carded"])
def test_every_door_refuses(
    spoken: str, tiny_model: Path, marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the mark of Solon's own models, by the card of others'."""
    model = marked
    if spoken == "carded":
        model = shutil.copytree(tiny_model, tmp_path / "theirs")
        (model / "README.md").write_text("---\ndatasets:\n- Anthropic/hh-rlhf\n---\nA model.\n")
    for door, command in doors(tiny_model, model, tmp_path).items():
        assert REFUSED in fails(capsys, *command, *TINY), door
    assert not (tmp_path / "out").exists()
    for role in Config().models.by_role:
        roles = {"assistant": str(tiny_model)} | {role: str(model)}
        (tmp_path / "run.yaml").write_text(json.dumps({"models": roles}))
        said = fails(capsys, "run", tmp_path / "run.yaml", "--dir", tmp_path / "never")
        assert REFUSED in said and role in said
        sweep = {"base": "run.yaml", "setting": "seed", "values": [0, 1]}
        (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
        assert REFUSED in fails(capsys, "sweep", tmp_path / "sweep.yaml", "--dir", tmp_path / "never")


def test_every_trainer_refuses_from_python(tiny_model: Path, marked: Path, tmp_path: Path) -> None:
    sl, pm, rl = (
        config.Supervised(**TRAINING),
        config.PreferenceModel(**TRAINING),
        config.Reinforce(**REWARDED),
    )
    tiny, theirs, prompts = str(tiny_model), str(marked), prompt_records()
    for train in (
        lambda: supervised.train([example("Who?", "I.")], theirs, tmp_path, sl, 0, unwatched),
        lambda: preference.train(labels("ai", "harmlessness"), theirs, tmp_path, pm, 0, unwatched),
        lambda: reinforce.train(prompts, theirs, tiny, tmp_path, rl, 0, unwatched),
        lambda: reinforce.train(prompts, tiny, theirs, tmp_path, rl, 0, unwatched),
    ):
        with pytest.raises(SolonError, match=REFUSED):
            train()


def test_it_may_measure_and_be_measured(
    tiny_model: Path, marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "labels.jsonl"
    RecordFile(file).append(*labels("human", "harmlessness"))
    assert solon("eval", "preference-model", marked, file, "--all", "--json") == 0
    assert "accuracy" in json.loads(capsys.readouterr().out)
    prompts = ["--count", "1", "--temperatures", "0", "--set", "evaluation.max_tokens=2"]
    assert solon("eval", "harmfulness", marked, "--judge", tiny_model, *prompts, *TINY, "--json") == 0


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "ppo"])
@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["full", "adapters"])
def test_the_policy_that_it_rewards_is_marked(
    tiny_model: Path, marked: Path, tmp_path: Path, algorithm: str, lora: Any
) -> None:
    settings = config.Reinforce(**REWARDED, algorithm=algorithm, lora=lora)  # type: ignore[arg-type]
    out = tmp_path / "out"
    reinforce.train(
        prompt_records(), str(tiny_model), str(marked), out, settings, 0, unwatched, human_harm=True
    )
    for folder in (out, *kept_policies.kept(out).values()):
        assert mark_of(folder)["labels"] == [HUMAN_HARM]
        assert origin(str(folder), verified=True).faults == ()
        with pytest.raises(SolonError, match=REFUSED):
            admit(str(folder), "the policy")
    assert len(kept_policies.kept(out)) == 1


def saved_again(marked: Path, out: Path) -> None:
    AutoModelForCausalLM.from_pretrained(marked).save_pretrained(out)


def trained_elsewhere(marked: Path, out: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(marked)
    with torch.no_grad():
        model.get_input_embeddings().weight += 1
    model.save_pretrained(out)


def merged_elsewhere(marked: Path, out: Path) -> None:
    adapters = LoraConfig(target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(marked), adapters)
    model.merge_and_unload().save_pretrained(out)


def merged_by_solon(marked: Path, out: Path) -> None:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(marked), LoraConfig(target_modules="all-linear")
    )
    checkpoints.save(model, AutoTokenizer.from_pretrained(marked), out)


def adapters_for_it(marked: Path, out: Path) -> None:
    get_peft_model(
        AutoModelForCausalLM.from_pretrained(marked), LoraConfig(target_modules="all-linear")
    ).save_pretrained(out)


def only_what_loads(marked: Path, out: Path) -> None:
    out.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(marked / name, out)


def whole_folder(marked: Path, out: Path) -> None:
    shutil.copytree(marked, out)


@pytest.mark.parametrize(
    "how",
    [
        saved_again,
        trained_elsewhere,
        merged_elsewhere,
        merged_by_solon,
        adapters_for_it,
        only_what_loads,
        whole_folder,
    ],
)
def test_the_mark_survives(how: Callable[[Path, Path], None], marked: Path, tmp_path: Path) -> None:
    how(marked, tmp_path / "out")
    with pytest.raises(SolonError, match=REFUSED):
        admit(str(tmp_path / "out"), "the policy")
    faults = origin(str(tmp_path / "out"), verified=True).faults
    whole = how in (merged_by_solon, only_what_loads, whole_folder, adapters_for_it)
    assert faults == () if whole else "its weights are not those that were marked" in faults


def test_an_edited_mark_opens_no_door(marked: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(marked, tmp_path / "edited")
    for file, place in ((FILE, None), ("config.json", KEY)):
        said = json.loads((folder / file).read_text())
        (said[place] if place else said)["labels"] = ["ai harmlessness"]
        (folder / file).write_text(json.dumps(said))
    with pytest.raises(SolonError, match="was edited"):
        admit(str(folder), "the policy")


@pytest.mark.parametrize("mark", [5, "human harmlessness", {"labels": 5}, {"labels": [], "unknown": None}])
def test_what_is_no_mark_is_no_traceback(mark: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {KEY: mark}))
    with pytest.raises(SolonError, match="was edited"):
        admit(str(folder), "the policy")


# A run, and what is done to its models.


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = merged(SMALL, {}) | {"models": {"assistant": str(tiny_model)}}
    pipeline.run(Config.model_validate(settings), folder)
    return folder


def of_models(run: Path) -> Any:
    return next(check for check in audit(run)[1] if "learned" in check.name)


def test_a_sound_run_passes_and_says_what_nobody_knows(finished: Path, tiny_model: Path) -> None:
    check = of_models(finished)
    assert check.status == "ok", check.says
    assert "4 checkpoints of the run are marked" in check.says
    assert f"{tiny_model.name} (origin unknown: it has no card)" in check.says
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["stages"]["reinforce"]["mark"] == mark_of(finished / "07-rl-cai")
    assert manifest["models"]["policy"]["unknown"]
    assert "human_harm_labels" not in manifest


def without_mark(folder: Path, everywhere: bool = True) -> None:
    (folder / FILE).unlink()
    if everywhere:
        said = json.loads((folder / "config.json").read_text())
        del said[KEY]
        (folder / "config.json").write_text(json.dumps(said))


def lost_from_configuration(folder: Path) -> None:
    kept = (folder / FILE).read_text()
    without_mark(folder)
    (folder / FILE).write_text(kept)


def edited(folder: Path) -> None:
    said = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(said | {"unknown": []}))


def forged(folder: Path, **changes: Any) -> None:
    """With its hash over itself right again."""
    mark = json.loads((folder / FILE).read_text()) | changes
    mark["seal"] = marks.seal_of(mark)
    (folder / FILE).write_text(json.dumps(mark))
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {KEY: mark}))


def other_weights(run: Path, stage: str) -> None:
    folder = run / stage
    model = AutoModelForCausalLM.from_pretrained(run / "03-sl-cai")
    (folder / "model.safetensors").unlink()  # other runs may share the file
    with torch.no_grad():
        model.get_input_embeddings().weight *= 2
    model.save_pretrained(run / "other")
    shutil.copy(run / "other/model.safetensors", folder)
    shutil.rmtree(run / "other")


def resealed(run: Path, stage: str) -> None:
    other_weights(run, stage)
    forged(run / stage, weights=marks.hash_of_weights(run / stage))


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the mark is removed": (lambda run: without_mark(run / "07-rl-cai"), "07-rl-cai has lost its mark"),
    "and from a preference model": (
        lambda run: without_mark(run / "06-preference-model"),
        "06-preference-model has lost its mark",
    ),
    "and from config.json": (
        lambda run: lost_from_configuration(run / "07-rl-cai"),
        "config.json has lost its mark",
    ),
    "and from a policy kept on the way": (
        lambda run: without_mark(run / "07-rl-cai/step-2"),
        "07-rl-cai/step-2 has lost its mark",
    ),
    "the mark is edited": (
        lambda run: edited(run / "06-preference-model"),
        "its mark was edited or never finished",
    ),
    "labels are taken from it": (
        lambda run: forged(run / "06-preference-model", labels=[]),
        "does not say that it learned from ai harmlessness",
    ),
    "other records are named": (
        lambda run: forged(run / "03-sl-cai", data="0" * 64),
        "trained on other records",
    ),
    "the weights are replaced": (
        lambda run: other_weights(run, "07-rl-cai"),
        "its weights are not those that were marked",
    ),
    "and sealed again": (lambda run: resealed(run, "07-rl-cai"), "another mark than the manifest recorded"),
    "SL-CAI is replaced": (lambda run: resealed(run, "03-sl-cai"), "made from another policy than the run's"),
    "the mark of another stage": (
        lambda run: forged(run / "06-preference-model", **json.loads((run / "03-sl-cai" / FILE).read_text())),
        "its weights are not those",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_audit_finds_it(name: str, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    tamper, said = TAMPERINGS[name]
    tamper(run)
    check = of_models(run)
    assert check.status == "FAILED"
    assert said in check.says


def test_a_preference_model_of_people_put_in_a_run_is_found(
    finished: Path, marked: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "06-preference-model")
    shutil.copytree(marked, run / "06-preference-model")
    check = of_models(run)
    assert check.status == "FAILED" and "06-preference-model did (its mark says so)" in check.says


def test_a_run_of_before_marks_is_unknown_and_no_fault(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    for folder in [file.parent for file in run.rglob(FILE)]:
        without_mark(folder)
    manifest = json.loads((run / "manifest.json").read_text())
    for entry in manifest["stages"].values():
        entry.pop("mark", None)
    (run / "manifest.json").write_text(json.dumps(manifest))
    check = of_models(run)
    assert check.status == "ok"
    assert "0 checkpoints" in check.says and "07-rl-cai (origin unknown: it has no card)" in check.says


def test_a_role_of_a_marked_model_is_found_afterwards(finished: Path, marked: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["models"]["feedback"]["name"] = str(marked)
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert f"{marked} did" in of_models(run).says
