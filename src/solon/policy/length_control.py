"""Rewards without what they owe to an answer's length.

A preference model that saw few comparisons knows best how long the better answers were, and RL finds that
before anything else (Singhal et al. 2023, arXiv:2310.03716). The part of the scores that goes with length is
taken off after the preference model's training, as in Huang et al. 2024 (arXiv:2409.17407); they fit local
averages, and this one line, since a run has hundreds of samples.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from statistics import fmean

from solon.prompts.dialogue import turns
from solon.store.record_file import RecordFile
from solon.texts import words

Scored = tuple[Hashable, float, float]  # prompt, length, score
ALONE = object()  # stands for all prompts that a step sampled one answer to


class LengthControl:
    """The scores that answers would have if all were as long as the policy's first ones.

    From the score of an answer of n words, b (ln(1 + n) - m) is taken off; m is the mean of ln(1 + n) over
    the first step's answers. The slope b is the least-squares one over the answers of all steps so far, each
    score and length less its mean over the answers to the same prompt in the same step, so that neither the
    prompts nor the policy's changes are taken for length. Answers that are the only one to their prompt have
    nothing of that kind to be compared with: they count less the mean over all such answers of the step, and
    what prompts have to do with length goes into the slope as well.
    """

    def __init__(self, samples: RecordFile) -> None:
        self._samples = samples
        self._usual: float | None = None  # m
        self._shared = self._squared = 0.0  # b's numerator and denominator

    def controlled(
        self, step: int, prompts: Sequence[str], answers: Sequence[str], scores: Sequence[float]
    ) -> list[float]:
        """Of the whole step's answers, to the prompts with these ids.

        ``samples`` has those of earlier steps where a killed run goes on.
        """
        if self._usual is None:
            earlier: dict[int, list[Scored]] = defaultdict(list)
            for sample in self._samples:
                if sample["step"] < step:
                    prompt = sample.get("prompt_id") or turns(sample["prompt"])
                    earlier[sample["step"]].append((prompt, length(sample["response"]), sample["reward"]))
            for scored in earlier.values():
                self._learn(scored)
        scored = [
            (prompt, length(answer), score)
            for prompt, answer, score in zip(prompts, answers, scores, strict=True)
        ]
        usual = self._learn(scored)
        return [score - self.slope * (long - usual) for _, long, score in scored]

    @property
    def slope(self) -> float:
        """Points of score for each unit of ln(1 + words); 0 where all that is compared is as long."""
        return self._shared / self._squared if self._squared else 0.0

    def _learn(self, scored: Sequence[Scored]) -> float:
        """Take in a step's answers. Returns m."""
        if self._usual is None:
            self._usual = fmean(long for _, long, _ in scored)
        answers_to = Counter(prompt for prompt, _, _ in scored)
        groups: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
        for prompt, long, score in scored:
            groups[prompt if answers_to[prompt] > 1 else ALONE].append((long, score))
        for group in groups.values():
            usual, typical = map(fmean, zip(*group, strict=True))
            self._shared += sum((long - usual) * (score - typical) for long, score in group)
            self._squared += sum((long - usual) ** 2 for long, _ in group)
        return self._usual


def length(text: str) -> float:
    """ln(1 + n) of a text of n words."""
    return math.log1p(words.count(text))
