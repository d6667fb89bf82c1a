"""Questions as sequences to score, and the scores of sequences as answers to the questions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solon.errors import TooLong
from solon.inference.dialogue_tokens import DialogueTokens
from solon.inference.engine import ChoiceScores, Question
from solon.inference.prefix import Tokens
from solon.inference.sampling import not_finite


@dataclass(frozen=True)
class Scored:
    """A sequence to score: a prompt and all but the last token of one or more choices."""

    question: int
    tokens: Tokens
    start: int  # position of the prompt's last token, which predicts the first token of the choices
    choices: dict[int, Tokens]  # by number; they differ in their last token only


class Sheet:
    """The sequences of some questions, in the order of their tokens, and what has been found of them.

    Questions that do not fit ``model``'s ``context`` are in ``too_long`` instead. All choices of a single
    token share a sequence, ``most`` of them at a time. Raises ValueError where a choice is empty.
    """

    def __init__(
        self,
        dialogue: DialogueTokens,
        questions: Sequence[Question],
        context: int,
        model: str,
        most: int | None = None,
    ) -> None:
        self._questions, self._model = questions, model
        self.rows: list[Scored] = []
        self.too_long: list[TooLong] = []
        for number, question in enumerate(questions):
            rows = _rows(dialogue, number, question, most or len(question.choices))
            try:
                for row in rows:
                    room(context, row.tokens, question.id, model)
            except TooLong as error:
                self.too_long.append(error)
            else:
                self.rows += rows
        self.rows.sort(key=lambda row: row.tokens.tolist())
        self._scores = [[0.0] * len(question.choices) for question in questions]
        self._left = [0] * len(questions)
        for row in self.rows:
            self._left[row.question] += 1

    @property
    def tokens(self) -> int:
        """Of all choices, each with its prompt, had every one been computed on its own."""
        return sum(len(row.tokens) * len(row.choices) for row in self.rows)

    def enter(self, row: Scored, found: Mapping[int, float]) -> Iterator[ChoiceScores]:
        """Take in log-probabilities of a row's choices; yields a question's answer with its last row.

        Raises NotFinite where one is not a finite number: no label may be made of it.
        """
        scores = self._scores[row.question]
        for choice, score in found.items():
            if not math.isfinite(score):
                raise not_finite(self._model)
            scores[choice] = score
        self._left[row.question] -= 1
        if not self._left[row.question]:
            yield ChoiceScores(self._questions[row.question].id, tuple(scores))


def _rows(dialogue: DialogueTokens, number: int, question: Question, most: int) -> list[Scored]:
    text, prompt = dialogue.prompt(question.messages, question.prefill, question.thinking)
    rows: dict[tuple[bytes, int], Scored] = {}
    for index, choice in enumerate(question.choices):
        target = dialogue.continuation(text, prompt, choice, bool(question.prefill))
        if not len(target):
            raise ValueError(f"choice {index} of question {question.id!r} is empty")
        tokens = np.concatenate([prompt, target[:-1]])
        row = rows.setdefault((tokens.tobytes(), index // most), Scored(number, tokens, len(prompt) - 1, {}))
        row.choices[index] = target
    return list(rows.values())


def room(context: int, tokens: Tokens, name: str, model: str) -> int:
    """How many tokens may follow in the request or question ``name``. Raises TooLong where none may."""
    if len(tokens) >= context:
        raise TooLong(
            name,
            f"the text of {name!r} is {len(tokens)} tokens long, but {model!r} can read only {context}: "
            "shorten it, or use a model with a longer context",
        )
    return context - len(tokens)
