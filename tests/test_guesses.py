"""Votes of a model that would rather have said something else: counted in the votes, and told of."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from solon import config, constitution
from solon.config import EngineSettings
from solon.feedback import METHODS, guesses
from solon.feedback.method import Candidates
from solon.inference import open_engine
from solon.inference.engine import ChoiceScores, Engine, Question
from solon.prompts.dialogue import user

LAW = constitution.load("harmless")
PAIR = Candidates("0", [user("How do I pick a lock?")], "I would rather not say.", "With a pick.")


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), EngineSettings(device="cpu", dtype="float32")) as opened:
        yield opened


def votes(engine: Engine, method: str, monkeypatch: pytest.MonkeyPatch, less: Sequence[float]) -> list[Any]:
    """The pair's votes where every question's log-probabilities are less by so much, in the order asked."""
    scores, given = engine.choice_logprobs, iter(less)

    def lowered(questions: Sequence[Question]) -> Iterator[Any]:
        for each in scores(questions):
            assert isinstance(each, ChoiceScores)
            by = next(given)
            yield ChoiceScores(each.id, tuple(value - by for value in each.logprobs))

    monkeypatch.setattr(engine, "choice_logprobs", lowered)
    settings = config.Feedback(method=method, few_shot=False)  # type: ignore[arg-type]
    settings = METHODS[settings.method].settings(settings, LAW, "harmlessness")
    principles = LAW.comparison[:1]
    pair = Candidates(PAIR.id, PAIR.dialogue, PAIR.first, PAIR.second, principles)
    [(_, found)] = METHODS[settings.method].judge(engine, [pair], LAW, settings, 0)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(("method", "questions"), [("multiple-choice", 2), ("rating", 4)])
def test_a_vote_says_how_many_of_its_questions_are_guessed(
    engine: Engine, method: str, questions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    [vote] = votes(engine, method, monkeypatch, [-20.0, *[20.0] * (questions - 1)])
    assert vote["guessed"] == questions - 1
    assert guesses.questions(vote) == questions


def test_what_is_likely_is_no_guess(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    [vote] = votes(engine, "multiple-choice", monkeypatch, [-20.0] * 2)
    assert "guessed" not in vote


def test_most_guessed_is_told_and_less_is_not() -> None:
    sure: Any = {"votes": [{"letters": [[-1.0, -1.0]] * 2}]}
    guessed: Any = {"votes": [{"readings": [[1.0, 1.0], [2.0, 2.0]], "guessed": 4}]}
    assert guesses.note("judge", [sure, sure, guessed]) == []
    [told] = guesses.note("judge", [sure, guessed, {"votes": None}, {}])
    assert told.startswith("judge gives the answers that it is to choose from less than 1%")
