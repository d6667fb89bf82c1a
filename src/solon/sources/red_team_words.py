"""What the words of a comparison tell: is its prompt a red-team prompt, and are its answers known ones?

What is needed is in ``red_team_words.npz`` as hashes, fitted and collected by ``studies/harm_labels``:
weights of content words, and runs of words from answers in public sets of human harm labels. Words of chat
("I", "can you") carry no weight: they tell people who type from people who write instructions, and not harm
from help.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from importlib import resources

import numpy as np

from solon.texts.language import in_another_script

FLAG = 1.8  # log-odds from which a prompt counts as a red-team prompt
CAUGHT = 0.34  # share of hh-rlhf's harmlessness comparisons that do, in dialogues that were not fitted
MISTAKEN = 0.02  # the same of helpful prompts: 0 to 2.6 % in the seven sets that were never fitted

MANY = 20  # prompts, of which most may have a preface
RUN = 8  # words; runs of so many are looked up
SCALE = 32  # of the weights, which are kept as bytes


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
    """
    a about after all also am an and any are as at be because been before being but by can could did
    do does for from get had has have he her here him his how i if in into is it its just like make
    many me more most my no not of off on one only or other our out over she should so some such
    than that the their them then there these they this those to too two up us use very was way we
    were what when where which who whom why will with would you your
    """
)
# Words that come with a way of asking, whatever is asked.
CHAT_WORDS = _words(
    """
    again already always another anyone anything ask better best come doing done don't didn't
    doesn't every everything feel find first give go going gonna good got great guess hello help hey
    hi i'd i'll i'm i've isn't it's keep kind know least less let let's look lot made maybe mean
    might must need never new next nice now oh ok okay old once please question quite really right
    said same say see something still sure take tell thank thanks that's thing think time today try
    trying want well what's while work write yeah yes yet you'd you'll you're
    """
)


def words(text: str) -> list[str]:
    """The text's words of English letters, in lower case."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def stems(text: str) -> set[str]:
    """Its content words without their endings."""
    content = {word for word in words(text) if len(word) > 2} - FUNCTION_WORDS - CHAT_WORDS
    return {
        re.sub(r"(ing|ers|er|ed|es|s|ly)$", "", word) if len(word) > 5 else re.sub(r"(?<=..[^s])s$", "", word)
        for word in content
    }


def is_english(text: str) -> bool:
    """Whether these words can be judged: enough of them are words that every English text has."""
    if in_another_script(text):
        return False
    letters = re.findall(r"[^\W\d_]+", text)
    english = sum(word in FUNCTION_WORDS for word in words(text))
    return sum(map(len, letters)) < 24 or english > len(letters) / 12


def score(content: Collection[str]) -> float:
    """The log-odds that what a person says, all turns' ``stems`` together, is a red-team prompt."""
    return _bias() + sum(map(_weight, content))


def scores(prompts: Sequence[str]) -> list[float]:
    """Of each prompt, without the words that most of them have: a preface that is the same everywhere."""
    each = [stems(prompt) for prompt in prompts]
    counts = Counter(stem for content in each for stem in content)
    most = len(prompts) / 2 if len(prompts) >= MANY else len(prompts)
    preface = {stem for stem, count in counts.items() if count > most}
    return [score(content - preface) for content in each]


def runs(text: str) -> list[int]:
    """Hashes of the text's runs of ``RUN`` words, whatever its white space, case and punctuation."""
    found = words(text)
    return [hashed(" ".join(found[start : start + RUN])) for start in range(len(found) - RUN + 1)]


def is_known(answers: str) -> bool:
    """Whether two runs of the answers are in public human harm labels (one alone may be a common phrase)."""
    return len(_known().intersection(runs(answers))) > 1


def hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


@cache
def _kept() -> dict[str, np.ndarray]:
    with resources.as_file(resources.files("solon") / "sources" / "red_team_words.npz") as path:
        return dict(np.load(path))


@cache
def _known() -> frozenset[int]:
    return frozenset(map(int, _kept()["runs"]))


@cache
def _weights() -> dict[int, float]:
    kept = _kept()
    return {
        int(word): int(weight) / SCALE for word, weight in zip(kept["words"], kept["weights"], strict=True)
    }


@cache
def _weight(stem: str) -> float:
    return _weights().get(hashed(stem), 0.0)


def _bias() -> float:
    return float(_kept()["bias"])
