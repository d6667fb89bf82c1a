"""Panels: several judges label each pair, their mean is the label, and where they part is told."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from audited import BASE, change, cover
from same_bytes import merged
from solon import constitution, pipeline
from solon.audit import audit
from solon.config import Config, Feedback
from solon.errors import SolonError
from solon.evaluation.relabelling import Source, labels
from solon.feedback import METHODS, panel
from solon.inference import open_engine
from solon.method import stage
from solon.pipeline.runner import inputs
from solon.pipeline.steps import feedback as step
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Workspace
from solon.planning.estimate import plan
from solon.progress import Watcher
from solon.records import PreferenceRecord
from solon.stages import feedback
from solon.store.record_file import RecordFile

pytestmark = pytest.mark.numeric

LABELS, SECOND = "05-feedback/preferences.jsonl", "05-feedback/preferences-votes-2.jsonl"
MEAN = partial(METHODS["multiple-choice"].probability, settings=Feedback())
PROOF = "AI labels are votes of the feedback model under the constitution"


def config(tiny_model: Path, *judges: str, **feedback: Any) -> Config:
    asked = {
        "models": {"assistant": str(tiny_model)},
        "feedback": {"principles": 2, "panel": list(judges), **feedback},
    }
    return Config.model_validate(merged(BASE, asked))


@pytest.fixture(scope="module")
def second(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another judge, which can read no more than 600 tokens."""
    folder = tmp_path_factory.mktemp("judges") / "second"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    model.config.max_position_embeddings = 600
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def run(tiny_model: Path, second: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panel") / "run"
    pipeline.run(config(tiny_model, second), folder, until="feedback")
    return folder


@pytest.fixture
def forged(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def for_first(label: PreferenceRecord, pair: Any) -> float:
    first = label["chosen"][-1]["content"] == pair["responses"][0]
    return label["probability"] if first else 1 - label["probability"]


def sound(run: Path) -> dict[str, Any]:
    pairs = RecordFile(run / "04-comparison/pairs.jsonl").read()
    return {pair["id"]: pair for pair in pairs if not pair["problem"]}


def proof(run: Path, again: int = 0) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.says) for check in audit(run, again)[1]}


def test_a_label_is_the_mean_of_what_each_judge_alone_makes_it(
    run: Path, tiny_model: Path, second: str
) -> None:
    pairs, labels = sound(run), RecordFile(run / LABELS).read()
    asked = config(tiny_model, second)
    alone: dict[str, list[float]] = {name: [] for name in pairs}
    for judge in (str(tiny_model), second):
        with Workbench(asked, Watcher()) as bench, open_engine(judge, asked.engine) as engine:
            for aspect, law in bench.laws.items():
                of_aspect = [
                    pair for pair in pairs.values() if (pair["set"] == "helpful") == (aspect == "helpfulness")
                ]
                seed = bench.seed("feedback")
                for label in feedback.label(engine, of_aspect, law, aspect, asked.feedback, seed):
                    alone[label["id"]].append(for_first(label, pairs[label["id"]]))  # type: ignore[arg-type]
    assert len(labels) == len(pairs) > 4
    assert all(len(each) == 2 for each in alone.values())
    assert any(abs(one - other) > 1e-3 for one, other in alone.values())
    for label in labels:
        assert for_first(label, pairs[label["id"]]) == pytest.approx(fmean(alone[label["id"]]), abs=1e-5)
        assert [vote["judge"] for vote in label["votes"]] == [str(tiny_model)] * 2 + [second] * 2
        assert label["labeller"] == f"{tiny_model} + {second}"


def test_the_run_tells_where_its_judges_part(run: Path, tiny_model: Path, second: str) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["models"]["feedback-2"]["name"] == second
    notes = "\n".join(manifest["stages"]["feedback"]["notes"])
    assert SECOND in manifest["stages"]["feedback"]["files"]
    labels = RecordFile(run / LABELS).read()
    by_judge = [
        [fmean(vote["probability"] for vote in label["votes"] if vote["judge"] == judge) for label in labels]
        for judge in (str(tiny_model), second)
    ]
    parted = fmean(
        min(both) < 0.5 - panel.HAIR and max(both) > 0.5 + panel.HAIR for both in zip(*by_judge, strict=True)
    )
    apart = fmean(abs(one - other) for one, other in zip(*by_judge, strict=True))
    assert f"disagree about which answer is better on {parted:.1%} of {len(labels)} pairs" in notes
    assert f"{apart:.3f} apart on average" in notes
    for judge, said in zip((str(tiny_model), second), by_judge, strict=True):
        with_panel = f"{fmean(one > 0.5 + panel.HAIR for one in said):.1%} of the {len(labels)} pairs"
        assert f"{judge} prefers the panel's answer on {with_panel}" in notes
    assert f"on {parted:.1%} of {len(labels)} pairs" in (run / "report.html").read_text()


def test_disagreement_is_counted_as_by_hand() -> None:
    said = [{"a": 0.9, "b": 0.8}, {"a": 0.9, "b": 0.4}, {"a": 0.3, "b": 0.8}, {"a": 0.7}]
    labels: Any = [
        {
            "labeller": "a + b",
            "votes": [{"judge": judge, "probability": each} for judge, each in judges.items()],
        }
        for judges in said
    ]
    labels.append({"labeller": "a + b", "votes": []})  # people's
    told = panel.tells(["a", "b"], labels, MEAN)
    assert told == [
        "2 judges label, and a label is the mean over them. They disagree about which answer is better on "
        "66.7% of 3 pairs; the probabilities of two of them are 0.367 apart on average.",
        "a prefers the panel's answer on 75.0% of the 4 pairs that it judged.",
        "b prefers the panel's answer on 66.7% of the 3 pairs that it judged; 1 it did not judge, and their "
        "labels are the others' alone.",
    ]
    assert panel.tells(["a"], labels[3:], MEAN) == []


def test_a_sound_panel_raises_no_alarm(run: Path) -> None:
    found = proof(run, again=2)
    assert {name: said for name, said in found.items() if said[0] == "FAILED"} == {}
    assert found[PROOF][0] == "ok"
    assert found["votes are what the feedback model says"][0] == "ok"


def drop(label: Any) -> None:
    """The second judge's votes, so that the label is what the first makes it."""
    label["votes"] = label["votes"][:2]
    probability = fmean(vote["probability"] for vote in label["votes"])
    label["probability"] = max(probability, 0.5)


def swap_names(label: Any) -> None:
    one, other = label["votes"][0]["judge"], label["votes"][-1]["judge"]
    for vote in label["votes"]:
        vote["judge"] = other if vote["judge"] == one else one


def surer(label: Any) -> None:
    label["votes"][-1]["probability"] += 0.01
    label["probability"] += 0.0025


@pytest.mark.parametrize(
    ("forge", "file", "found"),
    [
        (drop, LABELS, "and nothing says why"),
        (swap_names, LABELS, "has other votes than"),
        (surer, LABELS, "has a vote whose"),
        (lambda label: label.update(probability=0.9), LABELS, "is not what its votes make"),
        (lambda label: label.update(labeller=label["votes"][0]["judge"]), LABELS, "is by"),
        (lambda label: label["votes"][0].pop("judge"), LABELS, "has votes of nobody"),
        (lambda ballot: ballot.update(votes=[], problem="too long"), SECOND, "has other votes than"),
    ],
)
def test_what_a_panel_did_not_say_is_found(
    forged: Path, forge: Callable[[Any], object], file: str, found: str
) -> None:
    change(forged, file, lambda records: forge(records[0]))
    cover(forged)
    status, says = proof(forged)[PROOF]
    assert status == "FAILED"
    assert found in says


def test_a_label_cannot_be_hidden_among_the_unlabelled(forged: Path) -> None:
    pairs = sound(forged)
    change(forged, LABELS, lambda labels: labels.pop())
    hidden = RecordFile(forged / SECOND).read()[-1]["id"]
    RecordFile(forged / "05-feedback/unlabelled.jsonl").append({**pairs[hidden], "problem": "too long"})
    status, says = proof(forged)["the answers compared are those of the pairs"]
    assert status == "FAILED"
    assert "has no label, and" in says


def labelled(asked: Config, pairs: list[Any], folder: Path) -> tuple[dict[str, bytes], list[str]]:
    file, aside = RecordFile(folder / "labels.jsonl"), RecordFile(folder / "unlabelled.jsonl")
    with Workbench(asked, Watcher()) as bench:
        step.label(bench, pairs, [], file, aside)
        notes = bench.take_notes()
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}, notes


def test_a_killed_panel_goes_on_to_the_same_bytes(
    run: Path, tiny_model: Path, second: str, tmp_path: Path
) -> None:
    asked, pairs = config(tiny_model, second), list(sound(run).values())
    whole, _ = labelled(asked, pairs, tmp_path)
    assert set(whole) == {"labels.jsonl", "labels-votes-1.jsonl", "labels-votes-2.jsonl"}
    file = tmp_path / "labels-votes-2.jsonl"
    file.write_bytes(file.read_bytes()[: len(whole[file.name]) // 2])  # amid a record
    (tmp_path / "labels.jsonl").unlink()
    assert labelled(asked, pairs, tmp_path)[0] == whole
    file = tmp_path / "labels.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert labelled(asked, pairs, tmp_path)[0] == whole
    with pytest.raises(SolonError, match=r"labels-votes-1\.jsonl holds votes of .*, not"):
        labelled(asked.with_models(feedback="smollm2"), pairs, tmp_path)


def test_who_could_not_read_a_pair_has_no_part_in_its_label(
    run: Path, tiny_model: Path, second: str, tmp_path: Path
) -> None:
    short, long, longest = list(sound(run).values())[:3]
    long = {**long, "responses": ["Ask her. " * 300, long["responses"][1]]}
    longest = {**longest, "responses": ["Ask her. " * 3000, longest["responses"][1]]}
    asked = config(tiny_model, second)
    measured = asked.evaluation.model_copy(update={"trust": "people.jsonl"})
    asked = asked.model_copy(update={"evaluation": measured})
    files, notes = labelled(asked, [short, long, longest], tmp_path)
    labels = [json.loads(line) for line in files["labels.jsonl"].splitlines()]
    assert [len({vote["judge"] for vote in label["votes"]}) for label in labels] == [2, 1]
    [unlabelled] = map(json.loads, files["unlabelled.jsonl"].splitlines())
    assert unlabelled == {**longest, "problem": "too long"}
    assert labels[1]["probability"] == pytest.approx(
        fmean(vote["probability"] for vote in labels[1]["votes"])
    )
    told = "\n".join(notes)
    assert "2 of 3 labels-votes-2 were set aside: 2 too long" in told
    assert "1 it did not judge, and their labels are the others' alone" in told
    assert f"only {tiny_model} was measured on people's labels, not {second}." in told


def test_a_panel_of_one_is_as_none(run: Path, tiny_model: Path, tmp_path: Path) -> None:
    pairs = list(sound(run).values())
    files, notes = labelled(config(tiny_model), pairs, tmp_path)
    assert set(files) == {"labels.jsonl"}
    assert b'"judge"' not in files["labels.jsonl"]
    assert not [note for note in notes if "judges label" in note]


def test_another_panel_makes_feedback_alone_stale(
    run: Path, tiny_model: Path, second: str, tmp_path: Path
) -> None:
    def of(*judges: str) -> dict[str, Any]:
        work = Workspace(config(tiny_model, *judges), tmp_path, Watcher())
        return {name: inputs(stage(name), work) for name in ("comparison", "feedback", "evaluation")}

    one, two = of(), of(second)
    changed = {name: {key for key, value in two[name].items() if one[name].get(key) != value} for name in two}
    assert changed == {
        "comparison": set(),
        "feedback": {"feedback.panel", "models.feedback-2.hash"},
        "evaluation": set(),
    }


def test_the_plan_counts_every_judge(tiny_model: Path, second: str) -> None:
    of_feedback = next(of for of in plan(config(tiny_model, second)).stages if of.name == "feedback")
    tokens = {load.role: load.tokens for load in of_feedback.loads if load.way == "prompt"}
    assert tokens.keys() == {"feedback", "feedback-2"}
    assert tokens["feedback-2"] == pytest.approx(tokens["feedback"])


def test_panels_that_cannot_be_are_refused(tiny_model: Path, second: str) -> None:
    with pytest.raises(SolonError, match=r"with feedback\.method contrast nobody judges"):
        Workbench(config(tiny_model, second, method="contrast"), Watcher())
    for judges in ([str(tiny_model)], [second, second]):
        with pytest.raises(SolonError, match="judges twice in the panel"):
            Workbench(config(tiny_model, *judges), Watcher())
    asked = Source([], config(tiny_model, second), str(tiny_model), 0)
    with pytest.raises(SolonError, match="one model labels under both constitutions"):
        labels(asked, constitution.load("harmless"), [], "harmlessness")
    with pytest.raises(ValueError, match=r"several label as feedback\.panel"):
        Config.model_validate({"models": {"judge": ["one", "other"]}})
