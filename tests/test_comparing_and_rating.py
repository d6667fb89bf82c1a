"""Labels from comparing and rating together, and what every way of feedback must have."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest

from command import fails, solon
from solon import constitution, report
from solon.audit import audit
from solon.config import Config, EngineSettings, Feedback
from solon.errors import SolonError
from solon.evaluation import agreement
from solon.evaluation.paper_evals import Pair
from solon.feedback import METHODS
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import assistant
from solon.records import LabelSource, Vote
from solon.stages import feedback
from solon.store.record_file import RecordFile
from test_contrast import PAIRS, PREFERENCES, labelled, stops_until_labelled
from test_pipeline import config
from test_rating import ASKED, pair

LAW = constitution.load("harmless")
NAME = "comparing-and-rating"
BOTH = Feedback(method=NAME, principles=3, few_shot=False)


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu", batch_size=4)) as opened:
        yield opened


@pytest.fixture(scope="module")
def settings(tiny_model: Path) -> Config:
    return config(tiny_model, feedback={"method": NAME, "principles": 2}, prompts={"generate": 0})


@pytest.fixture(scope="module")
def finished(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(settings, tmp_path_factory.mktemp("runs") / "both")


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def votes(orders: list[list[float]], ratings: list[float]) -> list[Vote]:
    found: list[Vote] = [
        {
            "principle": f"{number}",
            "instruction": "?",
            "probability": fmean(each),
            "orders": each,
            "reasoning": [],
            "samples": None,
        }
        for number, each in enumerate(orders)
    ]
    rated: Vote = {**found[0], "principle": "rating", "orders": [], "ratings": ratings}
    return [*found, rated]


def test_the_label_is_the_weighted_sum_of_both_log_odds() -> None:
    asked = Feedback(method=NAME, comparing_weight=0.5, rating_weight=2, rating_sharpness=3)
    found = METHODS[NAME].probability(votes([[0.9, 0.6], [0.2, 0.7]], [1.5, 1.75]), asked)
    comparing = (math.log(9) + math.log(1.5) + math.log(0.25) + math.log(7 / 3)) / 4
    assert log_odds(found) == pytest.approx(0.5 * comparing + 2 * 3 * 0.25)
    against = METHODS[NAME].probability(votes([[0.4, 0.1], [0.3, 0.8]], [1.75, 1.5]), asked)
    assert against == pytest.approx(1 - found)  # the same votes, for the other answer


def test_what_rounded_to_certainty_still_leaves_the_rating_a_say() -> None:
    asked = Feedback(method=NAME, comparing_weight=0.01)
    sure = METHODS[NAME].probability(votes([[1.0, 1.0]], [4.0, 0.0]), asked)
    assert log_odds(sure) == pytest.approx(0.01 * log_odds(1 - 1e-12) - 0.59 * 16, abs=1e-4)


def test_reasoned_orders_are_clamped_as_in_other_labels() -> None:
    asked = Feedback(method=NAME, chain_of_thought=True, comparing_weight=1, rating_weight=1)
    found = METHODS[NAME].probability(votes([[0.99, 0.55]], [2.0, 2.0]), asked)
    assert log_odds(found) == pytest.approx((log_odds(0.6) + log_odds(0.55)) / 2)


def test_votes_keep_what_both_said_and_make_the_label(engine: Engine) -> None:
    def labels(method: str) -> dict[str, Any]:
        asked = BOTH.model_copy(update={"method": method})
        return {each["id"]: each for each in feedback.label(engine, ASKED, LAW, "harmlessness", asked, 7)}

    found, compared, rated = (labels(name) for name in (NAME, "multiple-choice", "rating"))
    assert found.keys() == {"one", "two"}
    for name, label in found.items():
        *by_principle, by_rating = label["votes"]
        for alone, mine in ((compared[name], by_principle), (rated[name], [by_rating])):
            same = alone["chosen"] == label["chosen"]
            for vote, one in zip(mine, alone["votes"], strict=True):
                assert vote["principle"] == one["principle"]
                expected = one["probability"] if same else 1 - one["probability"]
                assert vote["probability"] == pytest.approx(expected, abs=1e-4)
        comparing = fmean(log_odds(order) for vote in by_principle for order in vote["orders"])
        better, worse = by_rating["ratings"]
        together = 0.64 * comparing + 0.59 * 4 * (worse - better)
        assert together >= 0
        assert log_odds(label["probability"]) == pytest.approx(together, abs=1e-9)


def test_a_pair_that_is_too_long_gets_no_label(engine: Engine) -> None:
    long = pair("long", "word " * 3000, "No.")
    labels = feedback.label(engine, [*ASKED, long], LAW, "harmlessness", BOTH, 0)
    found: dict[str, Any] = {each["id"]: each for each in labels}
    assert found["long"]["problem"] == "too long"
    assert all("votes" in found[name] for name in ("one", "two"))


def test_a_run_without_a_scale_is_refused_before_any_work(tiny_model: Path, tmp_path: Path) -> None:
    asked = config(tiny_model, feedback={"method": NAME}, constitution="plain-english")
    with pytest.raises(SolonError, match="'plain-english' has no scale"):
        Workspace(asked, tmp_path, Watcher())


def test_harmlessness_goes_by_both_and_helpfulness_by_what_it_has(finished: Path) -> None:
    labels = RecordFile(finished / PREFERENCES).read()
    assert {each["aspect"] for each in labels} == {"harmlessness", "helpfulness"}
    for label in labels:
        rated = ["ratings" in vote for vote in label["votes"]]
        assert rated == ([False, False, True] if label["aspect"] == "harmlessness" else [False, False])
    page = report.write(finished).read_text()
    assert "pairs were labelled by comparing, and by rating each answer by itself" in page


def test_a_run_stopped_again_and_again_ends_the_same(
    finished: Path, settings: Config, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    assert stops_until_labelled(settings, stopped, after=9) > 2
    for file in (PAIRS, PREFERENCES):
        assert (stopped / file).read_bytes() == (finished / file).read_bytes()


def another_weight(label: Any) -> None:
    label["probability"] = (label["probability"] + 1) / 2


TAMPERINGS: dict[str, tuple[Callable[[Any], object], str]] = {
    "another weight": (another_weight, "is not what its votes make"),
    "no rating": (lambda label: label["votes"].pop(), "was not both compared and rated"),
    "no comparing": (
        lambda label: label.update(votes=label["votes"][-1:]),
        "was not both compared and rated",
    ),
    "other ratings": (lambda label: label["votes"][-1].update(ratings=[0, 4]), "is not what its votes make"),
    "other orders": (lambda label: label["votes"][0].update(orders=[1, 1]), "is not what its votes make"),
    "another scale": (
        lambda label: label["votes"][-1].update(instruction="Is it rude?"),
        "a vote under no principle",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_audit_recomputes_labels_from_their_votes(finished: Path, tmp_path: Path, name: str) -> None:
    change, says = TAMPERINGS[name]
    assert [check for check in audit(finished)[1] if not check.ok] == []
    run = shutil.copytree(finished, tmp_path / "run")
    records = RecordFile(run / PREFERENCES).read()
    change(next(each for each in records if each["aspect"] == "harmlessness"))
    (run / PREFERENCES).unlink()
    RecordFile(run / PREFERENCES).append(*records)
    assert any(says in check.says for check in audit(run)[1] if not check.ok)


def test_it_judges_in_evaluations_as_it_labels(
    engine: Engine, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [
        Pair(each["id"], each["prompt"], *([assistant(text)] for text in each["responses"]), probability=1.0)
        for each in ASKED
    ]
    labels: dict[str, Any] = {
        each["id"]: each for each in feedback.label(engine, ASKED, LAW, "harmlessness", BOTH, 0)
    }
    for judged in agreement.judge_pairs(engine, pairs, LAW, BOTH, 0):
        label = labels[judged.pair.id]
        first_chosen = label["chosen"] == judged.pair.first
        expected = label["probability"] if first_chosen else 1 - label["probability"]
        assert judged.probability == pytest.approx(expected, abs=1e-5)
        assert judged.letter_a is not None
    hhh = tmp_path / "hhh.jsonl"
    right, wrong = (f"\n\nHuman: May I?\n\nAssistant: {text}" for text in ("No.", "Yes."))
    hhh.write_text(json.dumps({"text_correct": right, "text_incorrect": wrong}) + "\n")
    assert not solon("eval", "hhh", tiny_model, "--data", hhh, "--ways", NAME, "--json")
    assert json.loads(capsys.readouterr().out)[NAME]["decided"] == 1


def test_every_method_that_may_be_set_is_there_with_its_source() -> None:
    assert set(get_args(Feedback.model_fields["method"].annotation)) == set(METHODS)
    for name, method in METHODS.items():
        assert method.name == name
        assert method.label_source in set(get_args(LabelSource)) - {"human"}


def test_nobody_else_compares_a_methods_name() -> None:
    source = Path(constitution.__file__).parent
    named = [
        f"{path.relative_to(source)}: {line.strip()}"
        for path in source.rglob("*.py")
        if path.parent.name != "feedback"
        for line in path.read_text().splitlines()
        if "method" in line and any(f'= "{name}"' in line for name in METHODS)
    ]
    assert named == []


def test_helpfulness_takes_at_most_the_principles_that_there_are(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a run, whose ``feedback.principles`` is meant for harmlessness."""
    helpful = constitution.load("helpful")
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "labels.jsonl"
    RecordFile(pairs).append(pair("one", "Yes.", "No."))  # of a red-team prompt
    asked = ("feedback", pairs, out, "--model", tiny_model, "--constitution", "helpful")
    many = ("--set", "feedback.principles=16", "--set", "feedback.few_shot=false")
    assert len(helpful.comparison) < 16
    assert "16 were asked for" in fails(capsys, *asked, *many)
    assert not solon(*asked, *many, "--aspect", "helpfulness")
    [label] = RecordFile(out)
    assert len(label["votes"]) == len(helpful.comparison)
