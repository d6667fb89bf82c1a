"""The paper's own files: all that they say arrives, and what does not fit is refused with its place."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solon import constitution
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.sources import paper_files

# Like the paper's files in shape, not in words.
ROUND = (
    "\n\nCritiqueRequest: Is it kind?\n\nCritique: No.\n\nRevisionRequest: Be kind.\n\nRevision: Hello, you."
)
CHOICE = (
    "\n\nHuman: Consider the following conversation between two:\n\nH: Hi\nthere.\n\nA:  Hm?\n\nH:  Hi!"
    "\n\n{}\n (A) [[[No.\n\nA: no.]]]\n (B) [[[Hi!]]]\n\nAssistant: Let's think step by step:\n(B) greets."
    "\n\nHuman:\nSo the answer is: (B)"
)
SAMPLES: dict[str, Any] = {
    "critique principles": {
        "kind0": {
            "prompt": [
                "\n\nCritiqueRequest: Is it kind?\n\nCritique:",
                "\n\nCritiqueRequest: Is it warm?\n\nCritique:",
            ],
            "edit_request": "\n\nRevisionRequest: Be kind.\n\nRevision:",
        }
    },
    "critique examples": [
        f"\n\nHuman: Hi\n\nAssistant: Go away.{ROUND}\n\nHuman:",
        f"\n\nHuman: Hi\n\nAssistant: Hm?\n\nHuman: Hi!\n\nAssistant: Go.\nHuman: away.{ROUND}",
    ],
    "comparison principles": ["\nWhich is kinder? Options:", "\nWhich is shorter? Options:"],
    "comparison examples": [
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "corrects": ["Hello.", "Hi!"], "incorrects": ["No."]}
    ],
    "reasoning examples": [{"prompt": CHOICE}],
}
PAPER = {  # critique and comparison principles; critique, comparison and reasoning examples
    "CritiqueRevisionInstructions": [16, 0, 0, 0, 0],
    "CritiqueRevisionFewShotPrompts": [0, 0, 5, 0, 0],
    "RLMadisonInstructions": [0, 16, 0, 0, 0],
    "RLMadisonFewShotPrompts": [0, 0, 0, 5, 0],
    "RLMadisonPrecogFewShotPrompts": [0, 0, 0, 0, 6],
}


def file(folder: Path, data: Any) -> Path:
    path = folder / "sample.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def counts(read: Constitution) -> list[int]:
    examples = read.examples
    lists = (read.critique, read.comparison, examples.critique, examples.comparison, examples.reasoning)
    return [len(held) for held in lists]


def written(read: Constitution) -> Iterator[str]:
    """All texts of the original file, written anew from what was read."""
    for request in read.critique:
        yield f"\n\nCritiqueRequest: {request.critique_request}\n\nCritique:"
        yield f"\n\nRevisionRequest: {request.revision_request}\n\nRevision:"
    for principle in read.comparison:
        yield f"\n{principle.instruction} Options:"
    for worked in read.examples.critique:
        yield (
            f"{dialogue(worked.dialogue, 'Human', 'Assistant')}\n\nAssistant: {worked.answer}"
            f"\n\nCritiqueRequest: {worked.critique_request}\n\nCritique: {worked.critique}"
            f"\n\nRevisionRequest: {worked.revision_request}\n\nRevision: {worked.revision}"
        )
    for pair in read.examples.comparison:
        yield f"{dialogue(pair.dialogue, 'Human', 'Assistant')}\n\nAssistant:"
        yield pair.better
        yield pair.worse
    for choice in read.examples.reasoning:
        yield (
            f"{dialogue(choice.dialogue, 'H', 'A')}\n\n{{}}\n (A) [[[{choice.option_a}]]]"
            f"\n (B) [[[{choice.option_b}]]]\n\nAssistant: Let's think step by step: {choice.reasoning}"
            f"\n\nHuman:\nSo the answer is: ({choice.answer})"
        )


def dialogue(turns: Any, human: str, assistant: str) -> str:
    names = {"user": human, "assistant": assistant}
    return "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in turns)


def originals(data: Any) -> Iterator[str]:
    """All texts of a file, without what every one of its kind begins or ends with."""
    if isinstance(data, str):
        opening, _, conversation = data.partition("Consider the following conversation")
        said = conversation.partition(":\n")[2] if conversation else opening
        yield said.removesuffix("\n\nHuman:")
    else:
        for value in data.values() if isinstance(data, dict) else data:
            yield from originals(value)


def same(text: str) -> str:
    """``text`` with white space that does not matter made equal."""
    return " ".join(text.split())


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_lose_nothing(tmp_path: Path, kind: str) -> None:
    read = paper_files.read(file(tmp_path, SAMPLES[kind]))
    assert read.name == "sample"
    assert set(map(same, written(read))) == set(map(same, originals(SAMPLES[kind])))


def test_a_label_inside_a_turn_stays_there(tmp_path: Path) -> None:
    read = paper_files.read(file(tmp_path, SAMPLES["critique examples"]), "kind")
    assert read.name == "kind"
    assert read.examples.critique[1].answer == "Go.\nHuman: away."
    reasoning = paper_files.read(file(tmp_path, SAMPLES["reasoning examples"])).examples.reasoning[0]
    assert reasoning.option_a == "No.\n\nA: no."
    assert reasoning.dialogue[0] == {"role": "user", "content": "Hi\nthere."}
    assert reasoning.reasoning == "(B) greets."


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_files_lose_nothing(tmp_path: Path, shared_data: Path, name: str) -> None:
    path = shared_data / "constitutional-ai-paper" / "prompts" / f"{name}.json"
    read = paper_files.read(path)
    assert (read.name, counts(read)) == (name, PAPER[name])
    data = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(map(same, written(read))) == sorted(map(same, originals(data)))

    copy = tmp_path / "copy.yaml"
    copy.write_text(read.to_yaml(), encoding="utf-8")
    assert constitution.load(str(copy)) == read


def test_the_papers_files_merge_into_one(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "constitutional-ai-paper" / "prompts"
    whole = paper_files.merge([paper_files.read(folder / f"{name}.json") for name in PAPER], "paper")
    assert (whole.name, counts(whole)) == ("paper", [16, 16, 5, 5, 6])
    copy = tmp_path / "copy.yaml"
    copy.write_text(whole.to_yaml(), encoding="utf-8")
    assert constitution.load(str(copy)) == whole


def test_merge_keeps_order_and_description(tmp_path: Path) -> None:
    principles = paper_files.read(file(tmp_path, SAMPLES["comparison principles"]), "principles")
    examples = paper_files.read(file(tmp_path, SAMPLES["comparison examples"]), "examples")
    described = examples.model_copy(update={"description": "Be kind."})
    whole = paper_files.merge([principles, described], "whole")
    assert whole.description == "Be kind."
    assert whole.comparison == principles.comparison
    assert whole.examples == examples.examples


@pytest.mark.parametrize(
    ("kind", "clash"),
    [
        ("critique principles", "critique principle 'kind0'"),
        ("comparison principles", "comparison principle 'comparison0'"),
        ("reasoning examples", "example that asks 'Hi!'"),
    ],
)
def test_merge_reports_clashes(tmp_path: Path, kind: str, clash: str) -> None:
    one = paper_files.read(file(tmp_path, SAMPLES[kind]), "one")
    two = paper_files.read(file(tmp_path, SAMPLES[kind]), "two")
    with pytest.raises(SolonError, match=f"'one' and 'two' both have the {clash}"):
        paper_files.merge([one, two], "whole")


def test_merge_of_nothing_is_refused() -> None:
    with pytest.raises(SolonError, match="at least one"):
        paper_files.merge([], "whole")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('["Which?",\n oops]', "line 2 column 2: not valid JSON"),
        ('{"a": {"prompt": ["x"]}, "a": {}}', "'a' is given a second time"),
        ("7", "none of the paper's shapes"),
        ("[]", "none of the paper's shapes"),
        ('{"kind0": {"prompt": ["\\n\\nCritiqueRequest: Kind?"]}}', "kind0.edit_request is missing"),
        (
            '{"kind0": {"prompt": ["Kind?"], "edit_request": "RevisionRequest: Be kind."}}',
            "kind0.prompt[0] does not fit; expected 'CritiqueRequest:', found 'Kind?'",
        ),
        ('["Which is kinder?", 3]', "[1] is 3"),
        (["\n\nHuman: Hi\n\nAssistant: Go away."], "[0] has the turns Human Assistant; expected"),
        ([SAMPLES["critique examples"][0], "Hi"], "[1] does not begin with a labelled turn"),
        ('[{"prompt": "Human: Hi", "corrects": ["Hello."]}]', "[0].incorrects is missing"),
        (
            '[{"prompt": "Human: Hi\\n\\nAssistant: No.", "corrects": ["a"], "incorrects": ["b"]}]',
            "must end with a user turn",
        ),
        ([{"prompt": CHOICE.replace("(B)", "(C)")}], "[0].prompt does not fit"),
        ([{"prompt": CHOICE, "weight": 2}], "[0].weight is not a known field"),
        (["Which is kinder? Options:", " Options:"], "comparison[1].instruction is ''"),
    ],
)
def test_errors_name_the_file_and_the_place(tmp_path: Path, data: Any, said: str) -> None:
    path = file(tmp_path, data)
    with pytest.raises(SolonError) as caught:
        paper_files.read(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SolonError, match=r"absent\.json does not exist"):
        paper_files.read(tmp_path / "absent.json")


def test_a_long_text_that_does_not_fit_is_refused_at_once(tmp_path: Path) -> None:
    frame = "\n{} (A) [[[ ]]] (B) [[[ ]]] Assistant: Let's think step by step:\n Human: So the answer is: "
    path = tmp_path / "long.json"
    path.write_text(json.dumps([{"prompt": "Human: Consider the following conversation:\n" + frame * 1000}]))
    started = time.perf_counter()
    with pytest.raises(SolonError, match="does not fit"):
        paper_files.read(path)
    assert time.perf_counter() - started < 5  # backtracking takes 18 s for a sixth of it
