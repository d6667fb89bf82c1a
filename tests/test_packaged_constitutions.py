"""The packaged constitutions: what each holds, that it is short, and that its words are our own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solon import constitution
from solon.constitution import Constitution

COUNTS = {"harmless": (16, 16), "helpful": (6, 8), "plain-english": (6, 6)}  # critique, comparison
RUN = 8  # as many words in a row as in the paper's files would be a copy


@pytest.fixture(params=COUNTS)
def packaged(request: pytest.FixtureRequest) -> Constitution:
    return constitution.load(request.param)


def texts(data: Any) -> Iterator[str]:
    """Every text anywhere inside nested lists and dicts."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        yield from (text for value in data.values() for text in texts(value))
    elif isinstance(data, list):
        yield from (text for value in data for text in texts(value))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def runs(data: Any) -> set[tuple[str, ...]]:
    """All runs of RUN words."""
    spoken = map(words, texts(data))
    return {tuple(said[i : i + RUN]) for said in spoken for i in range(len(said) - RUN + 1)}


def test_these_are_packaged() -> None:
    assert constitution.packaged() == sorted(COUNTS)


def test_counts(packaged: Constitution) -> None:
    assert (len(packaged.critique), len(packaged.comparison)) == COUNTS[packaged.name]
    examples = packaged.examples
    assert 3 <= len(examples.critique) <= 4
    assert len(examples.comparison) == 4
    assert sorted(example.answer for example in examples.reasoning) == ["A", "B"]


def test_principles_differ(packaged: Constitution) -> None:
    requests = [principle.critique_request for principle in packaged.critique]
    revisions = [principle.revision_request for principle in packaged.critique]
    instructions = [principle.instruction for principle in packaged.comparison]
    for said in (requests, revisions, instructions):
        assert len(set(said)) == len(said)
    names = [p.name for p in packaged.critique] + [p.name for p in packaged.comparison]
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


def test_revisions_ask_for_the_answer_alone(packaged: Constitution) -> None:
    assert all("Give only the new answer." in principle.revision_request for principle in packaged.critique)


def test_worked_critiques_follow_the_principles(packaged: Constitution) -> None:
    own = [(principle.critique_request, principle.revision_request) for principle in packaged.critique]
    assert all(
        (example.critique_request, example.revision_request) in own for example in packaged.examples.critique
    )


def test_better_is_not_always_longer(packaged: Constitution) -> None:
    longer = [len(example.better) > len(example.worse) for example in packaged.examples.comparison]
    assert set(longer) == {True, False}


def test_small_models_can_read_it(packaged: Constitution) -> None:
    longest = max(len(words(text)) for text in texts(packaged.model_dump()))
    assert longest <= 55
    examples = packaged.examples
    for kind in (examples.critique, examples.comparison, examples.reasoning):
        assert sum(len(words(text)) for example in kind for text in texts(example.model_dump())) <= 800


def test_survives_a_round_trip(packaged: Constitution, tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(packaged.to_yaml(), encoding="utf-8")
    assert constitution.load(str(copy)) == packaged


def test_no_sentence_is_the_papers(packaged: Constitution, shared_data: Path) -> None:
    folder = shared_data / "constitutional-ai-paper" / "prompts"
    paper = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    assert paper
    assert not runs(packaged.model_dump()) & runs(paper)
