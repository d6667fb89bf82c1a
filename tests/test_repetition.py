"""Boilerplate and diversity, against scikit-learn's counts, scipy's permutation test and simulation."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.feature_extraction.text import CountVectorizer

from solon.texts.repetition import (
    FEWEST,
    PHRASE,
    boilerplate,
    boilerplate_rise,
    common_phrases,
    distinct,
    sequences,
)

ENDING = "Please remember that you are valid, valued and cared for."
VOCABULARY = [f"word{number}" for number in range(400)]


def answers(count: int, endings: int, seed: int = 0, prompt: str = "?") -> list[tuple[str, str]]:
    """Random answers, of which the first ``endings`` end alike."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(VOCABULARY, k=30)) for _ in range(count)]
    return [(prompt, f"{text} {ENDING}" if i < endings else text) for i, text in enumerate(texts)]


def plain_boilerplate(texts: list[str]) -> float:
    vectors = (
        CountVectorizer(ngram_range=(PHRASE, PHRASE), token_pattern=r"\w+", binary=True)
        .fit_transform(texts)
        .toarray()
    )
    common = vectors.sum(axis=0) >= max(FEWEST, int(np.ceil(0.05 * len(texts))))
    return float(np.mean(vectors[:, common].sum(axis=1) / vectors.sum(axis=1)))


@pytest.mark.parametrize("endings", [0, 2, 3, 20, 40])
def test_boilerplate_is_that_of_scikit_learns_counts(endings: int) -> None:
    texts = answers(40, endings)
    found = boilerplate(texts)
    assert found == pytest.approx(plain_boilerplate([answer for _, answer in texts]))
    assert (found > 0) == (endings >= FEWEST)


def test_what_the_prompt_says_is_no_boilerplate() -> None:
    assert boilerplate(answers(10, 10, prompt=ENDING)) == pytest.approx(0, abs=0.15)  # across the seam only
    assert boilerplate(answers(10, 10, prompt=ENDING)) < boilerplate(answers(10, 10)) / 2
    assert boilerplate([("?", ""), ("?", "too short")]) == 0


def test_the_rise_is_tested_as_scipy_tests_it() -> None:
    before, after = answers(25, 2, seed=1), answers(25, 7, seed=2)
    texts = [*before, *after]

    def rise(one: np.ndarray, other: np.ndarray) -> float:
        shares = [plain_boilerplate([texts[i][1] for i in which.astype(int)]) for which in (one, other)]
        return shares[1] - shares[0]

    for paired, kind in ((True, "samples"), (False, "independent")):
        found = boilerplate_rise(before, after, paired)
        reference = scipy.stats.permutation_test(
            (np.arange(25.0), np.arange(25.0, 50.0)),
            rise,
            permutation_type=kind,
            n_resamples=300,
            alternative="greater",
            vectorized=False,
            rng=np.random.default_rng(0),
        )
        assert found["after"] - found["before"] == pytest.approx(reference.statistic)
        assert found["p_value"] == pytest.approx(reference.pvalue, abs=0.06)  # 2 standard errors of 300


def test_a_planted_rise_is_found_and_chance_is_not() -> None:
    assert boilerplate_rise(answers(40, 0), answers(40, 20, seed=1), paired=True)["p_value"] == 0.001
    same = [
        boilerplate_rise(answers(30, 5, seed=s), answers(30, 5, seed=1000 + s), paired=False)["p_value"]
        for s in range(60)
    ]
    assert sum(p < 0.05 for p in same) <= 8  # 3 expected


def test_answers_that_are_longer_are_no_rise() -> None:
    short = [("?", " ".join(answer.split()[:12])) for _, answer in answers(30, 0)]
    assert boilerplate_rise(short, answers(30, 0, seed=1), paired=True)["p_value"] > 0.5


def test_sets_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="sets of 3 and 4 answers"):
        boilerplate_rise(answers(3, 0), answers(4, 0), paired=False)


def test_distinct_n_is_the_plain_one_where_all_is_counted() -> None:
    texts = [answer for _, answer in answers(20, 10)]
    for length in (1, 2, 3):
        vectors = CountVectorizer(ngram_range=(length, length), token_pattern=r"\w+").fit_transform(texts)
        assert sequences(texts, length) == vectors.sum()
        assert distinct(texts, int(vectors.sum()), length) == pytest.approx(vectors.shape[1] / vectors.sum())


def test_rarefaction_is_the_mean_of_random_samples() -> None:
    texts = ["a b a b a c", "a b d d d d d", "e f a b"]
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    rng = random.Random(0)
    drawn = [len(set(rng.sample(pairs, 6))) / 6 for _ in range(20_000)]
    assert distinct(texts, 6) == pytest.approx(np.mean(drawn), abs=0.005)
    assert distinct(texts, 1) == pytest.approx(1)
    assert np.isnan(distinct([], 0))


def test_more_text_of_the_same_kind_is_not_less_diverse() -> None:
    few, many = ([answer for _, answer in answers(count, 0)] for count in (20, 200))
    size = sequences(few)
    assert distinct(many, size) == pytest.approx(distinct(few, size), abs=0.02)
    assert distinct(many, sequences(many)) < distinct(few, size) - 0.01  # what rarefaction takes away


def test_the_longest_common_phrase_is_named_once() -> None:
    [found] = common_phrases(answers(20, 8))
    assert found == {"text": "please remember that you are valid valued and cared for", "answers": 8}
    assert common_phrases(answers(20, 2)) == []


def test_the_papers_own_rl_samples_show_its_symptom(shared_data: Path) -> None:
    """Section 4.3: RL-CAI came to end many answers alike; its helpful-only model of the start did not."""

    def answers_of(model: str) -> dict[str, str]:
        path = shared_data / "constitutional-ai-paper/samples" / f"PALMS_{model}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return {row["rl_prompt"]: row["sampled_answers"][0]["sampled_string"] for row in reversed(rows)}

    helpful, rl_cai = answers_of("HRLHF"), answers_of("RLMADISON")
    prompts = sorted(helpful.keys() & rl_cai.keys())
    before, after = ([(prompt, model[prompt]) for prompt in prompts] for model in (helpful, rl_cai))
    rise = boilerplate_rise(before, after, paired=True)
    assert rise["before"] < 0.01
    assert rise["after"] > 0.05
    assert rise["p_value"] <= 0.002
    assert common_phrases(after)[0]["answers"] >= 10
    size = min(sequences([answer for _, answer in texts]) for texts in (before, after))
    diverse = [distinct([answer for _, answer in texts], size) for texts in (before, after)]
    assert diverse[1] < diverse[0] - 0.1
