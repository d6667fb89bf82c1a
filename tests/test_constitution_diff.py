"""Two constitutions on the same pairs: the arithmetic by hand, and the command with a real model."""

import json
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from command import fails, solon
from solon import constitution
from solon.cli.show import SCREEN
from solon.config import EngineSettings, Feedback
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.evaluation.calibration import wilson
from solon.evaluation.constitution_diff import diff
from solon.inference import open_engine
from solon.prompts.dialogue import assistant, user
from solon.seeds import derive_seed
from solon.stages import feedback
from solon.store.record_file import RecordFile


def law(name: str, *principles: str) -> Constitution:
    comparison = [{"name": each, "instruction": f"Which is more {each}?"} for each in principles]
    return Constitution.model_validate({"name": name, "comparison": comparison})


OLD, NEW = law("old", "kind", "honest", "brief"), law("new", "kind", "honest", "brave")


def label(number: int, votes: dict[str, float]) -> Any:
    """The record of votes for "one" against "two", written as the stage writes it."""
    first = fmean(votes.values()) >= 0.5
    answers = ["one", "two"] if first else ["two", "one"]
    turned = {name: vote if first else 1 - vote for name, vote in votes.items()}
    return {
        "id": f"pair-{number}",
        "prompt": [user(f"Question {number}?")],
        "chosen": [assistant(answers[0])],
        "rejected": [assistant(answers[1])],
        "probability": fmean(turned.values()),
        "votes": [
            {"principle": name, "instruction": f"Which is more {name}?", "probability": vote}
            for name, vote in turned.items()
        ],
    }


def test_a_flip_and_who_made_it() -> None:
    found = diff(
        [label(0, {"kind": 0.6, "brief": 0.8}), label(1, {"kind": 0.6, "honest": 0.7})],
        [label(0, {"kind": 0.6, "brave": 0.1}), label(1, {"kind": 0.6, "honest": 0.8})],
        (OLD, NEW),
    )
    assert (found["comparisons"], found["flips"]) == (2, 1)
    assert found["moved"] == pytest.approx((0.35 + 0.05) / 2)
    assert found["flip_interval"] == wilson(1, 2)
    pulls = {each["principle"]: each for each in found["principles"]}
    assert pulls["brave"]["share"] == pytest.approx(0.2 / 0.4)  # (0.5 - 0.1) / 2 of 0.4 in all
    assert pulls["brief"]["share"] == pytest.approx(0.15 / 0.4)  # what it no longer holds
    assert pulls["honest"]["share"] == pytest.approx(0.05 / 0.4)
    assert pulls["kind"]["share"] == pytest.approx(0)
    assert [pulls[name]["of"] for name in ("kind", "honest", "brief", "brave")] == ["both", "both", "A", "B"]
    assert (pulls["brave"]["flips"], pulls["brave"]["for_flip"]) == (1, 1)
    assert (pulls["kind"]["flips"], pulls["kind"]["for_flip"]) == (1, 0)
    example = found["examples"][0]
    assert (example["id"], example["preferred"], example["other"]) == ("pair-0", "one", "two")
    assert (example["probability_a"], example["probability_b"]) == pytest.approx((0.7, 0.35))
    assert [each["probability"] for each in example["votes_b"]] == pytest.approx([0.6, 0.1])


def test_the_figures_are_those_of_a_plain_recomputation() -> None:
    rng, under_a, under_b = random.Random(0), [], []
    votes: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(200):
        mine = {each.name: rng.random() for each in rng.sample(OLD.comparison, 2)}
        its = {each.name: rng.random() for each in rng.sample(NEW.comparison, rng.randint(1, 3))}
        votes.append((mine, its))
        under_a.append(label(number, mine))
        under_b.append(label(number, its))
    rng.shuffle(under_b)
    found = diff(under_a, under_b, (OLD, NEW), examples=200)
    labels = [(fmean(mine.values()), fmean(its.values())) for mine, its in votes]
    flips = [number for number, (a, b) in enumerate(labels) if (a > 0.5) != (b > 0.5)]
    assert found["flips"] == len(flips)
    assert found["moved"] == pytest.approx(fmean(abs(b - a) for a, b in labels))
    assert {each["id"] for each in found["examples"][: len(flips)]} == {f"pair-{each}" for each in flips}
    assert sum(each["share"] or 0 for each in found["principles"]) == pytest.approx(1)
    pulled = sum(  # without "brave": its votes are as if at one half
        (1 if b > a else -1) * (its["brave"] - 0.5) / len(its)
        for (a, b), (_, its) in zip(labels, votes, strict=True)
        if "brave" in its
    )
    brave = next(each for each in found["principles"] if each["principle"] == "brave")
    assert brave["share"] == pytest.approx(pulled / sum(abs(b - a) for a, b in labels))
    assert brave["votes_b"] == sum("brave" in its for _, its in votes)


def test_labels_that_no_other_constitution_has_do_not_count() -> None:
    found = diff([label(0, {"kind": 0.9}), label(1, {"kind": 0.9})], [label(1, {"kind": 0.9})], (OLD, NEW))
    assert (found["comparisons"], found["flips"], found["moved"]) == (1, 0, 0)
    assert found["principles"][0]["share"] is None  # nothing moved
    with pytest.raises(SolonError, match="no pair was labelled under both"):
        diff([label(0, {"kind": 0.9})], [label(1, {"kind": 0.9})], (OLD, NEW))


SETTINGS = {"principles": 2, "few_shot": False}


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Path:
    """A run folder up to its labels, made by the tiny model under "harmless"."""
    folder, harmless = tmp_path / "run", constitution.load("harmless")
    pairs: list[Any] = [
        {
            "id": f"pair-{number}",
            "prompt": [user(f"May I read diary number {number}?")],
            "set": "red-team",
            "kind": "privacy",
            "split": "train",
            "responses": [f"No, {number} is hers.", f"Sure, read all {number} pages."],
            "problem": "" if number else "identical",
        }
        for number in range(7)
    ]
    engine = EngineSettings(dtype="float32", device="cpu", batch_size=8)
    with open_engine(str(tiny_model), engine) as opened:
        seed = derive_seed(5, "feedback") % 2**31
        labels = list(feedback.label(opened, pairs, harmless, "harmlessness", Feedback(**SETTINGS), seed))
    RecordFile(folder / "04-comparison/pairs.jsonl").append(*pairs)
    RecordFile(folder / "05-feedback/preferences.jsonl").append(*labels)
    config = {
        "seed": 5,
        "models": {"assistant": str(tiny_model)},
        "engine": engine.model_dump(include={"dtype", "device", "batch_size"}),
        "feedback": SETTINGS,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    inputs = {"constitution": "harmless", "constitution.hash": harmless.content_hash}
    manifest = {"stages": {"feedback": {"status": "done", "inputs": inputs}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.yaml"
    data = constitution.load("harmless").model_dump(exclude_defaults=True)
    data |= {"name": "other", "comparison": data["comparison"][:3]}
    path.write_text(yaml.safe_dump(data))
    return path


def compare(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert solon("constitution", "diff", *arguments, "--examples", "6", "--json") == 0
    return dict(json.loads(capsys.readouterr().out))


def test_what_the_run_judged_is_not_judged_again(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    stage = SCREEN.stage
    monkeypatch.setattr(SCREEN, "stage", lambda title: said.append(title) or stage(title))
    records = RecordFile(run / "05-feedback/preferences.jsonl").read()
    fresh = compare(capsys, "harmless", other, "--pairs", run)
    assert said == ["Labels under other"]
    assert fresh["comparisons"] == 6
    recorded = {each["id"]: each["probability"] for each in records}
    assert {each["id"]: each["probability_a"] for each in fresh["examples"]} == recorded
    # The other way round, A's labels are made and B's are the run's: every move is turned about.
    turned = compare(capsys, other, "harmless", "--pairs", run)
    assert said == ["Labels under other"] * 2
    assert (turned["flips"], turned["moved"]) == (fresh["flips"], pytest.approx(fresh["moved"]))


def test_what_is_judged_anew_is_what_the_stage_judges(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reused = compare(capsys, "harmless", other, "--pairs", run)
    (run / "05-feedback/preferences.jsonl").unlink()
    anew = compare(capsys, "harmless", other, "--pairs", run)
    assert anew["moved"] == pytest.approx(reused["moved"], abs=1e-5)
    for one, two in zip(
        sorted(reused["examples"], key=lambda each: str(each["id"])),
        sorted(anew["examples"], key=lambda each: str(each["id"])),
        strict=True,
    ):
        assert one["votes_a"] == [
            {"principle": vote["principle"], "probability": pytest.approx(vote["probability"], abs=1e-5)}
            for vote in two["votes_a"]
        ]
    all_of_them = compare(capsys, "harmless", other, "--pairs", run, "--set", "feedback.principles=all")
    assert [len(each["votes_a"]) for each in all_of_them["examples"]] == [16] * 6
    assert [len(each["votes_b"]) for each in all_of_them["examples"]] == [3] * 6


def test_a_file_of_pairs_and_the_terminal(
    run: Path, other: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "04-comparison/pairs.jsonl"
    file = [
        "--pairs",
        path,
        "--set",
        "engine={dtype: float32, device: cpu}",
        "--set",
        "feedback.few_shot=false",
    ]
    assert solon("constitution", "diff", "harmless", other, *file, "--model", tiny_model, "--limit", "3") == 0
    shown = capsys.readouterr().out
    assert "user: May I read diary number" in shown
    assert "votes under B: " in shown
    assert "A prefers (" in shown
    assert "give the feedback model" in fails(capsys, "constitution", "diff", "harmless", other, *file)


def test_mistakes_are_named(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "say the same" in fails(capsys, "constitution", "diff", "harmless", "harmless", "--pairs", run)
    wrong = fails(
        capsys, "constitution", "diff", "harmless", other, "--pairs", run, "--aspect", "helpfulness"
    )
    assert "no sound pair to compare for helpfulness" in wrong
    wrong = fails(capsys, "constitution", "diff", "harmless", other, "--pairs", run, "--aspect", "kindness")
    assert "--aspect is 'kindness'" in wrong
    missing = fails(capsys, "constitution", "diff", "harmless", other, "--pairs", tmp_path / "none")
    assert "does not exist" in missing
