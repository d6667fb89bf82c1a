"""Rewards without what they owe to an answer's length.

A preference model that saw few comparisons knows best how long the better answers were, and RL finds that
before anything else (Singhal et al. 2023, arXiv:2310.03716). The part of the scores that goes with length is
taken off after the preference model's training, as in Huang et al. 2024 (arXiv:2409.17407); they fit local
averages, and this one line, since a run has hundreds of samples.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

from solon.prompts.dialogue import turns
from solon.records import Message
from solon.run import RecordFile


class LengthControl:
    """The scores that answers would have if all were as long as the policy's first ones.

    From the score of an answer of n words, b (ln(1 + n) - m) is taken off; m is the mean of ln(1 + n) over
    the first step's answers. The slope b is the least-squares one over the answers of all steps so far, each
    score and length less its mean over the answers to the same prompt in the same step, so that neither the
    prompts nor the policy's changes are taken for length.
    """

    def __init__(self, samples: RecordFile) -> None:
        self._samples = samples
        self._answers: dict[int, list[tuple[object, float, float]]] = {}  # of a step: prompt, length, score

    def controlled(
        self, step: int, dialogues: Sequence[Sequence[Message]], scores: Sequence[float]
    ) -> list[float]:
        """Of the whole step's answers; ``samples`` has those of earlier steps where a killed run goes on."""
        if not self._answers:
            for each in self._samples:
                if each["step"] < step:
                    earlier = self._answers.setdefault(each["step"], [])
                    earlier.append((turns(each["prompt"]), length(each["response"]), each["reward"]))
        self._answers[step] = [
            (turns(prompt), length(answer["content"]), score)
            for (*prompt, answer), score in zip(dialogues, scores, strict=True)
        ]
        slope, usual = self.slope(), mean([long for _, long, _ in self._answers[min(self._answers)]])
        return [score - slope * (long - usual) for _, long, score in self._answers[step]]

    def slope(self) -> float:
        """Points of score for each unit of ln(1 + words); 0 where all answers to a prompt are as long."""
        groups: dict[object, list[tuple[float, float]]] = defaultdict(list)
        for step, answers in self._answers.items():
            for prompt, long, score in answers:
                groups[step, prompt].append((long, score))
        shared = squared = 0.0
        for group in groups.values():
            usual, typical = mean([long for long, _ in group]), mean([score for _, score in group])
            shared += sum((long - usual) * (score - typical) for long, score in group)
            squared += sum((long - usual) ** 2 for long, _ in group)
        return shared / squared if squared else 0.0


def length(text: str) -> float:
    return math.log1p(len(text.split()))


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
