"""The study of judgement, on the tiny model: it resumes, and its figures are those of its measurements."""

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).parent.parent / "studies/judgement"))
import study
import table

HHH = {
    "text_correct": "\n\nHuman: Is {0} even?\n\nAssistant: Yes, {0} is even.",
    "text_incorrect": "\n\nHuman: Is {0} even?\n\nAssistant: No, {0} is odd.",
}
PAIRS = {
    "chosen": "\n\nHuman: Lend me {0} pens.\n\nAssistant: Gladly, take {0}.",
    "rejected": "\n\nHuman: Lend me {0} pens.\n\nAssistant: {0}? Never!",
}
CHOICE = {
    "prompt": "Human: I have {0}.\n\nAssistant: Good.\n\nSo?\n (A) Harmful.\n (B) Ethical.\nThe answer is:",
    "corrects": [" (B)"],
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("study")

    def write(name: str, row: dict[str, Any], count: int) -> dict[str, Any]:
        rows = [
            {key: text.format(2 * n) if isinstance(text, str) else text for key, text in row.items()}
            for n in range(1, count + 1)
        ]
        (folder / name).write_text("".join(json.dumps(each) + "\n" for each in rows))
        return {"file": name, "characters": 1000, "constitution": "harmless"}

    config = {
        "seed": 0,
        "engine": {"dtype": "float32", "device": "cpu", "batch_size": 4},
        "models": {"tiny": str(tiny_model)},
        "paper_prompts": "none",
        "data": {
            "hhh": {**write("hhh.jsonl", HHH, 24), "form": "hhh"},
            "people": {**write("people.jsonl", PAIRS, 6), "form": "pairs"},
            "harm": {**write("harm.jsonl", CHOICE, 3), "form": "choices"},
            "red-team": {"file": "packaged", "form": "prompts", "constitution": "harmless"},
        },
        "ways": {
            "zero-first": {"few_shot": False},
            "zero-last": {"few_shot": False, "layout": "principle-last"},
            "no-principle": {"few_shot": False, "question": "Which answer is better?"},
            "all-last": {"few_shot": False, "layout": "principle-last", "principles": "all"},
            "reasoned": {
                "few_shot": False,
                "chain_of_thought": True,
                "temperature": 1.0,
                "samples": 4,
                "max_tokens": 4,
            },
            "each-answer": {},
            "likelihood": {},
            "rated": {},
            "made-pairs": {},
        },
        "schedule": [
            {"models": ["tiny"], "data": ["hhh", "people", "harm"], "rows": 2, "ways": ["zero-first"]},
            {"models": ["tiny"], "data": ["hhh"], "rows": 24, "ways": ["zero-first", "each-answer"]},
            {"models": ["tiny"], "data": ["people"], "rows": 2, "ways": ["all-last", "reasoned"]},
            {"models": ["tiny"], "data": ["people"], "rows": 4, "ways": ["zero-last", "likelihood", "rated"]},
            {"models": ["tiny"], "data": ["people"], "rows": 6, "characters": 39, "ways": ["no-principle"]},
            {"models": ["tiny"], "data": ["red-team"], "rows": 2, "ways": ["made-pairs"]},
        ],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def run(plan: Path, results: Path, *more: str) -> list[dict[str, Any]]:
    study.main(["--data", str(plan.parent), "--config", str(plan), "--results", str(results), *more])
    return [json.loads(line) for line in (results / "tiny.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def measured(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    results = tmp_path_factory.mktemp("results")
    return results, run(plan, results)


def test_every_cell_is_measured_once(measured: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = measured
    counts: dict[tuple[str, str], int] = {}
    for each in records:
        counts[each["data"], each["way"]] = counts.get((each["data"], each["way"]), 0) + 1
    expected = {
        ("hhh", "zero-first"): 24,
        ("hhh", "each-answer"): 24,
        ("people", "zero-first"): 2,
        ("people", "zero-last"): 4,
        ("people", "all-last"): 2,
        ("people", "reasoned"): 8,
        ("people", "likelihood"): 4,
        ("people", "rated"): 4,
        ("people", "no-principle"): 4,  # two of six are longer
        ("harm", "zero-first"): 2,
        ("red-team", "made-pairs"): 2,
    }
    assert {key: count for key, count in counts.items() if "prior" not in key[0]} == expected
    assert len({study.key(each) for each in records}) == len(records)
    assert sum(each["tokens"][0] for each in records) > 0


def test_a_stopped_study_goes_on(
    plan: Path, measured: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    _, whole = measured
    lines = [json.dumps(each) for each in whole]
    (tmp_path / "tiny.jsonl").write_text("\n".join([*lines[:30], lines[30][:20]]))  # torn by a kill
    again = {study.key(each): each["values"] for each in run(plan, tmp_path)}
    assert again.keys() == {study.key(each) for each in whole}
    for each in whole:
        if each["way"] != "made-pairs":  # classes of texts, which are sampled
            found = np.array(again[study.key(each)]).ravel()
            np.testing.assert_allclose(found, np.array(each["values"]).ravel(), atol=1e-3)


def test_the_figures_are_those_of_the_measurements(
    plan: Path, measured: tuple[Path, list[dict[str, Any]]]
) -> None:
    results, records = measured
    run(plan, results, "--report")
    tables = json.loads((results / "table.json").read_text())
    rows = {
        row.id: row for row in study.ordered(plan.parent, yaml.safe_load(plan.read_text())["data"]["hhh"], 0)
    }
    mine = {
        each["id"]: each["values"][0]
        for each in records
        if each["data"] == "hhh" and each["way"] == "zero-first"
    }
    kept = [id for id in mine if table.half(rows[id]) == "report"]
    assert 4 <= len(kept) <= 20
    found = {row["way"]: row for row in tables["ways"] if row["data"] == "hhh"}
    for name, of in {
        "zero-first, both orders": lambda a, b: (expit(a) + expit(b)) / 2,
        "zero-first, both orders in log-odds": lambda a, b: expit((a + b) / 2),
    }.items():
        labels = [of(*mine[id]) for id in kept]  # the first answer of these rows is right
        assert found[name]["rows"] == len(kept)
        assert found[name]["brier"] == pytest.approx(fmean((1 - each) ** 2 for each in labels), abs=1e-4)
        right = fmean(0.5 if abs(each - 0.5) < 1e-6 else each > 0.5 for each in labels)  # a tie counts half
        assert found[name]["accuracy"] == pytest.approx(right, abs=1e-3)
    # One order's letters are the model's liking alone; the prior knows it, and so does the average.
    one, less = found["zero-first, one order"], found["zero-first, one order, less the prior"]
    assert one["brier"] != less["brier"]
    assert found["zero-first, one order"]["tokens"] == round(
        sum(each["tokens"][0] for each in records if (each["data"], each["way"]) == ("hhh", "zero-first"))
        / 48
    )
    [layout] = [each for each in tables["layouts"] if each["data"] == "people"]
    assert layout["rows"] == 2
    [made] = tables["pairs"]
    assert made["prompts"] == 2
    page = (results / "table.md").read_text()
    for row in tables["ways"]:
        assert f"| tiny | {row['data']} | {row['way']} | {row['rows']} |" in page


def test_what_a_principle_adds_and_what_length_alone_says(plan: Path) -> None:
    settings = yaml.safe_load(plan.read_text())
    one = study.ordered(plan.parent, settings["data"]["people"], 0)[0]
    gladly = one.texts[0].startswith("Gladly")  # "Gladly, take 2." has a word more than "2? Never!"
    measured = {
        "zero-first": [[0.5, 0.1]],
        "no-principle": [[0.4, -0.4]],
        "likelihood": [[-6.0, -5.0], [-7.0, -4.0]],
        "rated": [1.5, 2.25],
    }
    records = [
        {"data": "people", "way": way, "id": one.id, "values": values, "tokens": [1, 1, 0]}
        for way, values in measured.items()
    ]
    found = table.Measured(settings, "people", [one], records).variants()
    first, second = (3, 2) if gladly else (2, 3)
    for name, log_odds in {
        "zero-first less no-principle, both orders in log-odds": 0.3,
        "each rated for harm from 0 to 4": 0.75,  # the first is the milder one
        "likelihood under the principle": -1.0,
        "likelihood under the principle, per word": -6.0 / first + 5.0 / second,
        "likelihood contrast": 2.0,
        "the shorter answer, whatever it says": second - first,
    }.items():
        assert found[name][1] == pytest.approx({one.id: log_odds}), name


def test_weights_are_those_of_logistic_regression_and_never_turn_a_way_round() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 2)) * [1, 5]
    labels = (rng.random(400) < expit(values @ [1.5, -0.3])).astype(float)
    weights = table.fitted(values, labels)
    assert weights[0] > 0.5
    assert weights[1] == 0
