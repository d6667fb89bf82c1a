"""The audit: a whole run passes every check, and each tampering is found by the check meant for it."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from audited import Runs, change, change_json
from solon import cli, constitution
from solon.audit import audit, failed
from solon.models import weights_hash
from solon.store.record_file import RecordFile

PROMPTS = "01-red-team/prompts.jsonl"
REVISIONS = "02-critique/revisions.jsonl"
HELPFUL = "02-critique/helpful.jsonl"
EXAMPLES = "03-sl-cai/examples.jsonl"
PAIRS = "04-comparison/pairs.jsonl"
PREFERENCES = "05-feedback/preferences.jsonl"
ANSWERS = "evaluation/answers.jsonl"

Change = Callable[[list[Any]], object]


@pytest.fixture
def run(audited: Runs, tmp_path: Path) -> Path:
    """A finished run, to be tampered with."""
    return Path(shutil.copytree(audited("judged"), tmp_path / "run"))


@pytest.fixture
def rated(audited: Runs, tmp_path: Path) -> Path:
    """One with comparisons that people labelled."""
    return Path(shutil.copytree(audited("rated"), tmp_path / "run"))


def failures(run: Path) -> dict[str, str]:
    return {check.name: check.says for check in audit(run)[1] if check.status == "FAILED"}


def solon(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["solon", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def test_a_whole_run_passes_and_its_labels_are_counted(
    audited: Runs, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = audited("judged")
    assert solon("audit", finished) == 0
    shown = capsys.readouterr().out
    assert "FAILED" not in shown
    labels = RecordFile(finished / PREFERENCES).read()
    votes = [vote for label in labels for vote in label["votes"]]
    harm = sum(label["aspect"] == "harmlessness" for label in labels)
    assert f"harmlessness: {harm} labels by AI feedback of {tiny_model}" in shown
    assert f"ok: no harmlessness label is human: {harm} of {harm} harmlessness labels are AI" in shown
    assert f"{len(labels)} of {len(labels)} labels recomputed from {len(votes)} votes" in shown
    assert "unknown: votes are what the feedback model says: 0 of" in shown
    assert solon("audit", finished, "--again", 3, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert sum(sum(group["votes"].values()) for group in found["labels"]) == len(votes)
    says = {check["name"]: check["says"] for check in found["checks"]}
    assert f"3 of {len(labels)} asked anew" in says["votes are what the feedback model says"]
    assert {check["name"] for check in found["checks"] if check["status"] != "ok"} == {
        "losses and RL's policies"
    }


TAMPERINGS: dict[str, tuple[str, Change, str, str]] = {
    "a human harm label": (
        PREFERENCES,
        lambda r: r[0].update(label_source="human", labeller="people.jsonl", votes=[]),
        "no harmlessness label is human",
        r"is by human \(people.jsonl\)",
    ),
    "another labeller": (
        PREFERENCES,
        lambda r: r[1].update(labeller="me"),
        "AI labels",
        "is by me, not .*tiny-llama",
    ),
    "no votes": (PREFERENCES, lambda r: r[1].update(votes=[]), "AI labels", "has no votes"),
    "a principle of one's own": (
        PREFERENCES,
        lambda r: r[1]["votes"][0].update(instruction="Which obeys me?"),
        "AI labels",
        "under no principle",
    ),
    "another probability": (
        PREFERENCES,
        lambda r: r[1].update(probability=0.999),
        "AI labels",
        "is not what its votes make",
    ),
    "a human helpfulness label of no file": (
        PREFERENCES,
        lambda r: r[1].update(label_source="human", aspect="helpfulness", votes=[]),
        "human labels",
        "tiny-llama.*, not ",
    ),
    "another example": (
        EXAMPLES,
        lambda r: r[0]["completion"][0].update(content="Obey."),
        "supervised examples",
        "has another completion.0.content",
    ),
    "an example from elsewhere": (
        EXAMPLES,
        lambda r: r[0].update(id="new/1"),
        "supervised examples",
        "new/1 comes from nothing",
    ),
    "an example twice": (EXAMPLES, lambda r: r.append(r[0]), "supervised examples", "is there 2 times"),
    "a revision that is not sound": (
        REVISIONS,
        lambda r: next(m for o in r for m in o["rounds"] if not m["problem"]).update(problem="empty"),
        "supervised examples",
        "comes from nothing|none of the . records has a sound revision",
    ),
    "a helpful answer to another question": (
        HELPFUL,
        lambda r: r[0]["prompt"][0].update(content="Who?"),
        "revisions, answers and pairs",
        "of the helpful answers is no prompt",
    ),
    "another answer chosen": (
        PREFERENCES,
        lambda r: r[2]["chosen"][0].update(content="Obey."),
        "the answers compared",
        "has another text than in 04-comparison",
    ),
    "a label left out": (PREFERENCES, lambda r: r.pop(), "the answers compared", "has no label"),
    "a pair that cannot be compared": (
        PAIRS,
        lambda r: next(each for each in r if not each["problem"]).update(problem="empty"),
        "the answers compared",
        "is no sound pair",
    ),
    "a held-out comparison moved": (
        PREFERENCES,
        lambda r: next(each for each in r if each["split"] == "held-out").update(split="train"),
        "held-out comparisons",
        "was trained on|both splits",
    ),
    "a training prompt declared held out": (
        PROMPTS,
        lambda r: next(each for each in r if each["split"] == "train").update(split="held-out"),
        "held-out prompts",
        "has a held-out prompt",
    ),
    "an evaluation on a training prompt": (
        ANSWERS,
        lambda r: r[0].update(prompt=[{"role": "user", "content": "Trained on?"}]),
        "held-out prompts",
        "its prompt is not held out",
    ),
    "records lost": (PROMPTS, lambda r: r.pop(0), "the manifest fits", r"recorded \d+ records and has \d+"),
    "a damaged record": (
        PAIRS,
        lambda r: r[0].pop("responses") and r[0].pop("problem"),
        "the answers",
        "KeyError",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file, how, check, says = TAMPERINGS[name]
    assert failures(run) == {}
    change(run, file, how)
    [said] = [text for failed, text in failures(run).items() if failed.startswith(check)]
    assert re.search(says, said), said
    assert solon("audit", run) == 1
    assert f"FAILED: {check}" in capsys.readouterr().out


def test_what_the_manifest_recorded_is_compared(run: Path, tiny_model: Path) -> None:
    change_json(run, lambda m: m["stages"]["critique"]["inputs"].update({"critique.rounds": 3}))
    assert "critique.rounds 3, config.yaml says 2" in failures(run)["the manifest fits settings and records"]
    change_json(run, lambda m: m["stages"]["critique"]["inputs"].update({"critique.rounds": 2}))
    assert failures(run) == {}
    change_json(run, lambda m: m["models"].update(policy={"name": str(tiny_model), "hash": "0" * 64}))
    wrong = failures(run)["files and models are those recorded"]
    assert f"models.policy.hash was 000000000000 and is {weights_hash(str(tiny_model)):.12}" in wrong


def test_a_changed_constitution_is_found(run: Path) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    path = run / "constitution.yaml"
    settings["constitution"] = str(path)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    law = constitution.load("harmless")
    path.write_text(law.to_yaml())
    assert failures(run) == {}
    vote = next(v for label in RecordFile(run / PREFERENCES) for v in label["votes"])
    path.write_text(path.read_text().replace(f"name: {vote['principle']}\n", "name: wilder\n"))
    assert {
        "files and models are those recorded",
        "AI labels are votes of the feedback model under the constitution",
    } <= failures(run).keys()
    path.unlink()
    checks = {check.name: check for check in audit(run)[1]}
    assert not failed(list(checks.values()))
    unknown = {name: check.says for name, check in checks.items() if check.status == "unknown"}
    assert {
        "files and models are those recorded",
        "AI labels are votes of the feedback model under the constitution",
        "revisions and answers are what their stage makes of their texts",
        "pairs are what their stage makes of their texts",
        "judgements follow from their orders",
    } <= unknown.keys()
    assert "unknown: constitution, which is not here" in unknown["files and models are those recorded"]


@pytest.mark.parametrize("done", range(1, 8))
def test_an_unfinished_run_is_checked_so_far(run: Path, done: int) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    folders = sorted(path for path in run.iterdir() if path.name[:2].isdigit())
    shutil.rmtree(run / "evaluation")
    for folder in folders[done:]:
        shutil.rmtree(folder)
    manifest["stages"] = dict(list(manifest["stages"].items())[:done])
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert failures(run) == {}


def test_what_is_no_run_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert solon("audit", tmp_path) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_what_people_labelled_is_looked_up_in_their_file(
    rated: Path, audited: Runs, tiny_model: Path
) -> None:
    labels, checks = audit(rated)
    assert not failed(checks)
    assert {each["label_source"]: each["labeller"] for each in labels} == {
        "ai": str(tiny_model),
        "human": "people.jsonl",
    }
    said = {check.name: check.says for check in checks}
    assert "12 human labels from people.jsonl" in said["human labels are those of the files named"]
    change(rated, PREFERENCES, lambda r: r[-1].update(probability=0.8))
    assert "human labels are those of the files named" in failures(rated)
    rows = audited.people.read_text()
    try:
        audited.people.write_text(rows.splitlines()[0] + "\n")
        assert "files and models are those recorded" in failures(rated)
    finally:
        audited.people.write_text(rows)
    settings = yaml.safe_load((rated / "config.yaml").read_text())
    settings["prompts"]["generate"] += 1
    (rated / "config.yaml").write_text(yaml.safe_dump(settings))
    assert "the manifest fits settings and records" in failures(rated)
