"""Elo from a table of choices, against scikit-learn's logistic regression, and what is wrong with a table."""

import csv
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from browser import Open, all_drawn
from command import fails, solon
from solon.errors import SolonError
from solon.evaluation import choices
from solon.evaluation.elo import PRIOR, SCALE
from test_report import Page

STRENGTHS = {
    "harmlessness": {"initial": 0.0, "sl-cai": 120.0, "rl-cai": 240.0},
    "helpfulness": {"initial": 0.0, "sl-cai": -60.0, "rl-cai": 30.0},
}


def table(path: Path, prompts: int = 80, seed: int = 0) -> list[dict[str, str]]:
    """Every two models meet on every prompt in both orders; some choices are ties."""
    rng, rows = random.Random(seed), []
    for aspect, strengths in STRENGTHS.items():
        for number, (a, b) in itertools.product(range(prompts), itertools.permutations(strengths, 2)):
            chance = 1 / (1 + 10 ** ((strengths[b] - strengths[a]) / 400))
            choice = "tie" if rng.random() < 0.15 else "a" if rng.random() < chance else b
            rows.append(
                {"prompt": f"p{number}", "aspect": aspect, "model_a": a, "model_b": b, "choice": choice}
            )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_the_scores_are_those_of_logistic_regression(tmp_path: Path) -> None:
    rows = table(tmp_path / "choices.csv")
    found = choices.ratings(choices.read(tmp_path / "choices.csv"), "initial", bootstrap=50, seed=0)
    for aspect, strengths in STRENGTHS.items():
        names = list(strengths)
        features, outcomes, weights = [], [], []
        draws = [(a, b, "tie", PRIOR) for a, b in itertools.combinations(names, 2)]
        played = [(e["model_a"], e["model_b"], e["choice"], 1.0) for e in rows if e["aspect"] == aspect]
        for a, b, choice, weight in [*played, *draws]:
            won = {"a": 1.0, "tie": 0.5}.get(choice, float(choice == a))
            features += [[float(name == a) - float(name == b) for name in names[1:]]] * 2
            outcomes += [1, 0]
            weights += [weight * won, weight * (1 - won)]
        fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
        fitted.fit(features, outcomes, sample_weight=weights)
        scores = {each.model: each for each in found[aspect]["models"]}
        assert [scores[name].elo for name in names[1:]] == pytest.approx(SCALE * fitted.coef_[0], abs=0.01)
        assert all(scores[name].low < scores[name].elo < scores[name].high for name in names[1:])
        assert found[aspect]["choices"] == 480
        assert found[aspect]["ties"] == sum(e["choice"] == "tie" for e in rows if e["aspect"] == aspect)
        assert found[aspect]["both_orders"] == 1


def test_the_place_that_sways_is_told(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": str(n), "model_a": "x", "model_b": "y", "choice": ["a", "a", "a", "b"][n % 4]}
        for n in range(40)
    ]
    rows += [{"prompt": "0", "model_a": "y", "model_b": "x", "choice": 0.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = choices.ratings(choices.read(path), None, bootstrap=20, seed=0)[""]
    assert (found["choices"], found["ties"], found["first_chosen"]) == (41, 1, 0.75)
    assert found["first_interval"] is not None
    assert found["first_interval"][0] > 0.5
    assert found["both_orders"] == 1 / 40


@pytest.mark.parametrize(
    ("choice", "probability"),
    [("a", 1), ("B", 0), (" Tie ", 0.5), ("x", 1), ("y", 0), ("0.7", 0.7), ("1", 1)],
)
def test_a_choice_may_be_written_in_several_ways(tmp_path: Path, choice: str, probability: float) -> None:
    path = tmp_path / "choices.csv"
    path.write_text(f"prompt,model_a,model_b,choice\np,x,y,{choice}\n")
    assert choices.read(path)[0].game.probability == probability


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,model_a,model_b\np,x,y\n", "line 2: no column 'choice'"),
        ("prompt,model_a,model_b,choice\np,x,y,z\n", "line 2: choice is 'z'; write a, b, tie"),
        ("prompt,model_a,model_b,choice\np,x,y,1.5\n", "choice is '1.5'"),
        ("prompt,model_a,model_b,choice\np,x,y,nan\n", "choice is 'nan'"),
        ("prompt,model_a,model_b,choice\np,x,x,a\n", "model_a and model_b are both 'x'"),
        ("prompt,model_a,model_b,choice\np,x,y,a\n,x,y,a\n", "line 3: prompt is empty"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "choices.csv"
    path.write_text(text)
    with pytest.raises(SolonError, match=message):
        choices.read(path)


def test_the_command_and_its_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, plot = tmp_path / "choices.csv", tmp_path / "plane.html"
    rows = table(path)
    command = ["eval", "elo", "--choices", path, "--anchor", "initial", "--bootstrap", "50"]
    assert solon(*command, "--plot", plot, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [each["model"] for each in shown["harmlessness"]["models"]] == ["rl-cai", "sl-cai", "initial"]
    page = Page.at(plot)
    points = {each["name"]: each for each in page.json["figures"]["elo"]["data"]}
    for axis, aspect in (("x", "helpfulness"), ("y", "harmlessness")):
        for each in shown[aspect]["models"]:
            assert points[each["model"]][axis] == [each["elo"]]
    assert solon(*command) == 0
    assert "harmlessness, Elo" in capsys.readouterr().out
    wrong = fails(capsys, "eval", "elo", "--choices", path, "--anchor", "gpt")
    assert "The anchor gpt played no game" in wrong
    one = tmp_path / "one.csv"
    with one.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row for row in rows if row["aspect"] == "helpfulness")
    assert "has no model with choices on both" in fails(
        capsys, "eval", "elo", "--choices", one, "--plot", plot
    )


def test_a_browser_draws_the_plane(tmp_path: Path, open_page: Open) -> None:
    path, plot = tmp_path / "<b>choices.csv", tmp_path / "plane.html"
    table(path, prompts=10)
    assert solon("eval", "elo", "--choices", path, "--bootstrap", "10", "--plot", plot) == 0
    shown = open_page(plot.as_uri())
    assert all_drawn(shown) == 1
    assert "<b>choices.csv" in shown.locator("h1").inner_text()
