"""How much answers repeat one another: boilerplate and diversity, counted from their words.

Answers to different prompts seldom share five words in a row. A model that was trained too long against a
preference model comes to end every answer with the same sentences (paper, section 4.3).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import gammaln

from solon.texts.words import joined, words

Array = NDArray[np.float64]

PHRASE = 5  # words of a phrase
SHARED = 0.05  # a phrase is common where this share of the answers have it ...
FEWEST = 3  # ... and no fewer than this many
PERMUTATIONS = 999

Texts = Sequence[tuple[str, str]]  # prompt and answer; every prompt at most once


class Phrase(TypedDict):
    text: str
    answers: int  # that have it


class Change(TypedDict):
    """From one set of answers to another of the same size."""

    before: float
    after: float
    p_value: float  # chance of so large a rise where it does not matter which set an answer is in


class _Table(NamedTuple):
    has: scipy.sparse.csr_array  # (answers, phrases), 1 where the answer has the phrase
    phrases: list[tuple[str, ...]]


def boilerplate(texts: Texts) -> float:
    """Of an answer's phrases, the share that is common, on average: 0 where no answer says what others say.

    Phrases are sequences of ``PHRASE`` words, each counted once an answer. What an answer takes from its own
    prompt does not count. The figure depends on how many answers there are: compare sets of the same size.
    """
    return float(_boilerplate(_parts(_table(texts), len(texts)), len(texts))[0])


def boilerplate_rise(before: Texts, after: Texts, paired: bool, seed: int = 0) -> Change:
    """The boilerplate of both sets, and a permutation test of the rise (Good 2005, chapter 3).

    ``paired``: both answer the same prompts in the same order, and only the two answers to a prompt change
    places; otherwise any answers do. Raises ValueError unless both sets have the same, positive size.
    """
    size = len(before)
    if not size or len(after) != size:
        raise ValueError(f"sets of {size} and {len(after)} answers cannot be compared")
    # Only phrases that enough answers of both sets together have can be common in any permutation.
    parts = _parts(_table([*before, *after]), size)
    rng = np.random.default_rng(seed)
    in_after = np.zeros((1 + PERMUTATIONS, 2 * size))
    in_after[0, size:] = 1
    for row in in_after[1:]:
        if paired:
            second = rng.random(size) < 0.5
            row[:size], row[size:] = ~second, second
        else:
            row[rng.permutation(2 * size)[:size]] = 1
    after_share = _boilerplate(parts, size, in_after)
    before_share = _boilerplate(parts, size, 1 - in_after)
    rises = after_share - before_share
    at_least = int(np.sum(rises[1:] >= rises[0] - 1e-12))
    return Change(
        before=float(before_share[0]),
        after=float(after_share[0]),
        p_value=(1 + at_least) / (1 + PERMUTATIONS),
    )


def distinct(texts: Sequence[str], size: int, length: int = 2) -> float:
    """Of ``size`` sequences of ``length`` words drawn from the texts, the share that differ; nan for none.

    This is distinct-n (Li et al. 2016), which falls as text gets longer, made comparable by rarefaction: the
    expected number of kinds in a sample without replacement (Hurlbert 1971). ``size`` must not be larger than
    the number of sequences, which ``sequences`` counts.
    """
    counts = np.array(list(_all_sequences(texts, length).values()), dtype=float)
    total = counts.sum()
    if not size or size > total:
        return math.nan
    with np.errstate(invalid="ignore"):
        absent = np.where(
            total - counts >= size,
            np.exp(_log_choose(total - counts, size) - _log_choose(total, size)),
            0.0,
        )
    return float((1 - absent).sum() / size)


def sequences(texts: Sequence[str], length: int = 2) -> int:
    return _all_sequences(texts, length).total()


def common_phrases(texts: Texts, most: int = 5) -> list[Phrase]:
    """The phrases that most answers share, as long as they go, those that cover most text first."""
    table = _table(texts)
    needed = _needed(len(texts))
    answers_with = np.asarray(table.has.sum(axis=0)).ravel()
    common = {table.phrases[number] for number in np.flatnonzero(answers_with >= needed)}
    said = [words(answer) for _, answer in texts]
    runs = {run for answer in said for run in _runs(answer, common)}
    padded = [f" {' '.join(answer)} " for answer in said]
    counted = [Phrase(text=run, answers=sum(f" {run} " in answer for answer in padded)) for run in runs]
    counted = [phrase for phrase in counted if phrase["answers"] >= needed]
    counted.sort(key=lambda phrase: (-phrase["answers"] * len(phrase["text"].split()), phrase["text"]))
    kept: list[Phrase] = []
    for phrase in counted:
        mine = set(_sequences(phrase["text"].split(), PHRASE))
        if len(kept) < most and not any(
            mine & set(_sequences(other["text"].split(), PHRASE)) for other in kept
        ):
            kept.append(phrase)
    return [{**phrase, "text": joined(phrase["text"].split())} for phrase in kept]


def _runs(said: Sequence[str], common: set[tuple[str, ...]]) -> list[str]:
    """The longest stretches of a text that common phrases cover, one after another."""
    runs: list[list[str]] = []
    last = -2
    for place, phrase in enumerate(_sequences(said, PHRASE)):
        if phrase in common:
            if place == last + 1:
                runs[-1].append(phrase[-1])
            else:
                runs.append(list(phrase))
            last = place
    return [" ".join(run) for run in runs]


def _table(texts: Texts) -> _Table:
    numbers: dict[tuple[str, ...], int] = {}
    rows: list[int] = []
    columns: list[int] = []
    for row, (prompt, answer) in enumerate(texts):
        asked = set(_sequences(words(prompt), PHRASE))
        for phrase in dict.fromkeys(_sequences(words(answer), PHRASE)):
            if phrase not in asked:
                rows.append(row)
                columns.append(numbers.setdefault(phrase, len(numbers)))
    shape = (len(texts), len(numbers))
    has = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    return _Table(has, list(numbers))


def _parts(table: _Table, size: int) -> Array:
    """What part of each answer each phrase is that may be common, shape (answers, phrases)."""
    often = np.flatnonzero(np.asarray(table.has.sum(axis=0)).ravel() >= _needed(size))
    phrases = np.asarray(table.has.sum(axis=1)).ravel()
    parts: Array = table.has[:, often].toarray() / np.maximum(phrases, 1)[:, None]
    return parts


def _boilerplate(parts: Array, size: int, chosen: Array | None = None) -> Array:
    """The boilerplate of the answers that each row of ``chosen``, shape (sets, answers), has a 1 for."""
    chosen = np.ones((1, len(parts))) if chosen is None else chosen
    common = chosen @ (parts > 0) >= _needed(size)  # (sets, phrases)
    return np.asarray(np.where(common, chosen @ parts, 0).sum(axis=1) / size)


def _needed(size: int) -> int:
    return max(FEWEST, math.ceil(SHARED * size))


def _all_sequences(texts: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(sequence for text in texts for sequence in _sequences(words(text), length))


def _sequences(said: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(said[start : start + length]) for start in range(len(said) - length + 1)]


def _log_choose(n: Array | float, k: float) -> Array:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(np.maximum(n - k, 0) + 1.0))
