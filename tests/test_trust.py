"""What judge and labeller are worth is measured on people's labels, and labels of one at chance are refused.

The tiny model judges for real; what people say of its pairs is written from what it says, so that it agrees
with them always, never, or half of the time.
"""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy.stats import binomtest

import run_folder
from command import TINY, fails, solon
from solon import pipeline, report
from solon.audit import audit
from solon.config import Config
from solon.errors import SolonError
from solon.evaluation import trust
from solon.evaluation.paper_evals import read_pairs
from solon.evaluation.trust import judging_ways, labelling_ways
from solon.pipeline.steps import trust as step
from solon.pipeline.workspace import Workspace
from solon.planning import estimate
from solon.progress import Watcher
from solon.prompts.dialogue import assistant, user
from solon.records import Agreement, Aspect, Role, TrustRecord
from solon.report import content
from solon.report.trust import sentences
from solon.store.record_file import RecordFile
from solon.store.run_folder import RunFolder, read
from test_pipeline import config, manifest, results

ROWS = 48
# So sharp that the tiny model's ratings, which hardly differ, are clear decisions.
RATING = {"method": "rating", "rating_sharpness": 1e5}
GATE = "labels are of a labeller above chance, or asked for by name"
Row = dict[str, Any]


def pairs(said: dict[str, float] | None = None, agree: str = "always") -> list[Row]:
    """Pairs in TRL's form; where the model has ``said`` what it prefers, people always, never or half of the
    time agree, and where it has not, they prefer neither answer."""
    made: list[Row] = []
    for number in range(1, ROWS + 1):
        row: Row = {"prompt": [user(f"What of the garden at number {number * 37}?")]}
        answers = [f"I would take {number} loaves of bread.", f"Leave the lamp at {number * number} alone."]
        if said is not None and str(number) in said:
            first = said[str(number)] > 0.5
            count = list(said).index(str(number))
            right = {"always": first, "never": not first, "half": first == (count % 2 == 0)}[agree]
            answers = answers if right else answers[::-1]
        elif said is not None:
            row["probability"] = 0.5
        row["chosen"], row["rejected"] = ([assistant(answer)] for answer in answers)
        made.append(row)
    return made


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def trusting(tiny_model: Path, file: str, **changes: Any) -> Config:
    return config(tiny_model, **{"evaluation": {"trust": file}, "feedback": RATING, **changes})


@pytest.fixture(scope="module")
def said(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """By row, how probable the tiny model has it the first answer is better, where that is clear."""
    folder = tmp_path_factory.mktemp("said")
    asked = trusting(tiny_model, write(folder / "people.jsonl", pairs()))
    work = Workspace(asked, folder / "run", Watcher())
    step.run(work)
    [(_, way)] = labelling_ways(asked, work.laws, ["harmlessness"])
    records: list[TrustRecord] = RecordFile(folder / "run/trust/labeller-harmlessness.jsonl").read()
    decided = {}
    for record in records:
        both = way.method.either_way(record["votes"], way.settings)
        if min(both) > 0.9 or max(both) < 0.1:
            decided[record["id"]] = record["probability"]
    assert len(decided) >= 10
    return decided


@pytest.fixture(scope="module")
def files(said: dict[str, float], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("people")
    return {name: write(folder / f"{name}.jsonl", pairs(said, name)) for name in ("always", "never", "half")}


@pytest.fixture(scope="module")
def trusted(tiny_model: Path, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "trusted"
    pipeline.run(trusting(tiny_model, files["always"]), folder)
    return folder


@pytest.fixture(scope="module")
def untrusted(tiny_model: Path, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose labels were refused, and which then asked for them by name."""
    folder = tmp_path_factory.mktemp("runs") / "untrusted"
    with pytest.raises(SolonError, match="not clearly above chance"):
        pipeline.run(trusting(tiny_model, files["half"]), folder)
    refused = results(folder)
    assert not (folder / "01-red-team").exists(), "time was spent on what nobody may label"
    by_name = RATING | {"untrusted": str(tiny_model)}
    asked = manifest(folder)["stages"]["trust"]
    pipeline.run(trusting(tiny_model, files["half"], feedback=by_name), folder)
    assert manifest(folder)["stages"]["trust"] == asked, "it was measured a second time"
    done = results(folder)
    assert all(done[name] == refused[name] for name in refused if name.startswith("trust/"))
    return folder


def agreements(run: Path) -> dict[str, Agreement]:
    return {record["id"]: record for record in RecordFile(run / "trust/agreement.jsonl")}


@pytest.mark.parametrize("agree", ["never", "half"])
def test_labels_of_a_model_at_chance_or_below_are_refused_before_the_first_stage(
    agree: str, tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SolonError) as refused:
        pipeline.run(trusting(tiny_model, files[agree]), tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert f"feedback.untrusted: {tiny_model}" in str(refused.value)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "manifest.json", "trust"}
    another = trusting(tiny_model, files[agree], feedback=RATING | {"untrusted": "smollm2"})
    with pytest.raises(SolonError, match="labels are refused"):
        pipeline.run(another, tmp_path / "run")


@pytest.mark.parametrize("reward", ["rating", {"rating": 1, "comparison": 1}])
def test_rewards_of_a_model_at_chance_are_refused_where_nobody_judges_pairs(
    reward: Any, tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """Answers and their revisions are labelled by their making, so that no labeller is measured."""
    asked = {"feedback": RATING | {"method": "revision"}, "reinforce": {"reward": reward}}
    with pytest.raises(SolonError, match=r"rewards are refused: .* another reinforce\.reward"):
        pipeline.run(trusting(tiny_model, files["half"], **asked), tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "manifest.json", "trust"}
    measured = agreements(tmp_path / "run")
    assert measured["rewarder-by-rating-harmlessness"]["accuracy"] == pytest.approx(0.5, abs=0.05)
    assert measured["rewarder-by-rating-harmlessness"]["said_in"] == "rewarder-by-rating-harmlessness"
    assert ("rewarder-by-comparison-harmlessness" in measured) == (reward != "rating")
    told = trust.asked_for(measured.values(), "rewards")
    assert len(told) == len(trust.unfit(measured.values())) > 0 and "asks for its rewards by name" in told[0]
    assert trust.asked_for(measured.values(), "labels") == []
    sound = trusting(tiny_model, files["always"], **asked)
    found = trust.rewarding_ways(sound, Workspace(sound, tmp_path / "sound", Watcher()).laws)
    assert {way.settings.method for _, way in found} <= {"rating", "multiple-choice"}


def test_what_rewards_weigh_changes_nothing_that_is_measured(
    tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    def inputs(reward: Any) -> dict[str, Any]:
        asked = trusting(tiny_model, files["half"], feedback=RATING, reinforce={"reward": reward})
        return step.inputs(Workspace(asked, tmp_path / "run", Watcher()))

    assert inputs("rating") == inputs({"rating": 16}) == inputs({"rating": 2, "preference-model": 1})
    assert inputs("rating") != inputs({"rating": 1, "comparison": 1})
    assert inputs("rating") != inputs("preference-model")


def test_a_model_above_chance_labels_and_judges(trusted: Path, said: dict[str, float]) -> None:
    found = agreements(trusted)
    assert set(found) == {"labeller-harmlessness", "judge-harmlessness"}
    for role in ("labeller", "judge"):
        measured = found[f"{role}-harmlessness"]
        assert measured["pairs"] == len(said)
        assert measured["accuracy"] == 1
        assert (measured["undecided"], measured["turned"], measured["left_out"]) == (0, 0, 0)
        interval = binomtest(len(said), len(said)).proportion_ci(method="wilson")
        assert measured["interval"] == pytest.approx([interval.low, interval.high])
        assert measured["said_in"] == "labeller-harmlessness", "the same questions were put twice"
    assert {path.name for path in (trusted / "trust").iterdir()} == {
        "agreement.jsonl",
        "labeller-harmlessness.jsonl",
    }
    run = read(trusted)
    assert "people" not in content.verdict(run)
    told = " ".join(sentences(run))
    assert f"judge and labeller, agrees with people about harmlessness on 100.0% of {len(said)} pairs" in told
    assert "of always.jsonl; always taking the " in told
    assert "Nobody measured how far the judge" in told and "about helpfulness" in told
    assert all(check.ok for check in audit(trusted)[1])


def test_a_judge_at_chance_gives_no_verdict_and_its_labels_only_by_name(
    untrusted: Path, tiny_model: Path, said: dict[str, float]
) -> None:
    run = read(untrusted)
    assert content.verdict(run).startswith("There is no verdict: ")
    assert "people" in content.verdict(run)
    assert "the configuration asks for them by name" in " ".join(sentences(run))
    stages = manifest(untrusted)["stages"]
    assert any("feedback.untrusted" in note for note in stages["feedback"]["notes"])
    checks = {check.name: check for check in audit(untrusted)[1]}
    assert all(check.ok for check in checks.values())
    assert f"feedback.untrusted asks for the labels of {tiny_model} by name" in checks[GATE].says
    assert f"of {len(said)} pairs" in checks[GATE].says


def test_taking_the_name_back_is_refused(
    untrusted: Path, tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    run = shutil.copytree(untrusted, tmp_path / "run")
    before = results(run)
    with pytest.raises(SolonError, match="labels are refused"):
        pipeline.run(trusting(tiny_model, files["half"]), run)
    assert not (run / "stale").exists(), "whether labels are wanted decides none of them"
    assert {name: value for name, value in results(run).items() if name != "config.yaml"} == {
        name: value for name, value in before.items() if name != "config.yaml"
    }
    assert "no setting asks for them by name" in {check.name: check.says for check in audit(run)[1]}[GATE]


class Killed(Exception):
    pass


class Killing(Watcher):
    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, part: str, done: int, total: int, figures: Any = None) -> None:
        if part.startswith(("labeller-", "judge-")) and done:
            self.left -= 1
            if self.left < 0:
                raise Killed


def test_a_kill_between_changes_nothing(
    trusted: Path, tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    asked = trusting(tiny_model, files["always"])
    for after in (0, 5):
        with pytest.raises(Killed):
            pipeline.run(asked, tmp_path / "run", Killing(after), until="feedback")
    pipeline.run(asked, tmp_path / "run", until="feedback")
    whole, broken = results(trusted), results(tmp_path / "run")
    assert {name for name in broken if name.startswith("trust/")} >= {"trust/agreement.jsonl"}
    assert all(whole[name] == broken[name] for name in broken if name != "config.yaml")


def test_trust_makes_no_stage_stale(
    trusted: Path, tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """Neither where it goes nor where it comes: runs of before are measured when it is asked for."""
    run = shutil.copytree(trusted, tmp_path / "run")
    kept = {name: entry for name, entry in manifest(run)["stages"].items() if name != "trust"}
    pipeline.run(config(tiny_model, feedback=RATING), run)
    assert manifest(run)["stages"] == kept
    assert sentences(read(run)) == [f"Nobody measured how far the judge, {tiny_model}, agrees with people."]
    assert all(check.ok for check in audit(run)[1])
    [aside] = (run / "stale").iterdir()
    assert {path.name for path in aside.iterdir()} == {"manifest.json", "trust"}
    rows = [json.loads(line) for line in Path(files["half"]).read_text().splitlines()]
    with pytest.raises(SolonError, match="of 9 pairs"):
        pipeline.run(trusting(tiny_model, write(tmp_path / "less.jsonl", rows[-9:])), run)
    assert {name: manifest(run)["stages"][name] for name in kept} == kept


def test_another_run_takes_what_was_measured(
    trusted: Path, tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    pipeline.run(trusting(tiny_model, files["always"]), tmp_path / "run", until="feedback", donors=[trusted])
    taken = manifest(tmp_path / "run")["stages"]["trust"]
    assert taken["reused"].startswith("Taken from trusted")
    assert taken["usage"] == {}
    assert agreements(tmp_path / "run") == agreements(trusted)


def test_pairs_that_open_like_what_is_trained_on_are_left_out(
    tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    work = Workspace(trusting(tiny_model, files["always"]), tmp_path / "run", Watcher())
    trained = step.trained(work)
    rows = [json.loads(line) for line in Path(files["always"]).read_text().splitlines()]
    same = [
        {**row, "prompt": [user(f"  {dialogue[0]['content'].upper()} "), *dialogue[1:]]}
        for row, dialogue in zip(rows[:4], trained, strict=False)
    ]
    for row in same:
        row.pop("probability", None)
    found = write(tmp_path / "found.jsonl", [*same, *rows])
    work = Workspace(trusting(tiny_model, found), tmp_path / "run", Watcher())
    wanted, left_out = step.pairs(work, trained)
    assert left_out == 4
    assert {pair["id"] for pair in wanted}.isdisjoint({"1", "2", "3", "4"})
    all_same = write(tmp_path / "same.jsonl", same)
    with pytest.raises(SolonError, match=r"all 4 pairs of .*same\.jsonl .*none is left"):
        pipeline.run(trusting(tiny_model, all_same), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_judge_of_its_own_is_measured_by_itself(
    tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    """Labels may be good where the judge is not: then they are made, and there is no verdict."""
    judge = shutil.copytree(tiny_model, tmp_path / "judge")
    asked = trusting(tiny_model, files["always"], models={"assistant": str(tiny_model), "judge": str(judge)})
    work = Workspace(asked, tmp_path / "run", Watcher())
    step.run(work)
    found = agreements(tmp_path / "run")
    assert found["judge-harmlessness"]["model"] == str(judge)
    assert found["judge-harmlessness"]["said_in"] == "judge-harmlessness"
    assert found["labeller-harmlessness"]["model"] == str(tiny_model)


@pytest.mark.parametrize("method", ["contrast", "revision"])
def test_labels_that_nobody_judges_need_no_labeller(
    method: str, tiny_model: Path, files: dict[str, str], tmp_path: Path
) -> None:
    asked = trusting(tiny_model, files["never"], feedback=RATING | {"method": method})
    pipeline.run(asked, tmp_path / "run", until="red-team")
    step.run(Workspace(asked, tmp_path / "run", Watcher()))
    assert {agreement["role"] for agreement in agreements(tmp_path / "run").values()} == {"judge"}


def test_what_judges_in_the_same_way_is_asked_once(tiny_model: Path, tmp_path: Path) -> None:
    """Whatever settings of the other ways of judging say."""
    for changes in (
        {},
        {"principles": 1, "clamp": (0.3, 0.7), "rating_sharpness": 2.0, "untrusted": "smollm2"},
        {"method": "rating", "principles": 2, "few_shot": False, "both_orders": False},
    ):
        asked = Config.model_validate({"feedback": changes})
        work = Workspace(asked, tmp_path / "run", Watcher())
        [(_, label)] = labelling_ways(asked, work.laws, ["harmlessness"])
        (_, judgement), _ = judging_ways(asked, work.laws)
        assert label == judgement, changes
    asked = Config.model_validate({"feedback": {"principles": 2}})
    assert labelling_ways(asked, work.laws, ["harmlessness"])[0][1] != judging_ways(asked, work.laws)[0][1]


def test_what_people_judged_is_told_by_form_or_column(shared_data: Path, tmp_path: Path) -> None:
    aspects = ("helpfulness", "harmlessness", "")
    rows = [{**row, "aspect": aspect} for row, aspect in zip(pairs(), aspects, strict=False)]
    found = trust.people(write(tmp_path / "mixed.jsonl", rows))
    assert [pair["aspect"] for pair in found] == ["helpfulness", "harmlessness", "harmlessness"]
    panel = trust.people(str(shared_data / "pandalm/testset-v1.json.gz"))
    assert {pair["aspect"] for pair in panel} == {"helpfulness"}
    assert len(panel) < len(read_pairs(str(shared_data / "pandalm/testset-v1.json.gz")))  # ties say nothing
    with pytest.raises(SolonError, match=r"odd.jsonl line 1: aspect is 'honesty'; write harmlessness or"):
        trust.people(write(tmp_path / "odd.jsonl", [{**pairs()[0], "aspect": "honesty"}]))


def test_bad_files_are_told_before_the_run(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, none = pairs()[0], "there is no pair of different answers of which people prefer one"
    faulty = {
        "blank": ([{**row, "chosen": 3}], "line 1: chosen"),
        "models": ([row, {**row, "label_source": "ai"}], "line 2: label_source is 'ai', so no person gave"),
        "ties": ([{**row, "probability": 0.5}], none),
        "same": ([{**row, "rejected": row["chosen"]}], none),
    }
    (tmp_path / "run.yaml").write_text(f"models: {{assistant: {tiny_model}}}\n")
    for name, (rows, said) in faulty.items():
        file = write(tmp_path / f"{name}.jsonl", rows)
        assert said in fails(capsys, "run", tmp_path / "run.yaml", *TINY, "--set", f"evaluation.trust={file}")
    gone = f"evaluation.trust={tmp_path / 'gone.jsonl'}"
    assert "gone.jsonl does not exist" in fails(capsys, "run", tmp_path / "run.yaml", *TINY, "--set", gone)
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-9])
    torn = f"evaluation.trust={tmp_path / 'torn.jsonl.gz'}"
    assert "torn.jsonl.gz cannot be read" in fails(capsys, "run", tmp_path / "run.yaml", *TINY, "--set", torn)
    assert not (tmp_path / "runs").exists()


def test_solon_feedback_refuses_them_too(
    trusted: Path, files: dict[str, str], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def label(agree: str, *more: str) -> list[str]:
        named = f"{{trust: {files[agree]}}}"
        sharp = "feedback={method: rating, rating_sharpness: 1e5}"
        command = ["feedback", str(trusted / "04-comparison/pairs.jsonl"), str(tmp_path / f"{agree}.jsonl")]
        options = ["--model", str(tiny_model), "--set", sharp, "--set", f"evaluation={named}"]
        return [*command, *options, *TINY, *more]

    assert solon(*label("always")) == 0
    assert (tmp_path / "always.jsonl").exists()
    assert "its labels are refused" in fails(capsys, *label("never"))
    assert not (tmp_path / "never.jsonl").exists()
    assert solon(*label("never", "--set", f"feedback.untrusted={tiny_model}")) == 0


def test_the_plan_counts_the_questions(
    trusted: Path, tiny_model: Path, files: dict[str, str], said: dict[str, float]
) -> None:
    planned = {stage.name: stage for stage in estimate.plan(trusting(tiny_model, files["always"])).stages}
    assert planned["trust"].records == len(said)
    usage = manifest(trusted)["stages"]["trust"]["usage"]
    assert planned["trust"].tokens("prompt", naive=True) == pytest.approx(usage["tokens_naive"], rel=0.1)
    assert "trust" not in {stage.name for stage in estimate.plan(config(tiny_model)).stages}


TAMPERED: dict[str, Any] = {
    "agreement": lambda record: record | {"accuracy": 0.9},
    "labeller-harmlessness": lambda record: record | {"probability": 1 - record["probability"]},
}


@pytest.mark.parametrize("file", TAMPERED)
def test_the_audit_works_the_figures_out_again(file: str, untrusted: Path, tmp_path: Path) -> None:
    run = shutil.copytree(untrusted, tmp_path / "run")
    path = run / f"trust/{file}.jsonl"
    records = RecordFile(path).read()
    write(path, [TAMPERED[file](records[0]), *records[1:]])
    assert not {check.name: check.ok for check in audit(run)[1]}[GATE]


def test_the_audit_looks_people_up(untrusted: Path, tmp_path: Path) -> None:
    run = shutil.copytree(untrusted, tmp_path / "run")
    path = run / "trust/labeller-harmlessness.jsonl"
    write(path, [{**record, "people": float(record["probability"] > 0.5)} for record in RecordFile(path)])
    said = {check.name: check.says for check in audit(run)[1]}[GATE]
    assert "is not what people say in the file" in said


def measured(
    role: Role, accuracy: float, interval: tuple[float, float], aspect: Aspect = "harmlessness"
) -> Row:
    return {
        "id": f"{role}-{aspect}",
        "role": role,
        "aspect": aspect,
        "model": "smollm2",
        "method": "rating",
        "said_in": f"{role}-{aspect}",
        "constitution": "harmless",
        "source": "people.jsonl",
        "left_out": 0,
        "too_long": 0,
        "pairs": 600,
        "accuracy": accuracy,
        "interval": list(interval),
        "undecided": 0.1,
        "turned": 0.2,
        "shorter": 0.41,
    }


def reported(folder: Path, found: list[Row], untrusted: str | None = None) -> RunFolder:
    """A finished run that gained harmlessness by what its judge says, and what that judge is worth."""
    run = run_folder.build(folder)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["feedback"] = (settings.get("feedback") or {}) | {"untrusted": untrusted}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    (run / "trust").mkdir()
    write(run / "trust/agreement.jsonl", found)
    return read(run)


def test_a_judge_that_nobody_measured_is_called_so(tmp_path: Path) -> None:
    run = reported(tmp_path / "run", [])
    assert content.verdict(run).startswith("It worked")
    assert sentences(run) == ["Nobody measured how far the judge, smollm2, agrees with people."]


def test_a_judge_that_the_configuration_calls_untrusted_gives_no_verdict_unmeasured(tmp_path: Path) -> None:
    run = reported(tmp_path / "run", [], untrusted="smollm2")
    assert content.verdict(run).startswith(
        "There is no verdict: the configuration itself calls the judge, smollm2"
    )
    assert "Nobody measured how far the judge, smollm2, agrees with people." in sentences(run)
    assert any(
        "The labels are by smollm2, which the configuration itself calls" in one for one in sentences(run)
    )
    another = reported(tmp_path / "another", [], untrusted="another-model")
    assert content.verdict(another).startswith("It worked")
    shown = reported(tmp_path / "shown", [measured("judge", 0.61, (0.57, 0.65))], untrusted="smollm2")
    assert content.verdict(shown).startswith("It worked")


def test_what_the_judge_is_worth_decides_whether_there_is_a_verdict(tmp_path: Path) -> None:
    above = measured("judge", 0.61, (0.57, 0.65))
    for name, found, answer in (
        ("above", [above], "It worked"),
        (
            "touching",
            [measured("judge", 0.54, (0.5, 0.58))],
            "There is no verdict: the judge agrees with people",
        ),
        (
            "below",
            [measured("judge", 0.41, (0.37, 0.45))],
            "There is no verdict: the judge agrees with people",
        ),
        ("labeller", [measured("labeller", 0.41, (0.37, 0.45)), above], "It worked"),
    ):
        verdict = content.verdict(reported(tmp_path / name, found))
        assert verdict.startswith(answer), name
        assert ("which is below chance" in verdict) == (name == "below")
    aspects = [above, measured("judge", 0.49, (0.45, 0.53), "helpfulness")]
    verdict = content.verdict(reported(tmp_path / "helpful", aspects))
    assert verdict.startswith("It worked")
    assert (
        "whether it is more helpful cannot be told: the judge agrees with people about helpfulness" in verdict
    )


def test_the_first_screen_says_what_the_judge_is_worth(tmp_path: Path, open_page: Any) -> None:
    reported(
        tmp_path / "run", [measured("judge", 0.52, (0.48, 0.56)), measured("labeller", 0.52, (0.48, 0.56))]
    )
    page = open_page(f"file://{report.write(tmp_path / 'run')}")
    said = page.get_by_text("smollm2, judge and labeller, agrees with people about harmlessness on 52.0%")
    assert "always taking the longer answer would on 59.0%" in said.inner_text()
    box = said.bounding_box()
    assert box["y"] + box["height"] < 640
    row = page.locator("table", has_text="Agrees with people").locator("tbody tr").first
    assert row.inner_text().split("\n")[0].startswith("Judge")
