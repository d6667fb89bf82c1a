"""The words of a text in any script: what lengths count, and what is told by words in a row.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan put no spaces between words. Where one begins takes
a dictionary to tell; pieces that anybody can find stand for words there: a character of Chinese, a loanword
or two letters of Japanese, a syllable of the others.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby, pairwise

# Article 1 of the Universal Declaration of Human Rights has 30 words in English, and 39 pieces in Chinese, 56
# in Japanese, 44 in Thai.
PIECES_A_WORD = 1.5


def _syllable(letters: str, marks: str, final: str = "", before: str = "") -> str:
    """A letter with its vowels and tones, and the letters that end the syllable: those without any."""
    return rf"{before}[{letters}](?:{marks})*(?:[{letters}]{final or f'(?!{marks})'})*"


_PIECE = "|".join(
    (
        r"[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003347f]",  # Chinese
        r"[\u3041-\u309f]{1,2}|[\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff]+",  # hiragana, katakana
        # Thai, Lao and Khmer; Burmese, where a sign is on the letter that ends a syllable.
        _syllable(r"\u0e01-\u0e2e", r"[\u0e30-\u0e3a\u0e45\u0e47-\u0e4e]", before=r"[\u0e40-\u0e44]?"),
        _syllable(r"\u0e81-\u0eae\u0edc-\u0edf", r"[\u0eb0-\u0ebd\u0ec8-\u0ece]", before=r"[\u0ec0-\u0ec4]?"),
        _syllable(r"\u1780-\u17b3", r"\u17d2[\u1780-\u17b3]|[\u17b4-\u17d1\u17d3\u17dd]"),
        _syllable(
            r"\u1000-\u102a\u103f",
            r"\u1039[\u1000-\u102a]|[\u102b-\u1038\u103b-\u103e]",
            final=r"\u1037?\u103a\u1038?",
        ),
        r"[\u0f40-\u0fbc]+",  # Tibetan, which parts syllables by a mark
    )
)


def words(text: str) -> list[str]:
    """In small letters, whatever way the characters are written in; of scripts without spaces the pieces."""
    if text.isascii():
        return re.findall(r"\w+", text.casefold())
    return _anything().findall(unicodedata.normalize("NFKC", text).casefold())


def count(text: str) -> int:
    """How many words a text has: what white space parts, and of scripts without spaces about as many."""
    if text.isascii() or not (pieces := len(_pieces().findall(text))):
        return len(text.split())
    others = [part for part in _pieces().sub(" ", text).split() if any(map(str.isalnum, part))]
    return len(others) + math.ceil(pieces / PIECES_A_WORD)


def joined(said: Sequence[str]) -> str:
    """Words as text again: with spaces where the script has them."""
    text = ""
    for before, word in pairwise(["", *said]):
        spaces = bool(before) and (parted_by_spaces(before) or parted_by_spaces(word))
        text += f" {word}" if spaces else word
    return text


def parted_by_spaces(word: str) -> bool:
    """Whether the script of a word, or of a letter, has spaces between words."""
    return not _pieces().fullmatch(word)


@cache
def _pieces() -> re.Pattern[str]:
    return re.compile(_PIECE)


@cache
def _anything() -> re.Pattern[str]:
    """``\\w`` leaves out the vowels of Hindi and the accents of Arabic, and joins what has no spaces."""
    marked = "".join(f"{first}-{last}" for first, last in _marks())
    return re.compile(rf"{_PIECE}|(?:(?!{_PIECE})[\w\u200c\u200d{marked}])+")


def _marks() -> list[tuple[str, str]]:
    """The ranges of characters that stand on others."""
    numbers = [number for number in range(0x10000) if unicodedata.category(chr(number))[0] == "M"]
    runs = groupby(enumerate(numbers), key=lambda item: item[1] - item[0])
    ranges = [[number for _, number in run] for _, run in runs]
    return [(chr(run[0]), chr(run[-1])) for run in ranges]
