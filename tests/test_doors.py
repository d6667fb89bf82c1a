"""One door a stage: given a run's files and configuration, a stage's own command leaves the run's bytes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from command import fails, solon
from same_bytes import SMALL, merged
from solon import pipeline
from solon.config import Config
from solon.errors import SolonError
from solon.store.files import file_hash


def run_of(tiny_model: Path, folder: Path, **changes: Any) -> Path:
    settings = merged(SMALL, changes) | {"models": {"assistant": str(tiny_model)}}
    pipeline.run(Config.model_validate(settings), folder)
    return folder


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Helpfulness has one principle fewer than are asked for."""
    folder = tmp_path_factory.mktemp("doors") / "run"
    return run_of(tiny_model, folder, feedback={"principles": 9}, evaluation={"judged": 1})


@pytest.fixture(scope="module")
def revised(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose pairs are answers and their revisions."""
    folder = tmp_path_factory.mktemp("doors") / "revised"
    settings = merged(SMALL, {"feedback": {"method": "revision"}}) | {
        "models": {"assistant": str(tiny_model)}
    }
    pipeline.run(Config.model_validate(settings), folder, until="feedback")
    return folder


def by_command(run: Path, *command: object) -> None:
    assert solon(*map(str, command), "--config", str(run / "config.yaml")) == 0


def same(ours: Path, theirs: Path) -> None:
    assert ours.read_text() == theirs.read_text()


def test_red_team(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    prompts, out = finished / "01-red-team/prompts.jsonl", tmp_path / "generated.jsonl"
    by_command(finished, "red-team", out, "--count", 2, "--examples", prompts, "--model", tiny_model)
    same(out, finished / "01-red-team/generated.jsonl")


def test_critique_and_answer(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    prompts, model = finished / "01-red-team/prompts.jsonl", ["--model", tiny_model]
    by_command(finished, "critique", prompts, tmp_path / "revisions.jsonl", *model)
    same(tmp_path / "revisions.jsonl", finished / "02-critique/revisions.jsonl")
    by_command(finished, "answer", prompts, tmp_path / "helpful.jsonl", *model)
    same(tmp_path / "helpful.jsonl", finished / "02-critique/helpful.jsonl")


def test_supervised(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    made = finished / "02-critique"
    out, helpful = tmp_path / "sl-cai", made / "helpful.jsonl"
    by_command(
        finished, "supervised", made / "revisions.jsonl", out, "--helpful", helpful, "--model", tiny_model
    )
    trained_alike(out, finished / "03-sl-cai")


def trained_alike(ours: Path, theirs: Path) -> None:
    assert file_hash(ours / "model.safetensors") == file_hash(theirs / "model.safetensors")
    same(ours / "metrics.jsonl", theirs / "metrics.jsonl")


def test_comparison(finished: Path, tmp_path: Path) -> None:
    prompts, out = finished / "01-red-team/prompts.jsonl", tmp_path / "pairs.jsonl"
    by_command(finished, "comparison", prompts, out, "--model", finished / "03-sl-cai")
    same(out, finished / "04-comparison/pairs.jsonl")


def test_comparison_by_revision(revised: Path, tiny_model: Path, tmp_path: Path) -> None:
    prompts, made = revised / "01-red-team/prompts.jsonl", revised / "02-critique"
    given = ["--revisions", made / "revisions.jsonl", "--answers", made / "helpful.jsonl"]
    out, labels = tmp_path / "pairs.jsonl", tmp_path / "labels.jsonl"
    by_command(revised, "comparison", prompts, out, "--model", tiny_model, *given)
    same(out, revised / "04-comparison/pairs.jsonl")
    by_command(revised, "feedback", out, labels)
    same(labels, revised / "05-feedback/preferences.jsonl")


def test_feedback(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    pairs, out = finished / "04-comparison/pairs.jsonl", tmp_path / "labels.jsonl"
    by_command(finished, "feedback", pairs, out, "--model", tiny_model)
    same(out, finished / "05-feedback/preferences.jsonl")
    assert {len(json.loads(line)["votes"]) for line in out.read_text().splitlines()} == {8, 9}


def test_preference_model(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    labels, out = finished / "05-feedback/preferences.jsonl", tmp_path / "scorer"
    by_command(finished, "preference-model", labels, "--out", out, "--model", tiny_model)
    trained_alike(out, finished / "06-preference-model")


def test_reinforce(finished: Path, tmp_path: Path) -> None:
    prompts, out = finished / "01-red-team/prompts.jsonl", tmp_path / "rl-cai"
    roles = ["--policy", finished / "03-sl-cai", "--preference-model", finished / "06-preference-model"]
    by_command(finished, "reinforce", prompts, out, *roles)
    trained_alike(out, finished / "07-rl-cai")
    same(out / "samples.jsonl", finished / "07-rl-cai/samples.jsonl")


def test_one_of_a_runs_prompts_that_does_not_fit_is_named(
    capsys: pytest.CaptureFixture[str], finished: Path, tiny_model: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = (finished / "01-red-team/prompts.jsonl").read_text().replace('"held-out"', '"kept"')
    prompts.write_text(rows)
    said = fails(capsys, "critique", prompts, tmp_path / "out.jsonl", "--model", tiny_model)
    assert "prompts.jsonl line" in said
    assert "split" in said


def test_what_a_stage_reads_must_be_there(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    """A finished stage's file that is gone is told: what comes after would work on less, silently."""
    folder = shutil.copytree(finished, tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["stages"]["supervised"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "02-critique/revisions.jsonl").unlink()
    with pytest.raises(SolonError, match=r"revisions\.jsonl, which stage supervised reads, is gone"):
        run_of(tiny_model, folder, feedback={"principles": 9}, evaluation={"judged": 1})
