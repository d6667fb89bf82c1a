"""The stages with a model that thinks: its thoughts are in the records' own columns and nowhere else."""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from solon import constitution, models, pipeline
from solon.audit import replay
from solon.config import Comparison, Critique, Evaluation, Feedback
from solon.evaluation import tournament
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.held_out import split_of
from solon.inference.active import begin
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.engine import ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.prompts import comparison as prompts
from solon.prompts.dialogue import user
from solon.records import PromptRecord
from solon.stages import comparison, critique, feedback
from solon.texts.degenerate import NO_ANSWER
from test_pipeline import config
from thinking_models import thinking_model

LAW = constitution.load("harmless")
FEW = {"red_team": {"train": 2}, "helpful": {"train": 2}, "generate": 0}
THOUGHT = "SECRET"  # in every thought, and in no answer


class Thinker(Engine):
    """A model whose texts are given, behind the tokens, the templates and the ends of the real engines."""

    model_name, concurrency, thinks = "thinker", 4, True

    def __init__(self, folder: Path) -> None:
        self.usage, self.shown = Usage(), list[str]()
        self.dialogue = DialogueTokens(
            models.load_tokenizer(str(folder)), AutoModelForCausalLM.from_pretrained(folder)
        )
        self.waiting = list[Request]()
        self.number = 0
        self.unending = False  # never comes to an answer

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def poll(self) -> list[Any]:
        waiting, self.waiting = self.waiting, []
        return [self.complete(request) for request in waiting]

    def complete(self, request: Request) -> Completion:
        self.number += 1
        text, tokens = self.dialogue.prompt(request.messages, request.prefill)
        self.shown.append(text)
        answer = (
            f"Answer number {self.number}: ask the owner of it first, and wait for what is said.<|im_end|>"
        )
        thought = f"<think>\n{THOUGHT} {self.number}: may one?\n"
        sequence = begin(request, tokens, self.dialogue, 1000, 400)
        end = "<|im_end|>" if self.unending else f"</think>\n\n{answer}"
        for token in self.dialogue.tokenizer.encode(answer if request.prefill else thought + end):
            if completion := sequence.add(token, self.dialogue):
                return completion
        raise AssertionError("the text has an end")

    def choice_logprobs(self, questions: Sequence[Question]) -> Iterator[ChoiceScores]:
        for each in questions:
            self.shown.append(self.dialogue.prompt(each.messages, each.prefill, each.thinking)[0])
            yield ChoiceScores(each.id, (-0.1, -2.0))

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def thinker(tiny_model: Path, tmp_path: Path) -> Thinker:
    return Thinker(thinking_model(tiny_model, tmp_path, "qwen"))


def prompt(text: str = "May I take the bicycle?") -> PromptRecord:
    return {
        "id": "a",
        "prompt": [user(text)],
        "set": "red-team",
        "kind": "theft",
        "split": split_of([user(text)]),
        "source": "test",
    }


def test_critique_and_revision(thinker: Thinker) -> None:
    settings = Critique(rounds=2, few_shot=False)
    [record] = critique.revise(thinker, [prompt()], LAW, settings, seed=1)
    first, second = record["rounds"]
    thoughts = [
        record["thinking"],
        *(made[name] for made in (first, second) for name in ("critique_thinking", "thinking")),  # type: ignore[literal-required]
    ]
    assert thoughts == [f"{THOUGHT} {number}: may one?" for number in range(1, 6)]
    said = [record["answer"], first["critique"], first["revision"], second["critique"], second["revision"]]
    assert [text.split(":")[0] for text in said] == [f"Answer number {number}" for number in range(1, 6)]
    assert record["messages"][-1]["content"] == second["revision"]
    assert not any(THOUGHT in text for text in thinker.shown)  # no thought is put to a model again
    # What is recorded, said again, makes the record.
    again = replay.Recorded(replay.said_in_revisions(record, 1))
    assert list(critique.revise(again, [prompt()], LAW, settings, seed=1)) == [record]
    [answered] = critique.answer(thinker, [prompt()], settings, seed=1)
    assert answered["thinking"].startswith(THOUGHT) and THOUGHT not in answered["messages"][-1]["content"]


def test_a_thought_without_an_answer_is_no_answer(thinker: Thinker) -> None:
    thinker.unending = True
    settings = Critique(rounds=1, few_shot=False, attempts=2)
    [record] = critique.revise(thinker, [prompt()], LAW, settings, seed=1)
    [made] = record["rounds"]
    assert (made["problem"], made["revision"], made["attempts"]) == (NO_ANSWER, "", 2)
    assert record["thinking"].startswith(THOUGHT) and record["answer"] == ""
    [answered] = critique.answer(thinker, [prompt()], settings, seed=1)
    assert answered["problem"] == NO_ANSWER
    material = Material({"red-team": LAW}, seed=1, sampling=Comparison())
    [pair] = comparison.pairs(thinker, [prompt()], METHODS["multiple-choice"], material, 0.1)
    assert pair["problem"] == NO_ANSWER
    [own] = tournament.answer(thinker, [prompt()], Evaluation(), seed=1)
    assert own["problem"] == NO_ANSWER


def test_pairs_and_labels(thinker: Thinker) -> None:
    material = Material({"red-team": LAW}, seed=1, sampling=Comparison())
    [pair] = comparison.pairs(thinker, [prompt()], METHODS["multiple-choice"], material, 0.1)
    assert [text.split(":")[0] for text in pair["responses"]] == ["Answer number 1", "Answer number 2"]
    assert pair["thinking"] == [f"{THOUGHT} 1: may one?", f"{THOUGHT} 2: may one?"]
    assert not pair["problem"]
    # A judge thinks in its own way, and its letter is read after that.
    settings = Feedback(chain_of_thought=True, few_shot=False)
    [label] = feedback.label(thinker, [pair], LAW, "harmlessness", settings, seed=1)
    [vote] = label["votes"]  # type: ignore[typeddict-item]
    assert [text.split(":")[0] for text in vote["thinking"]] == [f"{THOUGHT} 3", f"{THOUGHT} 4"]
    assert not any(THOUGHT in text for text in vote["reasoning"])
    asked = thinker.shown[-2:]
    assert all(text.count("<think>") == text.count("</think>") == 1 for text in asked)
    assert all(f"{THOUGHT} " in text.split("</think>")[0] for text in asked)
    assert all(text.endswith(f"{prompts.CONCLUSION} (") for text in asked)
    # Without a chain of thought the letter comes at once, after an empty thought.
    feedback_at_once = Feedback(few_shot=False)
    list(feedback.label(thinker, [pair], LAW, "harmlessness", feedback_at_once, seed=1))
    assert thinker.shown[-1].endswith(f"<think>\n\n</think>\n\n{prompts.VERDICT}")


def test_a_run_has_one_date(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone on with on another day, it is written as on the first; begun on that day it would not be."""
    model = thinking_model(tiny_model, tmp_path / "model", "deepseek")
    asked = config(model, roles={"assistant": {"thinking_tokens": 4}}, critique={"rounds": 1}, prompts=FEW)

    def run(name: str, day: int, until: str) -> tuple[bytes, Any]:
        for module in ("solon.pipeline.workbench", "solon.models"):
            monkeypatch.setattr(f"{module}.date", Day(2026, 2, day))
        pipeline.run(asked, tmp_path / name, until=until)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        file = tmp_path / name / "02-critique/revisions.jsonl"
        return file.read_bytes() if file.exists() else b"", manifest

    run("first", 3, "red-team")
    resumed, manifest = run("first", 4, "critique")
    later, of_later = run("second", 4, "critique")
    assert (manifest["date"], of_later["date"]) == ("2026-02-03", "2026-02-04")
    assert resumed != later
    entry = manifest["stages"]["critique"]
    assert entry["usage"]["thoughts_cut"] > 0
    assert any("thoughts of" in note and "4 tokens" in note for note in entry["notes"])
    assert entry["inputs"]["roles.assistant.thinking_tokens"] == 4


class Day:
    """A calendar that stands still."""

    def __init__(self, *day: int) -> None:
        self.day = date(*day)

    def today(self) -> date:
        return self.day

    def fromisoformat(self, text: str) -> date:
        return date.fromisoformat(text)
