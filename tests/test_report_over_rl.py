"""What the report shows over the steps of RL: the curves have the figures of the run's own files."""

import json
from pathlib import Path

import pytest

import run_folder
from solon import report
from solon.report import content, folder, transcripts
from solon.run import RecordFile
from test_report import Page

STEPS = {"sl-cai": 0, "rl-cai-20": 20, "rl-cai-40": 40, "rl-cai": 60}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with two policies kept on the way."""
    built = run_folder.build(tmp_path / "run")
    path = built / "evaluation/summary.json"
    summary = json.loads(path.read_text())
    summary["rl_steps"] = STEPS
    for sign, aspect in ((1, "harmlessness"), (-1, "helpfulness")):
        summary["elo"][aspect] += [
            {
                "model": f"rl-cai-{step}",
                "elo": sign * step,
                "low": sign * step - 9.0,
                "high": 99.0,
                "games": 5,
            }
            for step in (40, 20)
        ]
    path.write_text(json.dumps(summary))
    return built


def test_elo_over_rl_is_drawn_in_the_order_of_steps(run: Path) -> None:
    summary = json.loads((run / "evaluation/summary.json").read_text())
    page = Page.at(report.write(run))
    drawn = {trace["name"]: trace for trace in page.json["figures"]["elo over rl"]["data"]}
    assert list(drawn) == ["Harmlessness", "Helpfulness"]
    for name, trace in drawn.items():
        ratings = {each["model"]: each for each in summary["elo"][name.lower()]}
        assert trace["x"] == [0, 20, 40, 60]
        assert trace["y"] == [ratings[model]["elo"] for model in STEPS]
        for place, model in enumerate(STEPS):
            up, down = trace["error_y"]["array"][place], trace["error_y"]["arrayminus"][place]
            assert trace["y"][place] + up == pytest.approx(ratings[model]["high"])
            assert trace["y"][place] - down == pytest.approx(ratings[model]["low"])
    assert "Over the steps of RL" in page.text and "−40" in page.text
    # The plane and the verdict stay those of the method's three models.
    assert [trace["name"] for trace in page.json["figures"]["elo"]["data"] if "name" in trace] == [
        "Initial",
        "SL-CAI",
        "RL-CAI",
    ]
    assert content.verdict(folder.read(run)).startswith("It worked")


def test_without_kept_policies_there_is_no_curve(tmp_path: Path) -> None:
    page = Page.at(report.write(run_folder.build(tmp_path / "run")))
    assert "elo over rl" not in page.json["figures"]
    assert "Over the steps of RL" not in page.text


def test_transcripts_leave_out_judgements_of_kept_policies(run: Path) -> None:
    file = RecordFile(run / "evaluation/judgements.jsonl")
    one = file.read()[0]
    before = json.dumps(transcripts.gather(folder.read(run)))
    file.append({**one, "id": "more", "model_b": "rl-cai-20"})
    assert json.dumps(transcripts.gather(folder.read(run))) == before
