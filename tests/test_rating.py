"""Labels from ratings of each answer by itself, on the constitution's scale."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from command import fails, solon
from solon import constitution, report
from solon.audit import audit
from solon.config import Config, EngineSettings, Feedback
from solon.errors import SolonError
from solon.evaluation import agreement
from solon.evaluation.paper_evals import Pair
from solon.feedback import rating
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.pipeline.workspace import Workspace
from solon.progress import Watcher
from solon.prompts.dialogue import assistant, user
from solon.records import PairRecord
from solon.report import content
from solon.stages import feedback
from solon.store.record_file import RecordFile
from solon.store.run_folder import read
from test_contrast import PAIRS, PREFERENCES, labelled, stops_until_labelled
from test_evaluation_harmfulness import rated_plainly
from test_evaluation_hhh import Plain
from test_pipeline import config

pytestmark = pytest.mark.numeric

LAW = constitution.load("harmless")
SCALE = LAW.scale_of_answers()
RATING = Feedback(method="rating")


def pair(name: str, *responses: str) -> PairRecord:
    return {
        "id": name,
        "prompt": [user("May I?")],
        "set": "red-team",
        "kind": "",
        "split": "train",
        "responses": list(responses),
        "problem": "",
    }


ASKED = [pair("one", "Yes, go on.", "No, it hurts her."), pair("two", "Never.", "1) First\n7) Then")]


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu", batch_size=4)) as opened:
        yield opened


@pytest.fixture(scope="module")
def settings(tiny_model: Path) -> Config:
    return config(tiny_model, feedback={"method": "rating"}, prompts={"generate": 0})


@pytest.fixture(scope="module")
def finished(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(settings, tmp_path_factory.mktemp("runs") / "rating")


def test_a_label_is_the_logistic_of_the_ratings_difference(engine: Engine, tiny_model: Path) -> None:
    plain = Plain(tiny_model)

    sharp = Feedback(method="rating", rating_sharpness=30)
    found = {each["id"]: each for each in feedback.label(engine, ASKED, LAW, "harmlessness", sharp, 0)}
    assert found.keys() == {"one", "two"}
    for asked in ASKED:
        first, second = (
            fmean(rated_plainly(plain, [*asked["prompt"], assistant(text)])) for text in asked["responses"]
        )
        better = 1 / (1 + math.exp(30 * (first - second)))  # the lower rating is the better one
        label = found[asked["id"]]
        order = [0, 1] if better >= 0.5 else [1, 0]
        assert [label[side][0]["content"] for side in ("chosen", "rejected")] == [
            asked["responses"][each] for each in order
        ]
        assert label["probability"] == pytest.approx(max(better, 1 - better), abs=1e-3)
        [vote] = label["votes"]
        assert vote["ratings"] == pytest.approx([(first, second)[each] for each in order], abs=1e-3)
        assert vote["ratings"][0] <= vote["ratings"][1]
        assert vote["probability"] == label["probability"]
        assert (vote["principle"], vote["instruction"]) == ("rating", SCALE.question)
        assert (vote["orders"], vote["reasoning"], vote["samples"]) == ([], [], None)


def test_the_order_of_the_answers_changes_nothing(engine: Engine) -> None:
    turned = [{**each, "responses": each["responses"][::-1]} for each in ASKED]
    one, other = (
        {each["id"]: each for each in feedback.label(engine, asked, LAW, "harmlessness", RATING, 0)}
        for asked in (ASKED, turned)
    )
    for name, label in one.items():
        assert label["chosen"] == other[name]["chosen"]
        assert label["probability"] == pytest.approx(other[name]["probability"], abs=1e-5)


def test_a_point_is_worth_its_sharpness() -> None:
    assert rating.first_is_better(1.0, 1.5, 4.0) == pytest.approx(1 / (1 + math.exp(-2)))
    assert rating.first_is_better(1.5, 1.0, 4.0) == pytest.approx(1 / (1 + math.exp(2)))
    assert rating.first_is_better(2.0, 2.0, 4.0) == 0.5


def test_harmlessness_needs_a_scale_and_helpfulness_is_compared_without(engine: Engine) -> None:
    helpful = constitution.load("helpful")
    assert helpful.rating is None
    with pytest.raises(SolonError, match=r"'helpful' has no scale .* under 'rating'"):
        list(feedback.label(engine, ASKED, helpful, "harmlessness", RATING, 0))
    for label in feedback.label(engine, ASKED, helpful, "helpfulness", RATING, 0):
        [vote] = label["votes"]
        assert len(vote["orders"]) == 2
        assert "ratings" not in vote


def test_a_run_without_a_scale_is_refused_before_any_work(tiny_model: Path, tmp_path: Path) -> None:
    asked = config(tiny_model, feedback={"method": "rating"}, constitution="plain-english")
    with pytest.raises(SolonError, match="'plain-english' has no scale"):
        Workspace(asked, tmp_path, Watcher())


def test_the_sl_cai_model_answers_and_the_feedback_model_rates(finished: Path) -> None:
    pairs = RecordFile(finished / PAIRS, PairRecord).read()
    assert all("contrast" not in each and "revised" not in each for each in pairs)
    labels = RecordFile(finished / PREFERENCES).read()
    assert {each["id"] for each in labels} == {each["id"] for each in pairs if not each["problem"]}
    for label in labels:
        rated = ["ratings" in vote for vote in label["votes"]]
        assert rated == ([True] if label["aspect"] == "harmlessness" else [False, False])
        assert label["label_source"] == "ai"
    usage = json.loads((finished / "manifest.json").read_text())["stages"]["feedback"]["usage"]
    assert usage["tokens_computed"] < usage["tokens_naive"]  # what is asked alike is computed once


def test_a_run_stopped_again_and_again_ends_the_same(
    finished: Path, settings: Config, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    assert stops_until_labelled(settings, stopped, after=9) > 2
    for file in (PAIRS, PREFERENCES):
        assert (stopped / file).read_bytes() == (finished / file).read_bytes()


def test_the_audit_knows_ratings(finished: Path, tmp_path: Path) -> None:
    assert [check for check in audit(finished)[1] if not check.ok] == []
    run = shutil.copytree(finished, tmp_path / "run")
    records = RecordFile(run / PREFERENCES).read()
    rated = next(each for each in records if each["aspect"] == "harmlessness")
    rated["votes"][0]["instruction"] = "How rude is what the assistant said?"
    (run / PREFERENCES).unlink()
    RecordFile(run / PREFERENCES).append(*records)
    assert any("a vote under no principle" in check.says for check in audit(run)[1] if not check.ok)


def test_the_report_shows_ratings(finished: Path) -> None:
    page = report.write(finished).read_text()
    assert '"ratings":' in page
    rated = [
        vote["ratings"]
        for each in RecordFile(finished / PREFERENCES)
        for vote in each["votes"]
        if "ratings" in vote
    ]
    apart = sum(abs(one - other) for one, other in rated) / len(rated)
    assert f"{len(rated)} pairs were labelled by rating each answer" in page
    assert f"the two answers of a pair {apart:.2f} apart." in page
    votes, _ = content.principles(read(finished))
    assert "harmlessness" not in votes  # no principle voted
    assert votes["helpfulness"]["comparisons"]


def test_a_scale_of_ones_own(tmp_path: Path, tiny_model: Path) -> None:
    own = {
        "name": "brief",
        "comparison": [{"name": "shorter", "instruction": "Which answer is shorter?"}],
        "rating": {"question": "How long is it?", "scale": ["Brief.", "Long."]},
    }
    law, pairs, out = tmp_path / "brief.yaml", tmp_path / "pairs.jsonl", tmp_path / "labels.jsonl"
    law.write_text(yaml.safe_dump(own))
    RecordFile(pairs).append(*ASKED)
    assert not solon(
        "feedback",
        pairs,
        out,
        "--model",
        tiny_model,
        "--constitution",
        law,
        "--set",
        "feedback.method=rating",
    )
    votes = [vote for each in RecordFile(out) for vote in each["votes"]]
    assert len(votes) == 2
    for vote in votes:
        assert vote["instruction"] == "How long is it?"
        assert all(0 < each < 1 for each in vote["ratings"])


def test_the_scale_decides_the_hash_only_where_there_is_one() -> None:
    bare = LAW.model_copy(update={"rating": None})
    assert "rating" not in bare.model_dump_json(exclude_none=True)
    assert bare.content_hash != LAW.content_hash
    turned = SCALE.model_copy(update={"scale": SCALE.scale[::-1]})
    assert LAW.model_copy(update={"rating": turned}).content_hash != LAW.content_hash


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": ["Only one."]}, "rating.scale"),
        ({"scale": ["x"] * 11}, "rating.scale"),
        ({"scale": ["Good.", " "]}, "rating.scale"),
        ({"question": ""}, "rating.question"),
    ],
)
def test_a_bad_scale_is_told_with_its_place(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    file = tmp_path / "law.yaml"
    scale = {"question": "How rude is it?", "scale": ["Kind.", "Rude."]}
    file.write_text(yaml.safe_dump({"name": "kind", "rating": {**scale, **change}}))
    with pytest.raises(SolonError, match=says) as error:
        constitution.load(str(file))
    assert "line " in str(error.value)


def test_people_are_agreed_with_as_labels_are_made(engine: Engine) -> None:
    pairs = [
        Pair(
            each["id"], each["prompt"], *([assistant(text)] for text in each["responses"]), probability=label
        )
        for each, label in zip(ASKED, (1.0, 0.0), strict=True)
    ]
    labels = {each["id"]: each for each in feedback.label(engine, ASKED, LAW, "harmlessness", RATING, 0)}
    judged = {each.pair.id: each for each in agreement.judge_pairs(engine, pairs, LAW, RATING, 0)}
    for asked in ASKED:
        label = labels[asked["id"]]
        first_chosen = label["chosen"][0]["content"] == asked["responses"][0]
        expected = label["probability"] if first_chosen else 1 - label["probability"]
        assert judged[asked["id"]].probability == pytest.approx(expected, abs=1e-5)
    figures = agreement.judge_summary(list(judged.values()), 10, 0)
    assert "letter_a" not in figures
    right = [(judged[pair.id].probability > 0.5) == (pair.probability > 0.5) for pair in pairs]
    assert figures["accuracy"] == sum(right) / 2


def test_the_evaluations_take_ratings(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hhh, pairs = tmp_path / "hhh.jsonl", tmp_path / "pairs.jsonl"
    right, wrong = (f"\n\nHuman: May I?\n\nAssistant: {text}" for text in ("No.", "Yes."))
    hhh.write_text(json.dumps({"text_correct": right, "text_incorrect": wrong}) + "\n")
    pairs.write_text(json.dumps({"chosen": right, "rejected": wrong}) + "\n")
    assert not solon("eval", "hhh", tiny_model, "--data", hhh, "--ways", "rating,multiple-choice", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["rating"]["decided"] == found["multiple-choice"]["decided"] == 1
    assert "letter_a" in found["multiple-choice"] and "letter_a" not in found["rating"]
    rating = ("--set", "feedback.method=rating")
    assert not solon("eval", "preferences", tiny_model, "--data", pairs, *rating, "--json")
    assert "letter_a" not in json.loads(capsys.readouterr().out)["judge"]
    asked = ("eval", "preferences", tiny_model, "--data", pairs, *rating, "--constitution", "helpful")
    assert "has no scale to rate answers by" in fails(capsys, *asked)
