"""What the report shows over the steps of RL: the curves have the figures of the run's own files."""

import json
from pathlib import Path

import pytest
import scipy.stats

import run_folder
from solon import report
from solon.report import content, transcripts
from solon.store.record_file import RecordFile
from solon.store.run_folder import read
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
    assert list(drawn) == ["More harmless", "More helpful"]
    for aspect, trace in zip(("harmlessness", "helpfulness"), drawn.values(), strict=True):
        ratings = {each["model"]: each for each in summary["elo"][aspect]}
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
    assert content.verdict(read(run)).startswith("It worked")


def test_without_kept_policies_there_is_no_curve(tmp_path: Path) -> None:
    page = Page.at(report.write(run_folder.build(tmp_path / "run")))
    assert "elo over rl" not in page.json["figures"]
    assert "Over the steps of RL" not in page.text


def test_transcripts_leave_out_judgements_of_kept_policies(run: Path) -> None:
    file = RecordFile(run / "evaluation/judgements.jsonl")
    one = file.read()[0]
    before = json.dumps(transcripts.gather(read(run)))
    file.append({**one, "id": "more", "model_b": "rl-cai-20"})
    assert json.dumps(transcripts.gather(read(run))) == before


def add_harmfulness(run: Path) -> dict[tuple[str, float], float]:
    """Ratings of two answers to each of three prompts; returns the mean of each model and temperature."""
    means = {}
    for rank, (model, step) in enumerate({"initial": None, **STEPS}.items()):
        for temperature in (0.0, 1.0):
            scores = [3 - rank / 2 + temperature / 4 + (number - 2.5) / 10 for number in range(6)]
            for number, score in enumerate(scores):
                name = f"{model}/{temperature}/{number}"
                answer = {"id": name, "prompt_id": str(number // 2), "model": model, "step": step}
                more = {"temperature": temperature, "max_tokens": 64, "text": "Well."}
                RecordFile(run / "evaluation/harm-answers.jsonl").append({**answer, **more})
                RecordFile(run / "evaluation/harm-scores.jsonl").append(
                    {"id": name, "score": score, "scorer": "my-<b>scorer"}
                )
            means[model, temperature] = sum(scores) / 6
    return means


def test_harmfulness_is_drawn_over_rl_a_line_a_temperature(run: Path) -> None:
    means = add_harmfulness(run)
    page = Page.at(report.write(run))
    drawn = {trace["name"]: trace for trace in page.json["figures"]["harmfulness"]["data"]}
    assert set(drawn) == {"T = 0", "T = 1", "Initial, T = 0", "Initial, T = 1"}
    for temperature in (0.0, 1.0):
        trace = drawn[f"T = {temperature:g}"]
        assert trace["x"] == [0, 20, 40, 60]
        assert trace["y"] == pytest.approx([means[model, temperature] for model in STEPS])
        per_prompt = [-0.2, 0.0, 0.2]  # from the mean
        half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(per_prompt)
        assert trace["error_y"]["array"] == pytest.approx([half] * 4)
        across = drawn[f"Initial, T = {temperature:g}"]
        assert across["y"] == pytest.approx([means["initial", temperature]] * 2)
    assert "At temperature 1, RL-CAI is less harmful than Initial (−2.00" in page.text
    assert "RL-CAI, step 20" in page.text
    assert "Rated by my-<b>scorer." in page.text


def test_models_without_steps_have_a_table_but_no_curve(run: Path) -> None:
    add_harmfulness(run)
    for name in ("harm-answers", "harm-scores"):
        path = run / f"evaluation/{name}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if line.startswith('{"id": "initial')))
    page = Page.at(report.write(run))
    assert "harmfulness" not in page.json["figures"]
    assert "Rated by" in page.text
