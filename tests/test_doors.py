"""One door a stage: given a run's files and configuration, a stage's own command leaves the run's bytes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from command import fails, solon
from same_bytes import SMALL, merged
from solon import pipeline
from solon.audit import audit
from solon.config import Config
from solon.errors import SolonError
from solon.store.files import file_hash

# Helpfulness has one principle fewer than are asked for; helpful prompts are answered twice, as in the paper,
# and RL has prompts of its own.
SETTINGS: dict[str, Any] = {
    "critique": {"helpful_answers": 2},
    "feedback": {"principles": 9},
    "reinforce": {"generate": {"red_team": 4, "helpful": 4}},
    "evaluation": {"judged": 1},
}


def run_of(tiny_model: Path, folder: Path, **changes: Any) -> Path:
    settings = merged(SMALL, changes) | {"models": {"assistant": str(tiny_model)}}
    pipeline.run(Config.model_validate(settings), folder)
    return folder


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doors") / "run"
    return run_of(tiny_model, folder, **SETTINGS)


@pytest.fixture(scope="module")
def revised(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose pairs are answers and their revisions."""
    folder = tmp_path_factory.mktemp("doors") / "revised"
    # Long enough that some of a random model's texts have a whole sentence.
    changes = {"feedback": {"method": "revision"}, "critique": {"max_tokens": 120}}
    settings = merged(SMALL, changes) | {"models": {"assistant": str(tiny_model)}}
    pipeline.run(Config.model_validate(settings), folder, until="feedback")
    return folder


def by_command(run: Path, *command: object) -> None:
    assert solon(*map(str, command), "--config", str(run / "config.yaml")) == 0


def records(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    same(out / "generated.jsonl", finished / "07-rl-cai/generated.jsonl")


def test_dpo_learns_from_the_labels(
    finished: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a run, whose audit knows it, and by the stage's own command, which needs no preference model."""
    folder, out = tmp_path / "run", tmp_path / "policy"
    other = {"learning_rate": 0.02}  # so that the other run's preference model is not taken
    changes = SETTINGS | {"reinforce": {"algorithm": "dpo"}, "models": {"assistant": str(tiny_model)}}
    settings = merged(merged(SMALL, changes), {"preference_model": other})
    pipeline.run(Config.model_validate(settings), folder, donors=[finished])
    _, checks = audit(folder)
    assert [check for check in checks if check.status == "FAILED"] == []
    assert not (folder / "06-preference-model").exists()  # nobody asked for one
    answers = [answer for each in records(folder / "evaluation/answers.jsonl") for answer in each["answers"]]
    assert {answer["preference_score"] for answer in answers} == {None}
    assert "No preference model was trained" in (folder / "report.html").read_text()
    labels = folder / "05-feedback/preferences.jsonl"
    by_command(folder, "reinforce", labels, out, "--policy", folder / "03-sl-cai")
    trained_alike(out, folder / "07-rl-cai")
    capsys.readouterr()
    assert "score of a preference model" in fails(
        capsys,
        *("reinforce", finished / "01-red-team/prompts.jsonl", tmp_path / "none"),
        *("--policy", finished / "03-sl-cai", "--config", finished / "config.yaml"),
    )


def test_helpful_prompts_are_answered_twice_and_both_are_trained_on(finished: Path) -> None:
    prompts = [
        record for record in records(finished / "01-red-team/prompts.jsonl") if record["set"] == "helpful"
    ]
    trained = [record["id"] for record in prompts if record["split"] == "train"]
    helpful = {record["id"]: record for record in records(finished / "02-critique/helpful.jsonl")}
    assert helpful.keys() == {*trained, *(f"{name}/2" for name in trained)}
    assert all(helpful[f"{name}/2"]["prompt_id"] == name for name in trained)
    both = [[helpful[name]["messages"][-1]["content"] for name in (one, f"{one}/2")] for one in trained]
    assert any(first != second for first, second in both)  # drawn by seeds of their own
    examples = {record["id"] for record in records(finished / "03-sl-cai/examples.jsonl")}
    assert examples & helpful.keys() == {name for name, record in helpful.items() if not record["problem"]}


def test_what_is_written_for_rl_alone_is_new_and_nothing_else_is_trained_on_it(finished: Path) -> None:
    written = records(finished / "07-rl-cai/generated.jsonl")
    assert {record["id"].rpartition("-")[0] for record in written} == {"rl-red-team", "rl-helpful"}
    assert {record["split"] for record in written} == {"train"}
    texts = {record["prompt"][-1]["content"] for record in written}
    prompts = records(finished / "01-red-team/prompts.jsonl")
    assert len(texts) == len(written) and not texts & {record["prompt"][-1]["content"] for record in prompts}
    for file in ("02-critique/revisions.jsonl", "02-critique/helpful.jsonl", "04-comparison/pairs.jsonl"):
        assert not texts & {record["prompt"][-1]["content"] for record in records(finished / file)}
    stage = json.loads((finished / "manifest.json").read_text())["stages"]["reinforce"]
    assert f"{len(written)} of 8 prompts asked for were generated for RL alone." in stage["notes"]
    assert stage["records"] == len(written) + sum(record["split"] == "train" for record in prompts)
    _, checks = audit(finished)
    assert [check for check in checks if not check.ok] == []
    sampled = {record["prompt_id"] for record in records(finished / "07-rl-cai/samples.jsonl")}
    assert sampled <= {record["id"] for record in [*prompts, *written]}


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
        run_of(tiny_model, folder, **SETTINGS)
