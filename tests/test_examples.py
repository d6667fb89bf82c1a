"""The scripts in ``examples/`` run as they are, here on the tiny model, and do what they say."""

import json
import runpy
import sys
import warnings
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import run_folder
from solon.config import EngineSettings
from solon.inference import open_engine
from solon.inference.engine import Question
from solon.prompts.dialogue import user
from solon.records import PreferenceRecord, PromptRecord, RevisionRecord
from solon.store.record_file import RecordFile

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Starts a script as a user does, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def start(name: str, *arguments: str | Path) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return start


def test_the_readme_names_every_example() -> None:
    text = (ROOT / "README.md").read_text()
    for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]:
        assert f"(examples/{path.name})" in text


def test_the_method(started: Any, tiny_model: Path, tmp_path: Path) -> None:
    started("method.py", tiny_model)
    trained = [
        AutoModelForCausalLM.from_pretrained(tmp_path / "runs/method" / x) for x in ("sl-cai", "rl-cai")
    ]
    weights = [torch.cat([each.flatten() for each in model.parameters()]) for model in trained]
    assert weights[0].isfinite().all()
    assert not torch.equal(*weights)


def test_an_own_reward(
    started: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "own_reward", None)  # as it was, when the test is over
    started("own_reward.py", tiny_model)
    for sample in RecordFile(tmp_path / "runs/own-reward/samples.jsonl"):
        lengths = [len(word) for word in sample["response"].split() or [""]]
        assert sample["reward"] == fmean(length < 7 for length in lengths)


def test_the_notebook(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells in order, with a small model; what it shows was printed by the embedded one."""
    cells = json.loads((EXAMPLES / "method.ipynb").read_text())["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        for cell in cells:
            if cell["cell_type"] != "code":
                continue
            assert [each["name"] for each in cell["outputs"]] in ([], ["stdout"])
            exec(compile("".join(cell["source"]), "method.ipynb", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names |= {"MODEL": str(tiny_model), "FOLDER": str(tmp_path), "PROMPTS": 2, "STEPS": 1}
    shown = capsys.readouterr().out
    printed = "".join(text for cell in cells for each in cell.get("outputs", []) for text in each["text"])
    for part in ("Critique (", "Preferred:", "step 1 of ", "SL-CAI:", "RL-CAI:"):
        assert part in shown
        assert part in printed
    assert str(ROOT) not in printed


def test_an_own_judge(started: Any, tiny_model: Path, tmp_path: Path) -> None:
    started("own_judge.py", tiny_model)
    labels: list[PreferenceRecord] = RecordFile(tmp_path / "runs/panel.jsonl", PreferenceRecord).read()
    assert labels
    for label in labels:
        assert label["labeller"] == f"{tiny_model} as a nurse, a teacher, a lawyer"
        assert [len(vote["orders"]) for vote in label["votes"]] == [2, 2]


def test_a_panel_thinks_the_mean_of_its_people(tiny_model: Path) -> None:
    panel = runpy.run_path(str(EXAMPLES / "own_judge.py"))["Panel"]
    question = Question("0", [user("Which is kinder? (A) No. (B) I am sorry, no.")], ("A", "B"), "(")
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu")) as engine:
        alone = [next(panel(engine, [each]).scores([question])) for each in ("a cook", "a judge")]
        [both] = panel(engine, ["a cook", "a judge"]).scores([question])
    assert alone[0].logprobs != alone[1].logprobs
    for choice, logprob in enumerate(both.logprobs):
        assert logprob == pytest.approx(fmean(each.logprobs[choice] for each in alone), abs=1e-4)


def test_an_own_source_of_prompts(started: Any, tiny_model: Path, tmp_path: Path) -> None:
    started("own_data.py", tiny_model)
    run = tmp_path / "runs/own-data"
    prompts: list[PromptRecord] = RecordFile(run / "01-red-team/prompts.jsonl", PromptRecord).read()
    mine = [each for each in prompts if each["source"] == "own-data.jsonl"]
    kinds = [each["kind"] for each in mine if each["split"] == "train"]
    assert sorted(kinds) == ["harassment"] * 3 + ["privacy"] * 3
    revisions: list[RevisionRecord] = RecordFile(run / "02-critique/revisions.jsonl", RevisionRecord).read()
    assert {each["id"] for each in revisions} == {each["id"] for each in mine if each["split"] == "train"}


def test_reading_a_run(started: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder.build(tmp_path / "run")
    started("read_run.py", run)
    shown = capsys.readouterr().out
    revisions: list[RevisionRecord] = RecordFile(run / "02-critique/revisions.jsonl").read()
    labels: dict[str, PreferenceRecord] = {
        each["id"]: each for each in RecordFile(run / "05-feedback/preferences.jsonl")
    }
    for record in revisions:
        assert record["answer"] in shown
        assert all(made["critique"] in shown and made["revision"] in shown for made in record["rounds"])
        if label := labels.get(record["id"]):
            assert label["chosen"][0]["content"] in shown
            assert all(str(vote["orders"]) in shown for vote in label["votes"])
