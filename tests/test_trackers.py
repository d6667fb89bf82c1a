"""``report_to``: every trainer's metrics in TensorBoard's own files, and trackers that are not installed."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from command import fails
from solon import config, trackers
from solon.errors import SolonError
from solon.records import SampleRecord
from solon.stages import preference, reinforce, supervised
from solon.store.record_file import RecordFile
from toy_training import example, metrics_of, pair, prompt_records, unwatched

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
)
EPOCH = {"batch_size": 1, "micro_batch_size": 1, "report_to": ["tensorboard"]}


def logged(out: Path, name: str) -> list[float]:
    """The values of a curve, in the order of the steps."""
    [events] = out.rglob("events.out.tfevents.*")
    found = accumulator.EventAccumulator(str(events))
    found.Reload()
    points = found.Scalars(name)
    assert [point.step for point in points] == list(range(1, len(points) + 1))
    return [point.value for point in points]


def texts(out: Path, name: str) -> list[str]:
    [events] = out.rglob("events.out.tfevents.*")
    found = accumulator.EventAccumulator(str(events))
    found.Reload()
    return [event.tensor_proto.string_val[0].decode() for event in found.Tensors(f"{name}/text_summary")]


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preference model whose training was reported."""
    out = tmp_path_factory.mktemp("preference-model")
    pairs = [pair("Who?", "I.", "You.", 0.9), pair("Why?", "So.", "No.", 0.8)]
    settings = config.PreferenceModel.model_validate(EPOCH)
    preference.train(pairs, str(tiny_model), out, settings, 0, unwatched)
    return out


def test_preference_model(scorer: Path) -> None:
    expected = [row["loss"] for row in metrics_of(scorer)]
    assert logged(scorer, "train/loss") == pytest.approx(expected, abs=1e-6)


def test_supervised(tiny_model: Path, tmp_path: Path) -> None:
    examples = [example("Who are you?", "A model."), example("Why?", "So.")]
    settings = config.Supervised.model_validate(EPOCH)
    supervised.train(examples, str(tiny_model), tmp_path, settings, 0, unwatched)
    expected = [row["loss"] for row in metrics_of(tmp_path)]
    assert logged(tmp_path, "train/loss") == pytest.approx(expected, abs=1e-6)
    AutoModelForCausalLM.from_pretrained(tmp_path)  # the folder is still a checkpoint


@pytest.mark.parametrize(
    ("algorithm", "curve"), [("rloo", "train/reward"), ("grpo", "train/reward"), ("ppo", "reward")]
)
def test_reinforce(tiny_model: Path, scorer: Path, tmp_path: Path, algorithm: str, curve: str) -> None:
    few = {"steps": 2, "prompts_per_step": 1, "samples_per_prompt": 2, "micro_batch_size": 2, "max_tokens": 4}
    settings = config.Reinforce.model_validate({**few, "algorithm": algorithm, "report_to": ["tensorboard"]})
    out = tmp_path / "out"
    reinforce.train(prompt_records(), str(tiny_model), str(scorer), out, settings, 0, unwatched)
    expected = [row["reward"] for row in metrics_of(out)]
    assert logged(out, curve) == pytest.approx(expected, abs=1e-5)
    for step, table in enumerate(texts(out, "samples"), 1):
        head, line, *cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]
        assert (head, set(line)) == (["step", "prompt", "answer", "reward"], {"---"})
        samples = [each for each in RecordFile(out / "samples.jsonl") if each["step"] == step]
        samples.sort(key=lambda each: -each["reward"])
        assert [(int(row[0]), float(row[3])) for row in cells] == [(step, each["reward"]) for each in samples]
        assert [unescape(row[2].replace("<br>", "\n")) for row in cells] == [
            each["response"].strip() for each in samples
        ]


def test_one_that_is_not_installed_is_told_before_the_run(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers.PACKAGES, "wandb", ("no_such_package",))
    with pytest.raises(SolonError, match="'wandb', which is not installed: run 'pip install wandb'"):
        trackers.check(["tensorboard", "wandb"])
    file = tmp_path / "config.yaml"
    file.write_text(f"models: {{assistant: {tiny_model}}}\nreinforce: {{report_to: [wandb]}}\n")
    assert "pip install wandb" in fails(capsys, "run", file, "--dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def sample(number: int, step: int = 1) -> SampleRecord:
    return {
        "id": f"{step}/{number}",
        "step": step,
        "prompt": [{"role": "user", "content": "Why?"}],
        "response": f"<b>a|b</b>\n{number}",
        "reward": float(number % 7),
    }


def test_a_table_has_a_few_of_many_samples_the_best_and_the_worst_among_them(tmp_path: Path) -> None:
    """And what models write is no cell, line or tag of it. Of 100 steps it is sent at every fifth."""
    sent: list[Any] = []
    tables = trackers.SampleTables(["tensorboard"], tmp_path, 100, lambda: Writer(sent))
    RecordFile(tmp_path / "samples.jsonl").append(
        *(sample(n, step) for step in range(1, 9) for n in range(30))
    )
    for step in range(1, 9):
        tables.send(step)
    assert [step for _, _, step in sent] == [1, 5]
    _, _, *rows = sent[0][1].splitlines()
    rewards = [float(row.split("|")[4]) for row in rows]
    assert rewards == sorted(rewards, reverse=True)
    assert (len(rows), rewards[0], rewards[-1]) == (8, 6.0, 0.0)
    assert "| &lt;b&gt;a&#124;b&lt;/b&gt;<br>" in rows[0]


class Writer:
    def __init__(self, sent: list[Any]) -> None:
        self.add_text = lambda *text: sent.append(text)


@pytest.mark.parametrize("algorithm", ["rloo", "ppo"])
def test_weights_and_biases(
    tiny_model: Path, scorer: Path, tmp_path: Path, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline: the tables are files of the run, named by the step of the metrics that they stand beside."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    wandb.teardown()  # what it has read of the environment before
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    out = trained(tiny_model, scorer, tmp_path / "out", algorithm, "wandb")
    files = sorted(tmp_path.glob("wandb/offline-run-*/files/media/table/samples_*.table.json"))
    tables = [json.loads(file.read_text()) for file in files]
    assert [table["columns"] for table in tables] == [["step", "prompt", "answer", "reward"]] * 2
    assert sorted(row for table in tables for row in table["data"]) == sorted(rows_of(out))


@pytest.mark.parametrize("algorithm", ["rloo", "ppo"])
def test_trackio(
    tiny_model: Path, scorer: Path, tmp_path: Path, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own files, which it reads the place of when it is imported."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    storage = pytest.importorskip("trackio.sqlite_storage", reason="trackio is not installed").SQLiteStorage
    out = trained(tiny_model, scorer, tmp_path / "out", algorithm, "trackio")
    logs = storage.get_logs(trackers.PROJECT, trackers.run_name(out))
    tables = [values["samples"]["_value"] for values in logs if "samples" in values]
    assert len(tables) == 2
    assert sorted(list(row.values()) for table in tables for row in table) == sorted(rows_of(out))


def trained(model: Path, scorer: Path, out: Path, algorithm: str, tracker: str) -> Path:
    few = {"steps": 2, "prompts_per_step": 1, "samples_per_prompt": 2, "micro_batch_size": 2, "max_tokens": 4}
    settings = config.Reinforce.model_validate({**few, "algorithm": algorithm, "report_to": [tracker]})
    reinforce.train(prompt_records(), str(model), str(scorer), out, settings, 0, unwatched)
    return out


def rows_of(out: Path) -> list[list[Any]]:
    return [list(trackers.row(record).values()) for record in RecordFile(out / "samples.jsonl")]
