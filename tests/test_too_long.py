"""What does not fit a model's context, or a training's limit, is set aside and told, and stops nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from solon import config, constitution
from solon.config import EngineSettings
from solon.errors import SolonError
from solon.evaluation import tournament
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.inference import blocks, open_engine
from solon.inference.engine import Engine
from solon.models import load_tokenizer
from solon.optimisers import OPTIMISERS
from solon.pipeline.workbench import Workbench
from solon.planning.stage_work import Assumptions
from solon.planning.workload import Workload
from solon.progress import Watcher
from solon.prompts.dialogue import user
from solon.records import PairRecord, PreferenceRecord, PromptRecord
from solon.stages import comparison, critique, examples, feedback
from solon.store.record_file import RecordFile
from toy_training import example, metrics_of, pair, prompt_records

LAW = constitution.load("harmless")
TEXTS = {"short": "May I?", "long": "word " * 1000}


@pytest.fixture(scope="module")
def engine(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("short-sighted")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.config.max_position_embeddings = 1000
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    with open_engine(str(folder), EngineSettings(dtype="float32", device="cpu", batch_size=4)) as engine:
        yield engine


def prompts() -> list[PromptRecord]:
    return [
        {
            "id": name,
            "prompt": [user(text)],
            "set": "red-team",
            "kind": "",
            "split": "train",
            "source": "test",
        }
        for name, text in TEXTS.items()
    ]


def pairs() -> list[PairRecord]:
    return [
        {
            **{name: each[name] for name in ("id", "prompt", "set", "kind", "split")},
            "responses": ["Yes.", "No."],
            "problem": "",
        }
        for each in prompts()
    ]


def test_revisions_and_answers(engine: Engine) -> None:
    settings = config.Critique(rounds=2, few_shot=False, max_tokens=8)
    revised = {each["id"]: each for each in critique.revise(engine, prompts(), LAW, settings, 0)}
    assert [each["problem"] for each in revised["long"]["rounds"]] == ["too long"] * 2
    assert "too long" not in {each["problem"] for each in revised["short"]["rounds"]}
    answered = {each["id"]: each for each in critique.answer(engine, prompts(), settings, 0)}
    assert answered["long"]["problem"] == "too long"
    with pytest.raises(SolonError, match="none of the 1 records has a sound revision"):
        examples.gather([revised["long"]], [answered["long"]], config.Supervised())


def test_pairs(engine: Engine) -> None:
    found = {
        each["id"]: each
        for each in comparison.pairs(
            engine,
            prompts(),
            METHODS["multiple-choice"],
            Material({}, 0, config.Comparison(max_tokens=4)),
            0.0,
        )
    }
    assert found["long"]["problem"] == "too long"
    assert found["long"]["responses"] == ["", ""]
    assert found["short"]["problem"] != "too long"


@pytest.mark.parametrize("settings", [{}, {"chain_of_thought": True}, {"method": "rating"}])
def test_labels(engine: Engine, tmp_path: Path, settings: dict[str, Any]) -> None:
    file = RecordFile(tmp_path / "preferences.jsonl", PreferenceRecord)
    aside = RecordFile(tmp_path / "unlabelled.jsonl", PairRecord)
    asking = config.Feedback(few_shot=False, max_tokens=4, **settings)
    asked: list[str] = []

    def make(engine: Engine, wanted: list[PairRecord]) -> Iterator[PreferenceRecord | PairRecord]:
        asked.extend(each["id"] for each in wanted)
        return feedback.label(engine, wanted, LAW, "harmlessness", asking, 0)

    for _ in range(2):
        labels = blocks.generate(
            file,
            pairs(),
            engine.model_name,
            EngineSettings(batch_size=4),
            lambda: engine,
            make,
            lambda done, total: None,
            aside=aside,
        )
        assert [each["id"] for each in labels] == ["short"]
        assert [(each["id"], each["problem"]) for each in aside.read()] == [("long", "too long")]
    assert asked == ["short", "long"]  # what was set aside is not tried again


def test_the_evaluation(engine: Engine) -> None:
    settings = config.Evaluation(max_tokens=4)
    answers = {each["id"]: each for each in tournament.answer(engine, prompts(), settings, 0)}
    assert (answers["long"]["problem"], answers["short"]["problem"]) == ("too long", "")
    texts = {"a": {"short": "Yes.", "long": "Yes."}, "b": {"short": "No."}}
    assert [each["id"] for each in tournament.answered_by_all(prompts(), texts)] == ["short"]
    texts["b"]["long"] = "No."
    wanted = tournament.matches(prompts(), texts)
    played = {
        each["id"]: each
        for each in tournament.play(engine, wanted, {"harmlessness": LAW}, config.Feedback(few_shot=False), 0)
    }
    assert played["long:a:b"] == {"id": "long:a:b", "problem": "too long"}
    assert "probability" in played["short:a:b"]


class Heard(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def trained(
    stage: str, records: list[Any], models: list[str | None], out: Path, **settings: Any
) -> tuple[Any, Any]:
    """What the stage's training returns, and what is told and noted of it."""
    watcher = Heard()
    with Workbench(config.Config.model_validate(settings), watcher) as bench:
        metrics = bench.train(stage, records, models, out, 0)
        assert bench.take_notes() == watcher.said  # what is told is noted in the manifest, and in the report
    return metrics, watcher.said


SMALL = {"batch_size": 4, "micro_batch_size": 4, "max_length": 60}


def test_pairs_that_are_not_trained_on_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    """40 pairs of which 18 are too long: one of the two answers suffices for that."""
    records = [pair(f"{number}?", "Yes.", "No. " * (30 * (number < 18)), 0.9) for number in range(40)]
    metrics, told = trained(
        "preference-model", records, [str(tiny_model)], tmp_path / "out", preference_model=SMALL
    )
    rows = metrics_of(tmp_path / "out")
    assert {row["left_out"] for row in rows} == {18} and metrics["left_out"] == 18
    assert len(rows) == 6  # steps of four of the other 22
    assert told == [
        "18 of 40 comparisons are longer than preference_model.max_length (60 tokens) and are not trained "
        "on: raise it to take them whole."
    ]
    _, told = trained(
        "preference-model", records[18:], [str(tiny_model)], tmp_path / "all", preference_model=SMALL
    )
    assert told == []


def test_examples_that_lose_their_end_or_are_not_trained_on_are_counted(
    tiny_model: Path, tmp_path: Path
) -> None:
    records = [
        *(example(f"{number}?", "Yes.") for number in range(5)),
        *(example(f"Long {number}?", "Yes. " * 40) for number in range(3)),
        *(example("Why? " * 40 + str(number), "Yes.") for number in range(2)),
    ]
    metrics, told = trained("supervised", records, [str(tiny_model)], tmp_path / "out", supervised=SMALL)
    assert (metrics["left_out"], metrics["cut_off"]) == (2, 3)
    longer = "of 10 examples are longer than supervised.max_length (60 tokens) and are"
    assert told == [
        f"2 {longer} not trained on: raise it to take them whole.",
        f"3 {longer} trained on without their ends: raise it to take them whole.",
    ]


SAMPLING = [name for name, optimiser in OPTIMISERS.items() if optimiser.learns_from == "samples"]


@pytest.mark.parametrize("algorithm", SAMPLING)
def test_prompts_that_rl_leaves_out_are_counted(tiny_model: Path, tmp_path: Path, algorithm: str) -> None:
    records = [*prompt_records(), *prompts()]
    small = {"steps": 2, "prompts_per_step": 2, "samples_per_prompt": 2, "max_tokens": 4}
    asked = {**small, "algorithm": algorithm, "micro_batch_size": 4, "max_prompt_length": 200}
    metrics, told = trained("reinforce", records, [str(tiny_model)] * 2, tmp_path / "out", reinforce=asked)
    assert {row["left_out"] for row in metrics_of(tmp_path / "out")} == {1} and metrics["left_out"] == 1
    assert told == [
        "1 of 9 prompts are longer than reinforce.max_prompt_length (200 tokens) and are not trained on: "
        "raise it to take them whole."
    ]


def test_pairs_that_dpo_leaves_out_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    asked = {"algorithm": "dpo", "steps": 1, "prompts_per_step": 1, "max_prompt_length": 64, "max_tokens": 32}
    records = [pair("Why?", "So it is.", "No.", 0.8), pair("Go on?", "Yes. " * 60, "No.", 0.8)]
    metrics, told = trained("reinforce", records, [str(tiny_model), None], tmp_path / "out", reinforce=asked)
    assert metrics["pairs_left_out"] == 1
    assert told == [
        "1 of 2 pairs are longer than reinforce.max_prompt_length (64 tokens) with max_tokens and are not "
        "trained on: raise it to take them whole."
    ]


def test_the_plan_tells_of_them_too(tiny_model: Path) -> None:
    law = {"preference_model": {"max_length": 30}, "supervised": {"max_length": 200}}
    asked = config.Config.model_validate(
        {**law, "models": {"assistant": str(tiny_model)}, "reinforce": {"max_prompt_length": 20}}
    )
    tokenizers = dict.fromkeys(asked.models.by_role, load_tokenizer(str(tiny_model)))
    notes = Workload(asked, tokenizers, Assumptions(sample=4)).notes
    for said in (
        "comparisons are longer than preference_model.max_length (30 tokens) and are not trained on",
        "examples are longer than supervised.max_length (200 tokens) and are trained on without their ends",
        "prompts are longer than reinforce.max_prompt_length (20 tokens) and are not trained on",
    ):
        assert [note for note in notes if note.startswith("About ") and said in note]
