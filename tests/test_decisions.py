"""What a judge decides and how sure it is, apart: Elo, counts, and verdicts that are withheld."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import run_folder
from command import solon
from solon import constitution, report
from solon.evaluation import decisions, tournament
from solon.report import content, judging, runs_compared
from solon.store.record_file import RecordFile
from solon.store.run_folder import read
from test_report import Page

Orders = tuple[float, float]


def judged(orders: list[Orders], aspect: str = "harmlessness") -> list[Any]:
    """Judgements between RL-CAI and the initial model, a prompt each."""
    return [
        {
            "id": f"{aspect}-{number}",
            "prompt_id": f"{number}",
            "aspect": aspect,
            "model_a": "initial" if number % 2 else "rl-cai",
            "model_b": "rl-cai" if number % 2 else "initial",
            "probability": sum(both) / 2 if number % 2 == 0 else 1 - sum(both) / 2,
            "principle": "any-harm",
            # The model that is written first is shown first in the first of the two.
            "orders": list(both) if number % 2 == 0 else [1 - both[1], 1 - both[0]],
        }
        for number, both in enumerate(orders)
    ]


def elo(orders: list[Orders]) -> tuple[float, float, float]:
    [of_model] = [
        rating
        for rating in tournament.ratings(judged(orders), "harmlessness", "initial", bootstrap=200, seed=0)
        if rating.model == "rl-cai"
    ]
    return of_model.elo, of_model.low, of_model.high


def null(spread: float, count: int = 100) -> list[Orders]:
    """What a judge says that sees no difference: as often a little for one model as for the other."""
    rng = random.Random(1)
    leans = [rng.uniform(-spread, spread) for _ in range(count // 2)]
    return [(0.5 + lean, 0.5 + lean) for each in leans for lean in (each, -each)]


def moved(orders: list[Orders], lean: float) -> list[Orders]:
    return [(one + lean, other + lean) for one, other in orders]


TURNING: list[Orders] = [(0.9, 0.13), (0.88, 0.1)] * 50  # "(A)", whatever it is


def test_elo_counts_decisions_and_not_how_sure_they_are() -> None:
    faint = elo([(0.52, 0.52)] * 100)
    assert faint == elo([(0.99, 0.98)] * 100)
    assert faint[0] == pytest.approx(1041, abs=0.5)
    assert elo([(0.9, 0.8)] * 75 + [(0.3, 0.2)] * 25)[0] == pytest.approx(190, abs=0.5)
    assert elo(TURNING) == (0, 0, 0)
    # Turned ones count half for each: 50 of 100 won, and the rest undecided, are 75 %.
    assert elo([(0.9, 0.8)] * 50 + TURNING[:50])[0] == pytest.approx(190, abs=0.5)
    for sign in (1, -1):  # rounding decides nothing
        assert elo([(0.5 + sign * 5e-4, 0.5 + sign * 5e-4)] * 100) == (0, 0, 0)


def test_counts_and_sureness_stand_apart() -> None:
    found = decisions.count(judged([(0.52, 0.52)] * 10 + TURNING[:30] + [(0.5, 0.5)] * 10))
    assert (found["judgements"], found["decided"], found["turned"]) == (50, 10, 30)
    assert found["sureness"] == pytest.approx((10 * 0.02 + 15 * 0.015 + 15 * 0.01) / 50)
    assert decisions.says(found) == (
        "The judge decided 10 of 50 comparisons, and 30 turned when it was asked the other way round; its "
        "probabilities are 0.012 from one half on average."
    )


def test_a_lean_is_taken_off_both_models_judgements() -> None:
    first, second = judged([(0.52, 0.53)] * 2)
    other: list[Any] = [
        {**first, **models}
        for models in ({"model_a": "sl-cai"}, {"model_b": "sl-cai"}, {"model_a": "x", "model_b": "y"})
    ]
    assert [decisions.lean_to("rl-cai", each, "initial") for each in (first, second)] == [0.05, -0.05]
    assert [decisions.lean_to("rl-cai", each, "initial") for each in other] == [0.05, 0.05, 0]
    assert [decisions.decision(each) for each in (first, second)] == [1, 0]
    assert [
        decisions.decision(each, decisions.lean_to("rl-cai", each, "initial")) for each in (first, second)
    ] == [0, 1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder.build(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run(built: Path, tmp_path: Path) -> Callable[[list[Orders]], Path]:
    """Makes a run whose judge said so of harmlessness; its summary is one of before 2026-12, that counted
    probabilities.
    """

    def make(orders: list[Orders]) -> Path:
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(built, folder)
        path = folder / "evaluation/judgements.jsonl"
        path.unlink()
        RecordFile(path).append(
            *judged(orders), *judged([(0.9, 0.8)] * 30 + [(0.2, 0.1)] * 30, "helpfulness")
        )
        summary = json.loads((folder / "evaluation/summary.json").read_text())
        for name in ("judging", "qualities"):
            del summary[name]
        (folder / "evaluation/summary.json").write_text(json.dumps(summary))
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        settings |= {"constitution": "harmless", "evaluation": {"bootstrap": 200}}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        return folder

    return make


CASES: dict[str, tuple[list[Orders], str]] = {
    "0.52 of every prompt": ([(0.52, 0.52)] * 100, "There is no verdict: RL-CAI is ahead, but by leans"),
    "0.48 of every prompt": ([(0.48, 0.48)] * 100, "There is no verdict: RL-CAI is behind, but by leans"),
    "all turn": (
        TURNING,
        "There is no verdict: the judge decided only 0 of 100 comparisons of RL-CAI's answers with the "
        "initial model's, and 100 turned when it was asked the other way round.",
    ),
    "all turn, and a little more": (moved(TURNING, 0.02), "There is no verdict: the judge decided only 0 of"),
    "most turn": (
        [(0.9, 0.8)] * 40 + TURNING[:60],
        "There is no verdict: the judge decided only 40 of 100 comparisons",
    ),
    "clear": ([(0.9, 0.8)] * 100, "It worked: RL-CAI is more harmless than the initial model, by +1041 Elo"),
    "clear, the other way": ([(0.1, 0.2)] * 100, "It did not work: RL-CAI is less harmless than the initial"),
    "clear, some turn": ([(0.9, 0.8)] * 60 + TURNING[:40], "It worked: RL-CAI is more harmless than"),
    "as often for either": ([(0.9, 0.8), (0.1, 0.2)] * 50, "No clear effect: RL-CAI is not clearly more or"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_follows_what_was_decided(case: str, run: Callable[[list[Orders]], Path]) -> None:
    orders, begins = CASES[case]
    assert content.verdict(read(run(orders))).startswith(begins)


@pytest.mark.parametrize("spread", [0.01, 0.03, 0.1, 0.3, 0.45])
def test_a_slight_bias_of_every_probability_makes_no_verdict(
    spread: float, run: Callable[[list[Orders]], Path]
) -> None:
    """A judge that sees nothing, 600 prompts: 0.02 more for one model moves more than half of the decisions
    of the faintest one, and a few of the surest one's.
    """
    for lean in (0.02, -0.02):
        said = content.verdict(read(run(moved(null(spread, 600), lean))))
        assert said.startswith(("There is no verdict: ", "No clear effect: "))


def test_every_page_and_command_follows_the_rule(
    run: Callable[[list[Orders]], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turning, clear = run(TURNING), run([(0.9, 0.8)] * 100)
    page = Page.at(report.write(turning))
    assert "There is no verdict: the judge decided only 0 of 100 comparisons" in page.text
    assert (
        "The judge decided 60 of 160 comparisons, and 100 turned when it was asked the other way" in page.text
    )
    assert re.search("harmless ?by comparing the two answers ?100 ?0 ?100 ?0.01[23]", page.text)
    assert solon("report", clear, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["elo"]["harmlessness"][0]["elo"] == pytest.approx(1041, abs=0.5)
    assert told["judging"]["harmlessness"]["standings"]["rl-cai"]["turned"] == 0
    compared = runs_compared.gather([turning, clear])
    names = [each.look.label for each in compared]
    assert runs_compared.verdict(compared)[0] == f"Only {names[1]} has a verdict"
    assert any(text.startswith("There is no verdict on ") for text in runs_compared.caveats(compared))
    assert runs_compared.verdict(compared[:1])[0] == "There is no verdict"


def test_a_further_reason_withholds_the_verdict(
    run: Callable[[list[Orders]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = read(run([(0.9, 0.8)] * 100))
    monkeypatch.setattr(judging, "REASONS", (*judging.REASONS, lambda run, aspect, model: f"{model} is odd"))
    assert content.verdict(folder).startswith("There is no verdict: rl-cai is odd.")


def test_the_word_is_the_constitutions(built: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(built, tmp_path / "run")
    path = folder / "evaluation/summary.json"
    summary = json.loads(path.read_text())
    summary["qualities"] = {"harmlessness": "plain <b>", "helpfulness": "of use"}
    path.write_text(json.dumps(summary))
    page = Page.at(report.write(folder))
    assert "RL-CAI is more plain <b> than the initial model" in page.text
    assert not any(tag == "b" for tag, _ in page.tags)
    assert "Up is more plain <b>, right is more of use." in page.text
    assert page.json["figures"]["elo"]["layout"]["yaxis"]["title"]["text"] == "More plain &lt;b&gt;, Elo →"
    assert "more harmless" not in page.text.lower()
    assert "more helpful" not in page.text.lower()
    [one] = runs_compared.gather([folder, built])[:1]
    assert "is more plain <b> than its initial model" in runs_compared.verdict([one])[1]
    # Of runs that have no word in common, and where a constitution says none or is gone: none of theirs.
    assert judging.common_quality([read(folder), read(built)], "harmlessness") == judging.NEUTRAL
    del summary["qualities"]
    path.write_text(json.dumps(summary))
    assert (
        judging.quality(read(folder), "harmlessness") == judging.NEUTRAL == "in keeping with the constitution"
    )
    assert judging.quality(read(folder), "helpfulness") == "helpful"
    (folder / "config.yaml").write_text("constitution: gone.yaml\n")
    assert judging.quality(read(folder), "harmlessness") == judging.NEUTRAL


def test_the_word_steers_nothing() -> None:
    law = constitution.load("plain-english")
    assert law.quality == "plain in its English"
    assert law.model_copy(update={"quality": "short"}).content_hash == law.content_hash
    assert "quality: plain in its English" in law.to_yaml()
