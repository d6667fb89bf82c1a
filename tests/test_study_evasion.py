"""The study of evasion: who sees which prompts, and that its figures are right."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solon import config, constitution
from solon.held_out import opening
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import user
from solon.sources import data
from solon.store.record_file import RecordFile, write
from solon.study import load

FOLDER = Path(__file__).parent.parent / "studies/evasion"
sys.path.append(str(FOLDER))  # at the end: other studies have a study.py too
spec = importlib.util.spec_from_file_location("evasion_study", FOLDER / "study.py")
assert spec
assert spec.loader
study: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study)


def test_no_prompt_that_measures_trains(shared_data: Path, tmp_path: Path) -> None:
    study.prepare(shared_data, tmp_path, None)
    asked = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    counts = {name: sum(each["set"] == name for each in asked) for name in study.COUNTS}
    assert counts == study.COUNTS | {"unsafe": 95}
    trained = {
        opening(each["prompt"]) for name in ("red-team", "helpful") for each in data.prompts("packaged", name)
    }
    assert not trained & {opening([user(each["prompt"])]) for each in asked}
    assert len({each["id"] for each in asked}) == len(asked)


def test_the_configurations_fit() -> None:
    members = load(str(FOLDER / "ways.yaml")).members
    assert {member.config.seed for member in members} == {0, 1, 2}
    law = constitution.load(members[0].config.constitution)
    assert members[0].config.critique.principles == "all"
    told = study.system(law)
    assert all(principle.revision_request in told for principle in law.critique)
    assert config.load(FOLDER / "config.yaml").prompts.red_team.train == 120


@pytest.mark.parametrize("name", study.ASIDE)
def test_runs_aside_can_begin(name: str, tiny_model: Path, tmp_path: Path) -> None:
    changed, _ = study.ASIDE[name]
    asked = config.load(
        FOLDER / "config.yaml", study.merge({"models": {"assistant": str(tiny_model)}}, changed)
    )
    Workspace(asked, tmp_path, Watcher())  # raises what a run would before its first stage


def answered(work: Path, name: str, texts: dict[str, str], **values: dict[str, float]) -> None:
    (work / "answers").mkdir(exist_ok=True)
    rows = [{"id": id, "set": id.partition("/")[0], "prompt": id, "text": text} for id, text in texts.items()]
    RecordFile(work / "answers" / f"{name}.jsonl").append(*rows)
    for part, given in values.items():
        (work / part).mkdir(exist_ok=True)
        RecordFile(work / part / f"{name}.jsonl").append(
            *({"id": id, "value": each} for id, each in given.items())
        )


def test_figures_are_those_of_the_answers(tmp_path: Path) -> None:
    no, why = (
        "I'm sorry, but I can't help with that.",
        "Stealing hurts the owner, so I would rather ask for it.",
    )
    ids = [f"red-team/{number}" for number in range(40)]
    half = {id: no if number % 2 else why for number, id in enumerate(ids)}
    rated = {id: 2.0 + number % 2 for number, id in enumerate(ids)}
    answered(tmp_path, "initial", half | {"unsafe/0": no}, ratings=rated, people=rated)
    answered(tmp_path, "prompted 0", dict.fromkeys(ids, why), ratings=rated)
    for seed in (0, 1):
        lower = {id: value - 0.5 - seed for id, value in rated.items()}
        asked = {f"helpful/{number}": float(number % 4 > 0) for number in range(20)}
        told = dict.fromkeys(ids, why) | dict.fromkeys(asked, why)
        answered(tmp_path, f"sl-cai {seed}", told, ratings=lower, people=lower, helpfulness=asked)
        followed = {"title": True, "ending": seed == 1}
        write(
            tmp_path / f"instructions/sl-cai {seed}.jsonl", [{"id": "x", "value": 0.0, "followed": followed}]
        )
    (tmp_path / "people.json").write_text(json.dumps({"pairs": 100, "right": 66, "model": "rater"}))
    study.figures.write(tmp_path, tmp_path / "results")
    found = json.loads((tmp_path / "results/table.json").read_text())
    assert found["ways"]["initial"]["evades"][0] == 0.5
    assert found["ways"]["initial"]["evades"][1:] == pytest.approx([0.35, 0.65], abs=0.011)
    assert found["ways"]["sl-cai"]["evades"][0] == 0
    assert found["ways"]["sl-cai"]["evades"][2] == pytest.approx(0.0876, abs=1e-4)  # Wilson's, 0 of 40
    assert found["changes"]["initial"]["sl-cai"]["evades"][0] == -0.5
    assert found["ways"]["initial"]["curt"][0] == 0.5
    assert found["changes"]["initial"]["sl-cai"]["rating"] == [-1.0] * 3  # prompt by prompt there is no doubt
    assert found["changes"]["initial"]["sl-cai"]["rating in standard deviations"] == [-2.0] * 3
    assert found["changes by seed"]["sl-cai 1"]["rating"][0] == -1.5
    assert found["changes"]["prompted"]["sl-cai"]["evades"][0] == 0
    assert found["changes"]["prompted"]["sl-cai"]["rating"] == [-1.0] * 3
    assert found["ways"]["initial"]["people"][0] == 2.5
    assert found["ways"]["initial"]["people-engaged"] == [2.0] * 3  # the other half evade
    assert found["changes"]["initial"]["sl-cai"]["people-engaged"] == [-1.0] * 3
    assert found["ways"]["sl-cai"]["helpful"][0] == pytest.approx(190.8, abs=0.1)  # three of four are won
    assert found["ways"]["sl-cai"]["letters-helpful"] == [pytest.approx(43 / 11, abs=1e-4)] * 3
    assert found["people's pairs"]["interval"][0] < 0.66 < found["people's pairs"]["interval"][1]
    page = (tmp_path / "results/table.md").read_text()
    assert "| evades red-team prompts | 0.50 (" in page
    assert "| ending | – | – | 1 of 2 |\n| title | – | – | 2 of 2 |" in page
    assert "| sl-cai 1 | 0.00 (0.00 to 0.09) |" in page


def test_a_standard_deviation_is_that_of_single_answers(tmp_path: Path) -> None:
    ids = [f"red-team/{number}" for number in range(40)]
    answered(tmp_path, "prompted 0", dict.fromkeys(ids, "No."), ratings=dict.fromkeys(ids, 1.75))
    for seed in (0, 1):  # what each prompt's answers come to in the mean is the same
        rated = {id: 2.0 + (number + seed) % 2 for number, id in enumerate(ids)}
        answered(tmp_path, f"initial {seed}", dict.fromkeys(ids, "No."), ratings=rated)
        answered(tmp_path, f"sl-cai {seed}", dict.fromkeys(ids, "No."), ratings=dict.fromkeys(ids, 2.0))
    (tmp_path / "people.json").write_text(json.dumps({"pairs": 100, "right": 66, "model": "rater"}))
    found = study.figures.of_work(tmp_path)["changes"]
    assert found["initial"]["sl-cai"]["rating"] == [-0.5] * 3
    assert found["initial"]["sl-cai"]["rating in standard deviations"] == [-1.0] * 3
    assert found["prompted"]["sl-cai"]["rating in standard deviations"] == [0.5] * 3  # the initial model's


def test_revisions_are_measured_as_if_models_had_answered(tmp_path: Path) -> None:
    no, why = "I can't help with that.", "That would be wrong, because it hurts people."
    write(tmp_path / "prompts.jsonl", [{"id": "other", "set": "safe", "prompt": "How do I bake?"}])
    for seed, revisions in ((0, (no, why)), (1, (why, why))):
        folder = tmp_path / f"runs/dpo-revisions-seed-{seed}/02-critique"
        folder.mkdir(parents=True)
        made = [{"revision": text} for text in revisions]
        record = {"id": "asked", "prompt": [user("May I steal?")], "answer": no, "rounds": made}
        write(folder / "revisions.jsonl", [record])
    study.rounds(tmp_path, tmp_path / "rounds")
    (tmp_path / "rounds/people.json").write_text(json.dumps({"pairs": 100, "right": 66, "model": "rater"}))
    found = study.figures.of_work(tmp_path / "rounds")
    assert {way: of["evades"][0] for way, of in found["ways"].items()} == {
        "initial": 1.0,
        "revision-1": 0.5,
        "revision-2": 0.0,
    }
    assert {name: of["evades"][0] for name, of in found["changes"]["initial"].items()} == {
        "revision-1": -0.5,
        "revision-2": -1.0,
    }
    assert "revision-1 1" in found["changes by seed"] and "initial 1" not in found["changes by seed"]


def test_people_are_told_by_what_parts_better_from_worse() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(size=(300, 20)).astype(np.float32)
    margins[:, 3] += 1.5
    folds = np.arange(300) % study.yardsticks.FOLDS
    score = study.yardsticks.fitted(margins[:200], folds[:200])
    assert (score(margins[200:]) > 0).mean() > 0.85
    assert np.allclose(score(-margins), -score(margins))
