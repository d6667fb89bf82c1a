"""The page that compares runs: which did best, and what differs."""

import json
import math
from pathlib import Path

import pytest
import scipy.stats
import yaml

import run_folder
from command import fails, solon
from solon.errors import SolonError
from solon.report import runs_compared
from solon.report.runs_compared import Gain, caveats, difference, differences, gather, verdict
from solon.store.record_file import RecordFile
from test_report import Page, set_elo

GAINS = {"every-principle": 0.4, "one-principle": 0.2, "without-critique": 0.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    built = [run_folder.build(folder / name, prompts=60, gain=gain) for name, gain in GAINS.items()]
    for number, run in enumerate(built):
        settings = yaml.safe_load((run / "config.yaml").read_text())
        settings["feedback"] = {"principles": "all" if number == 0 else 1}
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return built


@pytest.fixture
def three(runs: list[Path]) -> list[Path]:
    """The runs, with scores that a test may set; they are put back."""
    kept = {run: (run / "evaluation/summary.json").read_text() for run in runs}
    yield runs  # type: ignore[misc]
    for run, text in kept.items():
        (run / "evaluation/summary.json").write_text(text)


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    runs_compared.write(runs, path)
    return path


def judged(runs: list[Path], *gains: tuple[float, float, float]) -> str:
    """The verdict where the runs' last models gained so much harmlessness (Elo, low, high)."""
    for run, (elo, low, high) in zip(runs, gains, strict=True):
        set_elo(run, "rl-cai", "harmlessness", elo, low, high)
    return ": ".join(verdict(gather(runs)))


def test_the_verdict_names_the_best(three: list[Path]) -> None:
    said = judged(three, (200, 170, 230), (90, 60, 120), (10, -20, 40))
    assert said.startswith(
        "every-principle did best: its RL-CAI is more harmless than its initial model by +200 Elo "
        "(+170 to +230)"
    )
    assert "+110 Elo (+68 to +152) more than one-principle, the next; " in said
    said = judged(three, (100, 70, 130), (10, -20, 40), (90, 60, 120))
    assert said.startswith(
        "No run is clearly best: every-principle is ahead, but not clearly of without-critique;"
    )
    said = judged(three, (20, -10, 50), (10, -20, 40), (0, -30, 30))
    assert said.startswith("No run clearly worked: the best is every-principle")


def test_runs_without_an_evaluation(three: list[Path]) -> None:
    for run in three[1:]:
        (run / "evaluation/summary.json").write_text("{}")
    assert verdict(gather(three))[0] == "Only every-principle has been evaluated"
    (three[0] / "evaluation/summary.json").write_text("{}")
    assert verdict(gather(three))[0] == "It is too early to tell"
    assert caveats(gather(three)) == []


def test_the_interval_of_a_difference_is_that_of_two_normals() -> None:
    one, other = Gain(150, 110, 190), Gain(90, 60, 120)
    z = scipy.stats.norm.ppf(0.975)
    errors = [(each.high - each.low) / (2 * z) for each in (one, other)]
    expected = scipy.stats.norm(60, math.sqrt(sum(error**2 for error in errors))).interval(0.95)
    found = difference(one, other)
    assert found.elo == 60
    assert (found.low, found.high) == pytest.approx(expected)


UNMEASURED = "Nobody measured how far the judge, smollm2, agrees with people."


def test_only_what_differs_is_listed(runs: list[Path]) -> None:
    found = dict(differences(gather(runs)))
    assert found["feedback.principles"] == ["all", "1", "1"]
    assert "seed" not in found
    assert "critique.rounds" not in found
    assert caveats(gather(runs)) == ["Every gain is over the run's own initial model.", UNMEASURED]


def test_runs_that_are_measured_otherwise_are_told(three: list[Path]) -> None:
    path = three[0] / "manifest.json"
    kept = path.read_text()
    manifest = json.loads(kept)
    manifest["models"]["feedback"] = {"name": "larger-model"}
    path.write_text(json.dumps(manifest))
    [_, told, *unmeasured] = caveats(gather(three))
    path.write_text(kept)
    assert unmeasured == [UNMEASURED.replace("smollm2", "larger-model"), UNMEASURED]
    assert told == "The gains are not measured alike, since the runs differ in the judge."
    path = three[1] / "evaluation/judgements.jsonl"
    kept = path.read_text()
    fewer = [
        each for each in RecordFile(path) if each["prompt_id"] != RecordFile(path).read()[0]["prompt_id"]
    ]
    path.unlink()
    RecordFile(path).append(*fewer)
    [_, told, _] = caveats(gather(three))
    path.write_text(kept)
    assert "the held-out prompts" in told


def test_the_page_has_every_run_in_every_part(runs: list[Path], page: Path) -> None:
    shown = Page.at(page)
    assert "every-principle did best" in shown.text
    figures = shown.json["figures"]
    lead = {each["name"]: each for each in figures["lead"]["data"] if "name" in each}
    for run in runs:
        elo = json.loads((run / "evaluation/summary.json").read_text())["elo"]
        last = {each["model"]: each["elo"] for each in elo["harmlessness"]}["rl-cai"]
        assert lead[run.name]["y"] == [last]
    for name, figure in figures.items():
        if name != "lead":
            assert [each["name"] for each in figure["data"]] == list(GAINS), name
    reward = RecordFile(runs[1] / "07-rl-cai/metrics.jsonl").read()
    assert figures["RL-CAI reward"]["data"][1]["y"] == [row["reward"] for row in reward]
    drawn = {attributes["data-figure"] for _, attributes in shown.tags if "data-figure" in attributes}
    assert drawn == set(figures)
    for tag, attributes in shown.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), tag
    assert page.stat().st_size < 6_000_000


def test_runs_without_helpfulness_are_drawn_by_what_they_gained(three: list[Path], tmp_path: Path) -> None:
    for run in three:
        path = run / "evaluation/summary.json"
        summary = json.loads(path.read_text())
        del summary["elo"]["helpfulness"]
        path.write_text(json.dumps(summary))
    runs_compared.write(three, tmp_path / "page.html")
    lead = Page.at(tmp_path / "page.html").json["figures"]["lead"]
    assert [each["y"] for each in lead["data"]] == [[name] for name in GAINS]


def test_runs_of_one_name_are_told_apart(runs: list[Path], tmp_path: Path) -> None:
    other = run_folder.build(tmp_path / runs[0].name)
    assert [each.look.label for each in gather([runs[0], other])] == [str(runs[0]), str(other)]
    with pytest.raises(SolonError, match="given twice"):
        gather([runs[0], runs[0]])


def test_the_command(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert solon("report", *runs, "--out", out, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["report"] == str(out)
    assert shown["runs"]["every-principle"]["harmlessness"]["elo"] > 0
    assert shown["differences"]["feedback.principles"] == ["all", "1", "1"]
    assert solon("report", *runs, "--out", out) == 0
    assert "every-principle did best: " in capsys.readouterr().out
    assert "7 runs cannot be compared" in fails(capsys, "report", *[runs[0]] * 7)
    assert "neither config.yaml nor manifest.json" in fails(capsys, "report", runs[0], tmp_path)
