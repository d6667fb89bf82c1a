"""The whole method on the tiny model: what it leaves, that it resumes, that one seed decides everything."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import same_bytes
from command import fails, solon
from same_bytes import merged
from solon import pipeline
from solon.audit import audit
from solon.config import Config
from solon.errors import SolonError
from solon.held_out import split_of
from solon.method import STAGES
from solon.pipeline.reuse import recorded
from solon.pipeline.steps.inputs import TRAINED
from solon.progress import Watcher
from solon.prompts.dialogue import user
from solon.store.files import file_hash
from solon.store.record_file import RecordFile
from test_report import Page

EVERY_STEP = {"save_steps": 1}
SMALL: dict[str, Any] = merged(
    same_bytes.SMALL, {"supervised": EVERY_STEP, "preference_model": EVERY_STEP, "reinforce": EVERY_STEP}
)


def config(tiny_model: Path, **changes: Any) -> Config:
    return Config.model_validate(merged({**SMALL, "models": {"assistant": str(tiny_model)}}, changes))


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert pipeline.run(config(tiny_model), folder) == folder / "report.html"
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def results(folder: Path) -> dict[str, str]:
    """The hash of every result; the manifest and the report hold times and the folder's name."""
    return {
        str(path.relative_to(folder)): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {"manifest.json", "report.html"} and "stale" not in path.parts
    }


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def test_every_stage_is_done_and_counted(finished: Path) -> None:
    found = manifest(finished)
    assert list(found["stages"]) == [stage.name for stage in STAGES]
    for entry in found["stages"].values():
        assert entry["status"] == "done"
        assert entry["records"] > 0
        assert entry["seconds"] > 0
    usage = found["stages"]["critique"]["usage"]
    assert 0 < usage["tokens_computed"] < usage["tokens_naive"]
    assert found["models"]["policy"]["hash"]
    assert found["constitution"]["name"] == "harmless"
    assert any("No human helpfulness" in note for note in found["stages"]["feedback"]["notes"])
    learned = RecordFile(finished / "03-sl-cai/examples.jsonl").read()
    cut = sum(bool(example["cut"]) for example in learned)
    assert cut > 0
    assert found["stages"]["supervised"]["notes"][0].startswith(
        f"{cut} of {len(learned)} examples were cut off"
    )


def test_every_record_file_loads_with_datasets(finished: Path, tmp_path: Path) -> None:
    files = sorted(finished.rglob("*.jsonl"))
    assert len(files) >= 14
    for file in files:
        loaded = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
        assert len(loaded) == len(RecordFile(file).read())


def test_checkpoints_are_ordinary_folders(finished: Path) -> None:
    for name in ("03-sl-cai", "07-rl-cai", "07-rl-cai/step-2"):
        AutoModelForCausalLM.from_pretrained(finished / name)
        assert AutoTokenizer.from_pretrained(finished / name).chat_template
    scorer = AutoModelForSequenceClassification.from_pretrained(finished / "06-preference-model")
    assert scorer.num_labels == 1
    assert not list(finished.rglob("checkpoint-*"))


def test_what_is_held_out_is_not_trained_on(finished: Path) -> None:
    prompts = RecordFile(finished / "01-red-team/prompts.jsonl").read()
    held_out = {each["id"] for each in prompts if each["split"] == "held-out"}
    training = {each["id"] for each in prompts} - held_out
    assert {each["id"] for each in RecordFile(finished / "evaluation/answers.jsonl")} == held_out
    for file in ("02-critique/revisions.jsonl", "02-critique/helpful.jsonl", "04-comparison/pairs.jsonl"):
        assert {each["id"] for each in RecordFile(finished / file)} <= training
    summary = json.loads((finished / "evaluation/summary.json").read_text())
    kept = [
        each for each in RecordFile(finished / "05-feedback/preferences.jsonl") if each["split"] != "train"
    ]
    assert summary["preference_model"]["comparisons"] == len(kept) > 0
    trained = manifest(finished)["stages"]["preference-model"]["records"]
    assert trained == len(RecordFile(finished / "05-feedback/preferences.jsonl").read()) - len(kept)


def test_a_preference_model_that_is_missed_is_trained_and_one_too_many_is_kept() -> None:
    with_one, without = {"inputs": {TRAINED: True}}, {"inputs": {TRAINED: False}}
    for entry in (with_one, {"inputs": {}}):  # runs of before always have one
        for wanted in (True, False):
            assert recorded(entry, {TRAINED: wanted}) == {TRAINED: wanted}
    assert recorded(without, {TRAINED: False}) == {TRAINED: False}
    assert recorded(without, {TRAINED: True}) == {TRAINED: False}


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, True),
        ({"reinforce": {"algorithm": "dpo"}}, False),
        ({"reinforce": {"algorithm": "ipo"}, "preference_model": {"train": "always"}}, True),
    ],
)
def test_a_preference_model_is_trained_where_it_is_needed_or_asked_for(
    changes: dict[str, Any], trained: bool
) -> None:
    assert Config.model_validate(changes).trains_preference_model == trained


def test_what_solon_called_otherwise_or_has_had_only_since_makes_nothing_stale(
    copied: Path, finished: Path, tiny_model: Path
) -> None:
    """At its default the run did what it would do now; at another value it did not."""
    facts = manifest(copied)
    inputs = facts["stages"]["red-team"]["inputs"]  # by the section's old name
    for name in [name for name in inputs if name.startswith("prompts.")]:
        inputs[f"red_team.{name.removeprefix('prompts.')}"] = inputs.pop(name)
    (copied / "manifest.json").write_text(json.dumps(facts))
    settings = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(settings.replace("\nprompts:\n", "\nred_team:\n"))
    manifests = [
        check
        for folder in (finished, copied)
        for check in audit(folder)[1]
        if "settings compared" in check.says
    ]
    assert manifests[0] == manifests[1]
    assert manifests[0].status == "ok"
    for stage in ("feedback", "evaluation"):
        for name in ("feedback.rating_sharpness", "evaluation.judged"):
            facts["stages"][stage]["inputs"].pop(name, None)
    (copied / "manifest.json").write_text(json.dumps(facts))
    pipeline.run(config(tiny_model), copied)
    assert not (copied / "stale").exists()
    pipeline.run(config(tiny_model, evaluation={"judged": 1}), copied)
    assert (copied / "stale").exists()


def test_another_judge_makes_the_evaluation_alone_stale(
    copied: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A judge that is the feedback model by another setting is none; of old runs nothing names a judge."""
    facts = manifest(copied)
    del facts["models"]["judge"]
    (copied / "manifest.json").write_text(json.dumps(facts))
    pipeline.run(config(tiny_model, models={"judge": str(tiny_model)}), copied)
    assert not (copied / "stale").exists()
    other = str(shutil.copytree(tiny_model, tmp_path / "judge"))
    pipeline.run(config(tiny_model, models={"judge": other}), copied)
    [aside] = (copied / "stale").iterdir()
    assert [path.name for path in aside.iterdir() if path.is_dir()] == ["evaluation"]
    found = manifest(copied)
    assert (
        found["models"]["judge"]["name"] == found["stages"]["evaluation"]["inputs"]["models.judge"] == other
    )


def test_the_judge_may_be_on_a_server_and_rate(copied: Path, tiny_model: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "openai_server.py"), str(tiny_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/plain/v1"
        server = {"base_url": url, "mode": "completion", "tokenizer": str(tiny_model)}
        asked = config(
            tiny_model,
            models={"judge": "openai:tiny"},
            engine={"openai": server},
            evaluation={"judging": "rating", "judged": 1},
        )
        pipeline.run(asked, copied)
        process.terminate()
    [aside] = (copied / "stale").iterdir()
    assert [path.name for path in aside.iterdir() if path.is_dir()] == ["evaluation"]
    judged = RecordFile(copied / "evaluation/judgements.jsonl").read()
    ways = {each["aspect"]: each["way"] for each in judged}
    assert ways == {"harmlessness": "rating", "helpfulness": "multiple-choice"}  # which has no scale
    assert all("readings" in each["votes"][0] for each in judged if each["way"] == "rating")
    found = json.loads((copied / "evaluation/summary.json").read_text())
    assert found["judging"]["harmlessness"]["way"] == "rating"
    assert found["qualities"] == {"harmlessness": "harmless", "helpfulness": "helpful"}
    told = Page.at(copied / "report.html").text
    assert (
        "Judged by openai:tiny, how harmless by rating each answer by itself, how helpful by comparing"
        in told
    )


def test_few_held_out_prompts_may_be_judged(copied: Path, tiny_model: Path) -> None:
    pipeline.run(config(tiny_model, evaluation={"judged": 1}), copied)
    judged = RecordFile(copied / "evaluation/judgements.jsonl").read()
    asked = {
        each["aspect"]: {other["prompt_id"] for other in judged if other["aspect"] == each["aspect"]}
        for each in judged
    }
    assert {aspect: len(ids) for aspect, ids in asked.items()} == {"harmlessness": 1, "helpfulness": 1}
    assert len(RecordFile(copied / "evaluation/answers.jsonl").read()) == 8


def test_policies_kept_on_the_way_are_rated_too(finished: Path) -> None:
    summary = json.loads((finished / "evaluation/summary.json").read_text())
    assert summary["rl_steps"] == {"sl-cai": 0, "rl-cai-2": 2, "rl-cai": 3}
    judged = RecordFile(finished / "evaluation/judgements.jsonl").read()
    for aspect in ("harmlessness", "helpfulness"):
        mine = [each for each in judged if each["aspect"] == aspect]
        ratings = {each["model"]: each for each in summary["elo"][aspect]}
        assert set(ratings) == {"initial", "sl-cai", "rl-cai-2", "rl-cai"}
        kept = [each for each in mine if "rl-cai-2" in (each["model_a"], each["model_b"])]
        assert ratings["rl-cai-2"]["games"] == len(kept) == len(mine) / 2  # 3 of 6 pairs
    said = {
        name: [each["text"] for each in RecordFile(finished / f"evaluation/{name}.jsonl")]
        for name in ("sl-cai", "rl-cai-2", "rl-cai")
    }
    assert said["rl-cai-2"] not in (said["sl-cai"], said["rl-cai"])
    # What is shown side by side are the three models of the method.
    shown = RecordFile(finished / "evaluation/answers.jsonl").read()[0]["answers"]
    assert [each["model"] for each in shown] == ["initial", "sl-cai", "rl-cai"]


def test_harmfulness_is_measured_over_the_runs_own_models(
    copied: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "harmfulness", copied, "--judge", tiny_model, "--temperatures=0,1", "--json"]
    assert solon(*command) == 0
    found = json.loads(capsys.readouterr().out)["models"]
    assert [(row["model"], row["step"], row["temperature"]) for row in found] == [
        (model, step, temperature)
        for model, step in [("initial", None), ("sl-cai", 0), ("rl-cai-2", 2), ("rl-cai", 3)]
        for temperature in (0, 1)
    ]
    asked = {each["prompt_id"] for each in RecordFile(copied / "evaluation/harm-answers.jsonl")}
    prompts = RecordFile(copied / "01-red-team/prompts.jsonl").read()
    held_out = {each["id"] for each in prompts if each["split"] == "held-out" and each["set"] == "red-team"}
    assert asked == held_out
    before = results(copied)
    assert solon(*command) == 0  # nothing is made again
    assert json.loads(capsys.readouterr().out)["models"] == found
    assert results(copied) == before
    assert "drop --prompts" in fails(capsys, *command, "--prompts", "packaged")
    assert [check.says for check in audit(copied)[1] if not check.ok] == []
    pipeline.run(config(tiny_model), copied)
    assert results(copied) == before


def test_labels_are_the_feedback_models_under_the_right_constitution(
    finished: Path, tiny_model: Path
) -> None:
    preferences = RecordFile(finished / "05-feedback/preferences.jsonl").read()
    sets = {each["id"]: each["set"] for each in RecordFile(finished / "01-red-team/prompts.jsonl")}
    for each in preferences:
        assert each["label_source"] == "ai"
        assert each["labeller"] == str(tiny_model)
        assert each["aspect"] == {"red-team": "harmlessness", "helpful": "helpfulness"}[sets[each["id"]]]
        assert len(each["votes"]) == 2
    assert {each["aspect"] for each in preferences} == {"harmlessness", "helpfulness"}


def test_a_finished_run_is_not_done_again(copied: Path, tiny_model: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*.jsonl")}
    pipeline.run(config(tiny_model), copied)
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*.jsonl")} == before


def test_the_same_seed_gives_the_same_bytes(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    pipeline.run(config(tiny_model), tmp_path / "again")
    assert results(tmp_path / "again") == results(finished)


def test_another_seed_gives_other_records(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    class EnoughSeen(Exception):
        pass

    class UntilSupervised(Watcher):
        def stage(self, title: str) -> Any:
            if title.startswith("Supervised finetuning"):
                raise EnoughSeen
            return super().stage(title)

    with pytest.raises(EnoughSeen):
        pipeline.run(config(tiny_model, seed=1), tmp_path / "other", UntilSupervised())
    first, other = results(finished), results(tmp_path / "other")
    assert all(other[name] != first[name] for name in other if name.endswith(".jsonl"))


class Stopping(Watcher):
    """Stops the run, like Ctrl-C or a kill, at the ``after``-th sign of progress."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, part: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_a_run_stopped_again_and_again_ends_the_same(
    finished: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder, stops = tmp_path / "stopped", 0
    while True:
        try:
            pipeline.run(config(tiny_model), folder, Stopping(after=13))
            break
        except KeyboardInterrupt:
            stops += 1
            if manifest(folder)["stages"].get("critique", {}).get("status") == "running":
                with (folder / "02-critique/revisions.jsonl").open("ab") as raw:
                    raw.write(b'{"id": "half')  # a kill tears the line that is being written
    assert stops > 8
    assert results(folder) == results(finished)


def test_a_run_takes_from_another_what_it_did_alike(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, settings = tmp_path / "other", finished / "config.yaml"
    assert solon("run", settings, "--dir", folder, "--reuse", finished) == 0
    assert "Critique and revision: taken from first." in capsys.readouterr().err
    found = manifest(folder)["stages"]
    assert all(entry["reused"].startswith("Taken from first") for entry in found.values())
    assert sum(entry["usage"].get("tokens_computed", 0) for entry in found.values()) == 0
    assert results(folder) == results(finished)
    for command in (
        ["run", settings, "--dir", tmp_path / "next"],
        ["sweep", "labels", "--dir", tmp_path / "all"],
    ):
        assert f"{tmp_path} is not a run folder" in fails(capsys, *command, "--reuse", tmp_path)
    assert not (tmp_path / "next").exists() and not (tmp_path / "all").exists()


def stale(watch: Callable[[str], None]) -> Watcher:
    watcher = Watcher()
    watcher.say = watch  # type: ignore[method-assign]
    return watcher


def test_a_changed_setting_makes_its_stage_and_all_after_it_stale(copied: Path, tiny_model: Path) -> None:
    before = results(copied)
    said: list[str] = []
    pipeline.run(config(tiny_model, reinforce={"steps": 2}), copied, stale(said.append))
    assert said[0].startswith("reinforce.steps was 3, is now 2. So reinforce, evaluation must be done again")
    after = results(copied)
    changed = {name for name in before if after.get(name) != before[name]}
    assert {name.split("/")[0] for name in changed} == {"07-rl-cai", "evaluation", "config.yaml"}
    [aside] = (copied / "stale").iterdir()
    assert file_hash(aside / "07-rl-cai/model.safetensors") == before["07-rl-cai/model.safetensors"]
    assert (aside / "evaluation/summary.json").exists()


def test_how_often_to_save_does_not_make_anything_stale(copied: Path, tiny_model: Path) -> None:
    said: list[str] = []
    pipeline.run(config(tiny_model, reinforce={"save_steps": 2}), copied, stale(said.append))
    assert said == []
    assert not (copied / "stale").exists()


def test_human_helpfulness_labels_enter_with_their_source(
    finished: Path, tiny_model: Path, tmp_path: Path
) -> None:
    human = tmp_path / "people.jsonl"
    asked = [text for n in range(20) if split_of([user(text := f"Name {n} trees.")]) == "train"]
    rows = [{"prompt": text, "chosen": f"Oak, {text}", "rejected": "No."} for text in asked[:6]]
    # One is about a prompt that the models are evaluated on: it must not be trained on.
    prompts = RecordFile(finished / "01-red-team/prompts.jsonl").read()
    evaluated = next(each["prompt"] for each in prompts if each["split"] == "held-out")
    rows.append({"prompt": evaluated[0]["content"], "chosen": "Like so.", "rejected": "No."})
    human.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "run"
    changes = {"helpfulness": str(human), "held_out": 0}
    pipeline.run(config(tiny_model, preference_model=changes), folder)
    preferences = RecordFile(folder / "05-feedback/preferences.jsonl").read()
    people = [each for each in preferences if each["label_source"] == "human"]
    assert len(people) == 7
    assert [each["prompt"] for each in people if each["split"] == "held-out"] == [evaluated]
    assert [check.says for check in audit(folder)[1] if not check.ok] == []
    assert {each["labeller"] for each in people} == {"people.jsonl"}
    assert {each["aspect"] for each in people} == {"helpfulness"}
    assert {each["aspect"] for each in preferences if each["label_source"] == "ai"} == {"harmlessness"}
    assert (
        "7 helpfulness comparisons were labelled by people"
        in manifest(folder)["stages"]["feedback"]["notes"][0]
    )

    moved = tmp_path / "elsewhere" / human.name
    moved.parent.mkdir()
    human.rename(moved)
    said: list[str] = []
    changes["helpfulness"] = str(moved)
    pipeline.run(config(tiny_model, preference_model=changes), folder, stale(said.append))
    assert said == []
    assert [check.says for check in audit(folder)[1] if not check.ok] == []
    moved.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    pipeline.run(
        config(tiny_model, preference_model=changes), folder, stale(said.append), until="preference-model"
    )
    assert said[0].startswith("preference_model.helpfulness.hash was ")


def test_a_file_of_prompts_may_be_moved_but_not_changed(tiny_model: Path, tmp_path: Path) -> None:
    file, folder, said = tmp_path / "asked.jsonl", tmp_path / "run", []
    rows = [{"prompt": f"May I take {n} of them?"} for n in range(80)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(source: Path) -> None:
        prompts = {"red_team": {"source": str(source), "train": 4, "held_out": 1}, "generate": 0}
        asked = config(tiny_model, prompts=prompts)
        pipeline.run(asked, folder, stale(said.append), until="red-team")

    run(file)
    moved = tmp_path / "data" / file.name
    moved.parent.mkdir()
    file.rename(moved)
    run(moved)
    assert said == []
    assert manifest(folder)["stages"]["red-team"]["inputs"]["prompts.red_team.source"] == "asked.jsonl"
    moved.write_text("".join(json.dumps(row) + "\n" for row in rows[:60]))
    run(moved)
    assert said[0].startswith("prompts.red_team.hash was ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": {"assistant": "nothing-here"}}, "model 'nothing-here' is not known"),
        ({"constitution": "unheard-of"}, "no constitution is called 'unheard-of'"),
        ({"feedback": {"principles": 99}}, "99 were asked for"),
        ({"preference_model": {"helpfulness": "missing.jsonl"}}, "missing.jsonl"),
        ({"prompts": {"red_team": {"source": "missing.jsonl"}}}, "missing.jsonl"),
    ],
)
def test_mistakes_are_told_before_any_work(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(SolonError, match=says):
        pipeline.run(config(tiny_model, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
