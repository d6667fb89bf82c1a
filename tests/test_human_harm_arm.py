"""RLHF from people's labels of harm: run by its name, and called by it wherever it or its models go."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import TINY, fails, solon
from same_bytes import SMALL, merged
from solon import pipeline
from solon.audit import audit
from solon.config import Config
from solon.errors import SolonError
from solon.marks import FILE, HUMAN_HARM, admit
from solon.store.record_file import RecordFile
from test_doors import trained_alike
from test_pipeline import Stopping, results

EVERY_STEP = {"save_steps": 1}
HARM = "harmless.jsonl"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People's comparisons: of harm in one file, of help in another."""
    folder = tmp_path_factory.mktemp("people")
    for name, word in ((HARM, "steal"), ("helpful.jsonl", "plant")):
        rows = [
            {"prompt": f"How do I {word} {n} trees?", "chosen": f"Do not. {n}", "rejected": f"So. {n}"}
            for n in range(12)
        ]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config(model: Path, people: Path, **changes: Any) -> Config:
    named = {"preference_model": {"harmlessness": str(people / HARM), **EVERY_STEP}}
    settings = merged(merged(SMALL, {**named, "reinforce": EVERY_STEP, "supervised": EVERY_STEP}), changes)
    return Config.model_validate(settings | {"models": {"assistant": str(model)}})


@pytest.fixture(scope="module")
def arm(tiny_model: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of which AI labels helpfulness."""
    folder = tmp_path_factory.mktemp("runs") / "rlhf"
    pipeline.run(config(tiny_model, people), folder)
    return folder


@pytest.fixture(scope="module")
def of_people_alone(tiny_model: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's: people labelled both."""
    folder = tmp_path_factory.mktemp("runs") / "people"
    both = {"preference_model": {"helpfulness": str(people / "helpful.jsonl")}}
    pipeline.run(config(tiny_model, people, **both), folder)
    return folder


def records(run: Path, file: str) -> list[Any]:
    return RecordFile(run / file).read()


def test_people_label_harm_and_nobody_else(arm: Path, of_people_alone: Path) -> None:
    labels = records(arm, "05-feedback/preferences.jsonl")
    by = {(label["aspect"], label["label_source"], label["labeller"]) for label in labels}
    assert {each[:2] for each in by} == {("harmlessness", "human"), ("helpfulness", "ai")}
    assert {label["labeller"] for label in labels if label["aspect"] == "harmlessness"} == {HARM}
    assert {pair["set"] for pair in records(arm, "04-comparison/pairs.jsonl")} == {"helpful"}
    assert records(of_people_alone, "04-comparison/pairs.jsonl") == []
    both = records(of_people_alone, "05-feedback/preferences.jsonl")
    assert {(label["aspect"], label["label_source"]) for label in both} == {
        ("harmlessness", "human"),
        ("helpfulness", "human"),
    }
    used = json.loads((of_people_alone / "manifest.json").read_text())["stages"]
    assert not used["feedback"]["usage"] and not used["comparison"]["usage"]


def test_manifest_checkpoints_and_audit_say_so(arm: Path, of_people_alone: Path) -> None:
    for run in (arm, of_people_alone):
        assert json.loads((run / "manifest.json").read_text())["human_harm_labels"] == HARM
        for folder, learned in (("03-sl-cai", False), ("06-preference-model", True), ("07-rl-cai", True)):
            mark = json.loads((run / folder / FILE).read_text())
            assert (HUMAN_HARM in mark["labels"]) == learned, folder
        for kept in (run / "07-rl-cai").glob("step-*"):
            assert HUMAN_HARM in json.loads((kept / FILE).read_text())["labels"]
        with pytest.raises(SolonError, match="learned people's labels of harm"):
            admit(str(run / "07-rl-cai"), "models.policy")
        checks = {check.name: check for check in audit(run)[1]}
        assert [check for check in checks.values() if check.status == "FAILED"] == []
        assert "PEOPLE'S LABELS OF HARM WERE USED" in checks["human harm labels used, by the arm's name"].says
        assert "no harmlessness label is human" not in checks


def shown(page: Path) -> str:
    """The page's text up to its first part."""
    text = page.read_text().partition("<header")[2].partition("<section")[0]
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", text)).replace("&#39;", "'")


def test_the_report_begins_with_it(arm: Path) -> None:
    assert f"This run uses people's labels of harm ({HARM})" in shown(arm / "report.html")
    assert "No human harm label was used" not in (arm / "report.html").read_text()


def test_its_name_cannot_be_taken_back(arm: Path, tmp_path: Path) -> None:
    def tampered(edit: Any) -> list[str]:
        run = shutil.copytree(arm, tmp_path / f"run-{len(list(tmp_path.iterdir()))}")
        edit(run)
        pipeline_report(run)
        assert "This run uses people's labels of harm" in shown(run / "report.html")
        return [check.name for check in audit(run)[1] if check.status == "FAILED"]

    def silent_configuration(run: Path) -> None:
        settings = yaml.safe_load((run / "config.yaml").read_text())
        settings["preference_model"]["harmlessness"] = "ai"
        (run / "config.yaml").write_text(yaml.safe_dump(settings))

    def silent_manifest(run: Path) -> None:
        manifest = json.loads((run / "manifest.json").read_text())
        del manifest["human_harm_labels"]
        (run / "manifest.json").write_text(json.dumps(manifest))

    for edit in (silent_configuration, silent_manifest):
        assert "human harm labels used, by the arm's name" in tampered(edit)
    both = shutil.copytree(arm, tmp_path / "both")
    silent_configuration(both)
    silent_manifest(both)
    failed = {check.name: check.says for check in audit(both)[1] if check.status == "FAILED"}
    assert "is by human (harmless.jsonl)" in failed["no harmlessness label is human"]
    assert "06-preference-model did" in failed["no model learned people's labels of harm"]


def pipeline_report(run: Path) -> None:
    assert solon("report", run) == 0


def test_a_comparison_of_runs_and_a_sweep_call_it_by_its_name(
    arm: Path, tiny_model: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump(config(tiny_model, people).model_dump(mode="json")))
    sweep = {
        "base": "base.yaml",
        "variations": {
            "rlhf": {},
            "rlaif": {"preference_model.harmlessness": "ai"},
        },
    }
    (tmp_path / "harm.yaml").write_text(yaml.safe_dump(sweep))
    assert solon("sweep", tmp_path / "harm.yaml", "--dir", tmp_path / "study", "--reuse", arm) == 0
    assert "People's labels of harm trained rlhf (human harm labels)" in shown(tmp_path / "study/sweep.html")
    assert results(tmp_path / "study/rlhf")["07-rl-cai/model.safetensors"]
    for name in ("03-sl-cai/model.safetensors", "07-rl-cai/model.safetensors"):  # taken, and marked as there
        assert results(tmp_path / "study/rlhf")[name] == results(arm)[name]
    rlaif = tmp_path / "study/rlaif"
    assert "ai harmlessness" in json.loads((rlaif / "07-rl-cai" / FILE).read_text())["labels"]
    assert HUMAN_HARM not in json.loads((rlaif / "07-rl-cai" / FILE).read_text())["labels"]
    assert [check for check in audit(rlaif)[1] if check.status == "FAILED"] == []
    capsys.readouterr()
    page = tmp_path / "compared.html"
    assert solon("report", arm, rlaif, "--out", page) == 0
    assert "People's labels of harm trained rlhf (human harm labels)" in shown(page)
    assert "trained rlaif" not in shown(page)


def test_stopped_again_and_again_it_ends_the_same(
    of_people_alone: Path, tiny_model: Path, people: Path, tmp_path: Path
) -> None:
    folder, stops = tmp_path / "stopped", 0
    both = {"preference_model": {"helpfulness": str(people / "helpful.jsonl")}}
    while True:
        try:
            pipeline.run(config(tiny_model, people, **both), folder, Stopping(after=17))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 4
    assert results(folder) == results(of_people_alone)


@pytest.mark.parametrize("which", ["arm", "of_people_alone"])
def test_each_stage_of_its_own_leaves_the_runs_bytes(
    which: str, tiny_model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(which)
    settings = ["--config", run / "config.yaml"]
    prompts, pairs, labels = (tmp_path / name for name in ("p.jsonl", "pairs.jsonl", "labels.jsonl"))
    prompts = run / "01-red-team/prompts.jsonl"
    assert solon("comparison", prompts, pairs, "--model", run / "03-sl-cai", *settings) == 0
    assert pairs.read_bytes() == (run / "04-comparison/pairs.jsonl").read_bytes()
    command = ["feedback", pairs, labels, "--prompts", prompts, *settings]
    assert solon(*command, *(["--model", tiny_model] if which == "arm" else [])) == 0
    assert labels.read_bytes() == (run / "05-feedback/preferences.jsonl").read_bytes()
    scorer, policy = tmp_path / "pm", tmp_path / "rl"
    assert solon("preference-model", labels, "--out", scorer, "--model", tiny_model, *settings) == 0
    trained_alike(scorer, run / "06-preference-model")
    roles = ["--policy", run / "03-sl-cai", "--preference-model", scorer]
    assert solon("reinforce", prompts, policy, *roles, *settings) == 0
    trained_alike(policy, run / "07-rl-cai")
    ours, theirs = (json.loads((folder / FILE).read_text()) for folder in (policy, run / "07-rl-cai"))
    assert (ours["labels"], ours["data"], ours["weights"]) == (
        theirs["labels"],
        theirs["data"],
        theirs["weights"],
    )


def test_without_the_name_its_models_open_no_door(
    arm: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = ["--policy", arm / "03-sl-cai", "--preference-model", arm / "06-preference-model"]
    prompts = arm / "01-red-team/prompts.jsonl"
    assert "learned people's labels of harm" in fails(
        capsys, "reinforce", prompts, tmp_path / "rl", *roles, *TINY
    )
    labels = arm / "05-feedback/preferences.jsonl"
    trains = ["preference-model", labels, "--out", tmp_path / "pm", "--model", tiny_model, *TINY]
    assert "comparisons are people's labels of harm" in fails(capsys, *trains)


def test_what_writes_or_judges_may_not_be_marked_in_the_arm_either(
    arm: Path, tiny_model: Path, people: Path, tmp_path: Path
) -> None:
    marked, tiny = str(arm / "07-rl-cai"), str(tiny_model)
    settings = config(tiny_model, people)
    for role in ("assistant", "critic", "feedback"):
        models = {"assistant": tiny, role: marked}
        asked = Config.model_validate(settings.model_dump() | {"models": models})
        with pytest.raises(SolonError, match=f"serve as models.{role}"):
            pipeline.run(asked, tmp_path / role)
    models = {"assistant": tiny, "policy": marked}
    asked = Config.model_validate(settings.model_dump() | {"models": models})
    pipeline.run(asked, tmp_path / "policy", until="supervised")
    assert HUMAN_HARM in json.loads((tmp_path / "policy/03-sl-cai" / FILE).read_text())["labels"]


def test_it_is_planned(of_people_alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert solon("plan", of_people_alone / "config.yaml", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    stages = planned["stages"]
    assert stages["comparison"]["records"] == 0
    assert stages["feedback"]["records"] == 24


def test_a_file_that_is_not_there_is_told_before_any_work(
    tiny_model: Path, people: Path, tmp_path: Path
) -> None:
    gone = {"preference_model": {"harmlessness": str(tmp_path / "gone.jsonl")}}
    with pytest.raises(SolonError, match=r"gone\.jsonl"):
        pipeline.run(config(tiny_model, people, **gone), tmp_path / "never")
    assert not (tmp_path / "never").exists()
