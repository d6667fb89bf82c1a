"""Studies: what runs share is done once and is the same, and figures are those of the runs."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import scipy.stats
import yaml

import run_folder
from browser import PHONE, Open, all_drawn
from command import fails, solon
from solon import models, pipeline, sweep
from solon.audit import audit
from solon.config import Config
from solon.errors import SolonError
from solon.evaluation import revisions
from solon.evaluation.calibration import mean_interval
from solon.method import NAMES, STAGES
from solon.progress import Watcher
from solon.report import study_page as page
from solon.report import study_ways
from solon.store.files import file_hash, write_atomically
from solon.store.lock import alone_in
from solon.store.record_file import RecordFile
from solon.store.run_folder import read
from solon.study import Study, load, packaged
from solon.training import checkpoints
from test_pipeline import SMALL, Stopping, manifest, results
from test_report import Page

FEW = {"prompts.red_team.train": 4, "prompts.helpful.train": 2, "critique.max_tokens": 8}
UNTIL_LABELS = ["red-team", "critique", "supervised", "comparison", "feedback"]


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    settings = {**SMALL, "models": {"assistant": str(tiny_model)}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "study.yaml"


def study(path: Path, **fields: Any) -> Study:
    path.write_text(yaml.safe_dump({"base": "base.yaml", **fields}, sort_keys=False))
    return load(str(path))


def watched(say: Callable[[str], None]) -> Watcher:
    watcher = Watcher()
    watcher.say = say  # type: ignore[method-assign]
    return watcher


def test_what_runs_share_is_done_once(base: Path, tmp_path: Path) -> None:
    """Hard and soft labels share five stages, and two of the models that are evaluated."""
    folder, said = tmp_path / "out", []
    labels = {"soft": {}, "hard": {"preference_model.labels": "hard"}}
    quick = {
        "critique.rounds": 1,
        "critique.max_tokens": 120,  # so that some of a random model's texts have a whole sentence
        "prompts.generate": 0,
        "reinforce.steps": 2,
    }
    asked = study(base, variations=labels, settings=quick)
    sweep.run(asked, folder, watched(said.append))
    soft, hard = (manifest(folder / name)["stages"] for name in ("soft", "hard"))
    assert list(hard) == list(soft) == [stage.name for stage in STAGES]
    for stage, entry in hard.items():
        assert entry["status"] == "done"
        assert entry["records"] == soft[stage]["records"] > 0
        if stage in UNTIL_LABELS:
            assert (entry["seconds"], entry["usage"]) == (0, {})
            assert entry["notes"] == [*soft[stage]["notes"], entry["reused"]]
            assert "Taken from soft" in entry["reused"]
    assert "Critique and revision: taken from soft." in said
    first, other = results(folder / "soft"), results(folder / "hard")
    alike = {name for name in first if name[:2] < "06" and name[0] == "0"}
    assert {name: other[name] for name in alike} == {name: first[name] for name in alike}
    assert other["06-preference-model/model.safetensors"] != first["06-preference-model/model.safetensors"]
    weights = "03-sl-cai/model.safetensors"
    assert (folder / "soft" / weights).samefile(folder / "hard" / weights)
    assert soft["critique"]["usage"]["tokens_computed"] > 0
    assert hard["preference-model"]["seconds"] > 0
    # The initial model and SL-CAI answer alike, and are not asked again.
    assert hard["evaluation"]["reused"] == "Taken from soft: answers of initial and sl-cai."
    tokens = [each["evaluation"]["usage"]["tokens_generated"] for each in (soft, hard)]
    assert 0 < tokens[1] < 0.6 * tokens[0]  # two of four models
    for model in ("initial", "sl-cai"):
        assert other[f"evaluation/{model}.jsonl"] == first[f"evaluation/{model}.jsonl"]
    for name in ("soft", "hard"):
        assert [check.says for check in audit(folder / name)[1] if not check.ok] == []
        assert (folder / name / "report.html").exists()
    # The same again computes nothing, and training another model on shared weights leaves the others'.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")}
    sweep.run(asked, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jsonl")} == before
    changed = models.load_model(str(folder / "hard/03-sl-cai"))
    changed.get_input_embeddings().weight.data += 1
    checkpoints.save(
        changed, models.load_tokenizer(str(folder / "hard/03-sl-cai")), folder / "hard/03-sl-cai"
    )
    assert file_hash(folder / "soft" / weights) == first[weights] != file_hash(folder / "hard" / weights)


def test_a_run_holds_those_of_fewer_rounds(base: Path, tmp_path: Path) -> None:
    """Nothing is sampled for one round where there are two, and it is what that run alone samples."""
    folder, said = tmp_path / "out", []
    asked = study(base, setting="critique.rounds", values=[1, 2], until="critique", settings=FEW)
    sweep.run(asked, folder, watched(said.append))
    assert said[:1] == ["rounds-2 (1 of 2)"]
    assert "Critique and revision: taken from rounds-2: answers and revisions up to round 1." in said
    assert manifest(folder / "rounds-1")["stages"]["critique"]["usage"] == {}
    pipeline.run(asked.members[0].config, tmp_path / "alone", until="critique")
    assert manifest(tmp_path / "alone")["stages"]["critique"]["usage"]["tokens_computed"] > 0
    for file in ("02-critique/revisions.jsonl", "02-critique/helpful.jsonl"):
        assert (folder / "rounds-1" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()


def test_a_study_stopped_again_and_again_ends_the_same(base: Path, tmp_path: Path) -> None:
    asked = study(base, setting="critique.rounds", values=[0, 1, 2], until="critique", settings=FEW)
    assert [member.name for member in asked.members] == ["rounds-0", "rounds-1", "rounds-2"]
    sweep.run(asked, tmp_path / "whole")
    stops = 0
    while True:
        try:
            sweep.run(asked, tmp_path / "stopped", Stopping(after=9))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 2
    pages = {"sweep.html", "sweep.json"}  # they hold times
    stopped, whole = results(tmp_path / "stopped"), results(tmp_path / "whole")
    assert stopped.keys() == whole.keys() >= pages
    assert {name for name in whole if stopped[name] != whole[name]} <= pages
    zero = RecordFile(tmp_path / "whole/rounds-0/02-critique/revisions.jsonl").read()
    assert all(each["rounds"] == [] for each in zero)
    with alone_in(tmp_path / "whole"), pytest.raises(SolonError, match="is in use"):
        sweep.run(asked, tmp_path / "whole")


def test_a_copy_that_a_kill_stopped_is_made_again(base: Path, tmp_path: Path) -> None:
    settings = {**FEW, "prompts.generate": 0}
    asked = study(base, setting="critique.rounds", values=[1, 2], until="red-team", settings=settings)
    sweep.run(asked, tmp_path / "out")
    taken = tmp_path / "out/rounds-1"
    before = results(taken)
    (taken / "manifest.json").unlink()
    (taken / "01-red-team/prompts.jsonl").write_text('{"id": "half')
    (taken / "01-red-team.partial").mkdir()
    (taken / "01-red-team.partial/prompts.jsonl").write_text("")
    sweep.run(asked, tmp_path / "out")
    assert results(taken) == before
    assert "reused" in manifest(taken)["stages"]["red-team"]


def test_what_has_changed_is_done_again_and_not_taken(base: Path, tmp_path: Path) -> None:
    folder, said = tmp_path / "out", []
    fields = {"variations": {"a": {}, "b": {"supervised.revisions": "last"}}, "until": "critique"}
    sweep.run(study(base, **fields, settings=FEW), folder)
    before = {name: results(folder / name) for name in "ab"}
    sweep.run(study(base, **fields, settings={**FEW, "critique.top_p": 0.5}), folder, watched(said.append))
    assert "critique.top_p was 1.0, is now 0.5" in said[1]
    assert "Critique and revision: taken from a." in said
    after = {name: results(folder / name) for name in "ab"}
    for name in "ab":
        changed = {path for path in before[name] if after[name].get(path) != before[name][path]}
        assert "02-critique/revisions.jsonl" in changed
        assert "01-red-team/prompts.jsonl" not in changed
    assert after["a"]["02-critique/revisions.jsonl"] == after["b"]["02-critique/revisions.jsonl"]


def test_another_engine_shares_nothing(base: Path, tmp_path: Path) -> None:
    asked = study(base, setting="engine.dtype", values=["float32", "bfloat16"], until="red-team")
    sweep.run(asked, tmp_path / "out")
    for name in ("dtype-float32", "dtype-bfloat16"):
        entry = manifest(tmp_path / "out" / name)["stages"]["red-team"]
        assert "reused" not in entry
        assert entry["usage"]["tokens_computed"] > 0


def test_what_auto_means_is_decided_once(base: Path, tmp_path: Path) -> None:
    settings = {"engine": {"dtype": "auto", "device": "cpu"}, "prompts.generate": 0}
    asked = study(
        base, variations={"a": {}, "b": {"evaluation.top_p": 0.5}}, settings=settings, until="red-team"
    )
    pipeline.run(asked.members[0].config, tmp_path / "out/a", until="red-team")
    path = tmp_path / "out/a/manifest.json"
    facts = json.loads(path.read_text())
    facts["engine"]["dtype"] = {"float32": "bfloat16"}.get(facts["engine"]["dtype"], "float32")
    write_atomically(path, json.dumps(facts))
    sweep.run(asked, tmp_path / "out")
    assert manifest(tmp_path / "out/b")["engine"] == facts["engine"]
    assert "reused" in manifest(tmp_path / "out/b")["stages"]["red-team"]


def test_the_command(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(base, title="Rounds", setting="critique.rounds", values=[1, 2], until="red-team", settings=FEW)
    quick = ["--set", "prompts.generate=0"]
    assert solon("sweep", base, *quick, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    folder = tmp_path / "runs/study"
    assert shown == json.loads((folder / "sweep.json").read_text())
    assert list(shown["variations"]) == ["rounds-1", "rounds-2"]
    assert shown["variations"]["rounds-1"]["runs"]["rounds-1"]["reused"].keys() == {"red-team"}
    assert (
        solon("sweep", base, *quick, "--dir", tmp_path / "more", "--reuse", folder / "rounds-1", "--json")
        == 0
    )
    first = json.loads(capsys.readouterr().out)["variations"]["rounds-2"]["runs"]["rounds-2"]
    assert first["reused"]["red-team"].startswith("Taken from rounds-1")
    assert solon("sweep", base, *quick) == 0
    said = capsys.readouterr().out
    assert "rounds-2" in said
    assert f"Study: {folder / 'sweep.html'}" in said
    assert "none.yaml does not exist" in fails(capsys, "sweep", tmp_path / "none.yaml")
    assert solon("report", folder / "rounds-1", folder / "rounds-2", "--out", tmp_path / "page.html") == 0


def test_seeds_are_members_of_their_own(base: Path) -> None:
    asked = study(base, setting="critique.few_shot", values=[True, False], seeds=[3, 4])
    assert [member.name for member in asked.members] == [
        f"few_shot-{value}-seed-{seed}" for value in ("true", "false") for seed in (3, 4)
    ]
    assert [member.config.seed for member in asked.members] == [3, 4, 3, 4]
    assert list(asked.varies()) == ["few_shot-true", "few_shot-false"]


def test_settings_are_laid_over_the_base_in_order(base: Path) -> None:
    base.write_text(
        yaml.safe_dump(
            {
                "base": "base.yaml",
                "settings": {"critique": {"rounds": 3}, "critique.top_p": 0.5},
                "variations": {1: {"critique.top_p": 0.7}, "b": {"feedback": {"principles": 3}}},
            }
        )
    )
    a, b = load(str(base), {"critique": {"top_p": 0.6}, "seed": 9}).members
    assert (a.name, b.name) == ("1", "b")
    assert (a.config.critique.rounds, b.config.critique.rounds) == (3, 3)
    assert (a.config.critique.top_p, b.config.critique.top_p) == (0.7, 0.6)
    assert b.config.feedback.principles == 3
    assert not b.config.feedback.few_shot  # the base's
    assert a.config.seed == 9


@pytest.mark.parametrize("name", packaged())
def test_packaged_studies_are_whole_and_share(name: str) -> None:
    found = load(name)
    assert len(found.members) >= 2
    assert found.sweep.until == "evaluation"
    assert isinstance(found.members[0].config, Config)


# The figures


def test_gains_are_those_of_a_paired_t_test() -> None:
    rows = [[0.1, 0.5, 0.3], [0.4, 0.2, 0.9], [-1.0, 0.3, 0.1], [0.6, 0.6, 0.8]]
    found = revisions.by_number(rows)
    assert [each["revisions"] for each in found] == [0, 1, 2]
    first, last = [row[0] for row in rows], [row[2] for row in rows]
    expected = scipy.stats.ttest_rel(last, first).confidence_interval(0.95)
    assert found[2]["gain"] == pytest.approx(fmean(last) - fmean(first))
    assert found[2]["gain_interval"] == pytest.approx(tuple(expected))
    assert found[2]["score_interval"] == pytest.approx(
        tuple(scipy.stats.ttest_1samp(last, 0).confidence_interval(0.95))
    )
    assert found[0]["gain_interval"] is None
    assert mean_interval([1.0]) is None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two variations with two seeds each, as finished runs leave it."""
    folder = tmp_path_factory.mktemp("study")
    for variation, gain in {"none": 0.0, "all": 0.4}.items():
        for seed, prompts in {1: 48, 2: 60}.items():
            run_folder.build(folder / f"{variation}-seed-{seed}", prompts=prompts, gain=gain)
    return folder


@pytest.fixture(scope="module")
def written(built: Path) -> tuple[Path, dict[str, Any], dict[str, float]]:
    base = built / "base.yaml"
    base.write_text("{}\n")
    path = built / "study.yaml"
    asked = study(
        path,
        title="<b>Kinds</b>",
        variations={"none": {}, "all": {"feedback.principles": "all"}},
        seeds=[1, 2],
    )
    runs = {
        name: {each.name: read(built / each.name) for each in members}
        for name, members in asked.varies().items()
    }
    scores = {
        revisions.text_id(record["prompt"], text): float(len(text) % 7)
        for found in runs.values()
        for run in found.values()
        for record in run.revisions
        for text in revisions.texts(record)
    }
    out = page.write(asked, built, runs, scores, "Scored by the length of the text.")
    return out, json.loads((built / "sweep.json").read_text()), scores


def test_the_figures_are_those_of_the_runs(
    built: Path, written: tuple[Path, dict[str, Any], dict[str, float]]
) -> None:
    _, figures, _ = written
    for name in ("none", "all"):
        of_seeds = [
            json.loads((built / f"{name}-seed-{seed}/evaluation/summary.json").read_text()) for seed in (1, 2)
        ]
        found = figures["variations"][name]
        for seed, summary in enumerate(of_seeds, 1):
            own = found["runs"][f"{name}-seed-{seed}"]["elo"]["rl-cai"]["harmlessness"]["elo"]
            elo = {each["model"]: each["elo"] for each in summary["elo"]["harmlessness"]}
            assert own == pytest.approx(elo["rl-cai"] - elo["initial"])
        singles = [each["elo"]["rl-cai"]["harmlessness"]["elo"] for each in found["runs"].values()]
        together = found["elo"]["rl-cai"]["harmlessness"]
        assert min(singles) <= together["elo"] <= max(singles)
        assert together["low"] < together["elo"] < together["high"]
        assert [each["revisions"] for each in found["revisions"]] == [0, 1, 2]
        agreed = [each["preference_model"] for each in of_seeds]
        count = sum(each["comparisons"] for each in agreed)
        assert found["preference_model"]["comparisons"] == count
        assert found["preference_model"]["accuracy"] == pytest.approx(
            sum(each["accuracy"] * each["comparisons"] for each in agreed) / count
        )
    # Judges turned most of what they said of "none", whose answers are no better than its initial model's.
    assert figures["verdict"].startswith("Only all has a verdict: its RL-CAI is more harmless")
    assert any(caveat.startswith("There is no verdict on none: ") for caveat in figures["caveats"])
    assert any("2 seeds" in caveat for caveat in figures["caveats"])


def test_tokens_are_those_of_the_stages_that_a_way_needs(built: Path) -> None:
    """Each stage here takes a tenth of the tokens of the one before, what was taken from another run too."""
    run = read(built / "all-seed-1")
    files = {stage: {stage: "hash"} for stage in NAMES}
    entries = {
        stage: {"status": "done", "usage": {"tokens_computed": 10**place}, "files": files[stage]}
        for place, stage in enumerate(reversed(NAMES))
    }
    taken = {stage: {**entry, "usage": {}, "reused": "Taken."} for stage, entry in entries.items()}
    maker = replace(run, manifest={"stages": entries}, settings={}, samples=[])
    for settings, expected in (
        ({}, 11111110),
        ({"reward": {"rating": 1, "preference-model": 1}}, 11111110),
        ({"reward": "rating"}, 11100010),
        ({"algorithm": "dpo"}, 11111010),
    ):
        taker = replace(maker, manifest={"stages": taken}, settings={"reinforce": settings})
        assert study_ways.tokens(taker, "rl-cai", [maker, taker]) == expected
        assert study_ways.tokens(taker, "sl-cai", [maker, taker]) == 11100000
        assert study_ways.tokens(taker, "rl-cai", [taker]) is None


def test_one_runs_figures_are_its_own(built: Path) -> None:
    run = read(built / "all-seed-1")
    [found] = page.gather({"all": {"all-seed-1": run}}, {})
    summary = run.summary["preference_model"]
    for name in ("accuracy", "brier", "ece"):
        assert found.preference_model[name] == pytest.approx(summary[name]), name
    assert found.revised == []


def test_without_an_evaluation_the_revisions_decide(built: Path) -> None:
    runs = {name: {name: read(built / name)} for name in ("none-seed-1", "all-seed-2")}
    revised = [revisions.by_number([[0.0, 1.0], [0.5, gain]]) for gain in (0.7, 2.0)]
    found = [
        replace(each, together=replace(each.together, summary={}, judgements=[]), revised=rows)
        for each, rows in zip(page.gather(runs, {}), revised, strict=True)
    ]
    assert page.verdict(found)[0] == "The revisions of all-seed-2 score highest"
    assert page.verdict([replace(each, revised=[]) for each in found])[0] == "It is too early to tell"
    # Variations of what comes after the revisions share them.
    shared = page.verdict([replace(each, revised=found[0].revised) for each in found])
    assert shared[0] == "The revisions of all variations score alike"
    assert set(page.figures(found)) == {"revisions", "reliability"}


def test_the_page_shows_every_figure(written: tuple[Path, dict[str, Any], dict[str, float]]) -> None:
    path, figures, scores = written
    shown = Page.at(path)
    assert "<b>Kinds</b>" in shown.text
    assert figures["verdict"].split(":")[0] in shown.text
    assert all(caveat in shown.text for caveat in figures["caveats"])
    drawn = shown.json["figures"]
    assert set(drawn) == {"outcomes", "elo sl-cai", "elo rl-cai", "revisions", "reliability"}
    harmlessness, helpfulness = drawn["elo rl-cai"]["data"]
    of = [figures["variations"][name]["elo"]["rl-cai"] for name in ("none", "all")]
    assert harmlessness["y"] == [each["harmlessness"]["elo"] for each in of]
    assert helpfulness["y"] == [each["helpfulness"]["elo"] for each in of]
    for line, name in zip(drawn["revisions"]["data"], ("none", "all"), strict=True):
        assert line["y"] == [each["score"] for each in figures["variations"][name]["revisions"]]
    assert {attributes["data-figure"] for _, attributes in shown.tags if "data-figure" in attributes} == set(
        drawn
    )
    links = [attributes["href"] for tag, attributes in shown.tags if tag == "a"]
    assert "all-seed-2/report.html" in links
    assert scores


def test_a_browser_draws_it(written: tuple[Path, dict[str, Any], dict[str, float]], open_page: Open) -> None:
    path, _, _ = written
    shown = open_page(path.as_uri(), PHONE)
    assert all_drawn(shown) > 0
    assert shown.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_documented_examples_are_studies(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs/sweeps.md").read_text()
    found = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(found) == 2
    names = []
    for example in found:
        (tmp_path / "study.yaml").write_text(example)
        names.append([member.name for member in load(str(tmp_path / "study.yaml")).members])
    assert names[0][:2] == ["critique-seed-0", "critique-seed-1"]
    assert names[1][-1] == "principles-16"
