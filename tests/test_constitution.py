"""Constitutions: what loads, what is refused with its line, and that a written one reads back the same."""

import random
from pathlib import Path

import pytest

from solon import constitution
from solon.errors import SolonError

GOOD = """\
name: kind
critique:
  - name: gentle
    critique_request: Say where the answer is unkind.
    revision_request: Write it kindly.
comparison:
  - name: kinder
    instruction: Which answer is kinder?
  - name: shorter
    instruction: Which answer is shorter?
"""


def write(folder: Path, text: str) -> str:
    path = folder / "constitution.yaml"
    path.write_text(text)
    return str(path)


def test_survives_a_round_trip(tmp_path: Path) -> None:
    first = constitution.load(write(tmp_path, GOOD))
    second = constitution.load(write(tmp_path, first.to_yaml()))
    assert second == first
    assert second.content_hash == first.content_hash


def test_draws_depend_on_the_generator_alone(tmp_path: Path) -> None:
    loaded = constitution.load(write(tmp_path, GOOD))
    assert loaded.draw_comparison(random.Random(3), 2) == loaded.draw_comparison(random.Random(3), 2)
    names = {loaded.draw_comparison(random.Random(seed))[0].name for seed in range(20)}
    assert names == {"kinder", "shorter"}
    assert [principle.name for principle in loaded.draw_comparison(random.Random(0), "all")] == [
        "kinder",
        "shorter",
    ]


def test_asking_for_more_principles_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SolonError, match="2 comparison principles and 3"):
        constitution.load(write(tmp_path, GOOD)).draw_comparison(random.Random(0), 3)


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("    revision_request: Write it kindly.\n", "", 3, "revision_request"),
        ("instruction: Which answer is kinder?", "question: Which?", 8, "question"),
        ("name: shorter", "name: kinder", 9, "name"),
    ],
)
def test_errors_name_the_line_and_the_field(
    tmp_path: Path, old: str, new: str, line: int, field: str
) -> None:
    with pytest.raises(SolonError) as caught:
        constitution.load(write(tmp_path, GOOD.replace(old, new)))
    assert f"line {line}:" in str(caught.value)
    assert field in str(caught.value)
