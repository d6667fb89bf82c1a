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

import run_folder
from solon import cli, pipeline
from solon.audit import audit, failed
from solon.models import weights_hash
from solon.store.record_file import RecordFile
from test_pipeline import config

PROMPTS = "01-red-team/prompts.jsonl"
REVISIONS = "02-critique/revisions.jsonl"
HELPFUL = "02-critique/helpful.jsonl"
EXAMPLES = "03-sl-cai/examples.jsonl"
PAIRS = "04-comparison/pairs.jsonl"
PREFERENCES = "05-feedback/preferences.jsonl"
ANSWERS = "evaluation/answers.jsonl"

Change = Callable[[list[Any]], object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder.build(tmp_path_factory.mktemp("runs") / "kind-model")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """The finished run, to be tampered with."""
    return shutil.copytree(finished, tmp_path / "run")


def change(run: Path, file: str, how: Change) -> None:
    path = run / file
    records = RecordFile(path).read()
    how(records)
    path.unlink()
    RecordFile(path).append(*records)


def change_json(run: Path, how: Callable[[Any], object]) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    how(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))


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
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert solon("audit", finished) == 0
    shown = capsys.readouterr().out
    assert "FAILED" not in shown
    assert "harmlessness: 23 labels by AI feedback of smollm2" in shown
    assert "ok: no harmlessness label is human: 23 of 23 harmlessness labels are AI feedback" in shown
    assert solon("audit", finished, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    [label] = found["labels"]
    assert set(label["votes"]) == set(run_folder.COMPARISONS)
    assert sum(label["votes"].values()) == 46
    assert {check["status"] for check in found["checks"]} == {"ok"}


TAMPERINGS: dict[str, tuple[str, Change, str, str]] = {
    "a human harm label": (
        PREFERENCES,
        lambda r: r[0].update(label_source="human", labeller="people.jsonl", votes=[]),
        "no harmlessness label is human",
        r"22 of 23 .* is by human \(people.jsonl\)",
    ),
    "another labeller": (
        PREFERENCES,
        lambda r: r[1].update(labeller="me"),
        "AI labels",
        "is by me, not smollm2",
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
        "is of smollm2, not",
    ),
    "another example": (
        EXAMPLES,
        lambda r: r[0]["completion"][0].update(content="Obey."),
        "supervised examples",
        "has another text",
    ),
    "an example from elsewhere": (
        EXAMPLES,
        lambda r: r[0].update(id="new/1"),
        "supervised examples",
        "new/1 is no sound revision",
    ),
    "an example twice": (EXAMPLES, lambda r: r.append(r[0]), "supervised examples", "is there 2 times"),
    "a revision that is not sound": (
        REVISIONS,
        lambda r: r[0]["rounds"][0].update(problem="empty"),
        "supervised examples",
        "is no sound revision",
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
        lambda r: r[3].update(problem="empty"),
        "the answers compared",
        "is no sound pair",
    ),
    "a held-out comparison moved": (
        PREFERENCES,
        lambda r: next(each for each in r if each["split"] == "held-out").update(split="train"),
        "held-out comparisons",
        "was trained on",
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
    "records lost": (PROMPTS, lambda r: r.pop(0), "the manifest fits", "recorded 36 records and has 35"),
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


def test_a_changed_constitution_is_found(tmp_path: Path) -> None:
    run = run_folder.build(tmp_path / "run")
    path = run / "constitution.yaml"
    path.write_text(path.read_text().replace("Wiser", "Wilder"))
    assert set(failures(run)) == {
        "files and models are those recorded",
        "AI labels are votes of the feedback model under the constitution",
    }
    path.unlink()
    checks = {check.name: check for check in audit(run)[1]}
    assert not failed(list(checks.values()))
    unknown = {name: check.says for name, check in checks.items() if check.status == "unknown"}
    assert set(unknown) == {
        "files and models are those recorded",
        "AI labels are votes of the feedback model under the constitution",
    }
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


def test_a_run_of_the_pipeline_passes(tiny_model: Path, tmp_path: Path) -> None:
    human = tmp_path / "people.jsonl"
    rows = [{"prompt": f"Name {n} trees.", "chosen": f"Oak and {n}.", "rejected": "No."} for n in range(9)]
    human.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "run"
    pipeline.run(config(tiny_model, preference_model={"helpfulness": str(human)}), folder)
    labels, checks = audit(folder)
    assert not failed(checks)
    assert {each["label_source"]: each["labeller"] for each in labels} == {
        "ai": str(tiny_model),
        "human": "people.jsonl",
    }
    said = {check.name: check.says for check in checks}
    assert "9 human labels from people.jsonl" in said["human labels are those of the files named"]
    change(folder, PREFERENCES, lambda r: r[-1].update(probability=0.8))
    assert set(failures(folder)) == {"human labels are those of the files named"}
    human.write_text(json.dumps(rows[0]) + "\n")
    assert "files and models are those recorded" in failures(folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings["red_team"]["generate"] += 1
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    assert "the manifest fits settings and records" in failures(folder)
