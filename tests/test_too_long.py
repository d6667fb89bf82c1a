"""A prompt that does not fit the model's context is set aside, named, and stops nothing."""

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
from solon.prompts.dialogue import user
from solon.records import PairRecord, PreferenceRecord, PromptRecord
from solon.stages import comparison, critique, examples, feedback
from solon.store.record_file import RecordFile

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
