"""What a model wrote, as it is kept: one treatment for all, so that no two texts compared differ by it.

Of an answer that ran into the token limit and one that was trimmed, the better can be told by the last
character alone, and a preference model learns that instead of what it should (``solon eval shortcuts``).
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from solon.records import Cut, Thought
from solon.texts.words import parted_by_spaces

PREFACE = re.compile(  # "Here is a revised answer:" and "Revision:" are about the answer, not a part of it
    r"^\W*(?:(?:sure|certainly|of course|okay)\W+)?"
    r"(?:(?:here(?:['’]s| is| are)|this is|i(?:['’]ve| have)?)\b"
    r"[^.\n]{0,60}\b(?:revis|rewr|rewor|updat|version|answer|reply|response)[^.\n]{0,100}"
    r"|(?:revised|rewritten|new|updated|better)? ?(?:revision|answer|response|version))\W{0,3}:\s*",
    re.IGNORECASE,
)
CLOSING = r"[”’»›)\]}」』）】》〉*_]"  # may follow a sentence's end and belongs to it
SENTENCE_END = re.compile(
    rf"[^\s\d][.!?…](?:{CLOSING}|[\"'])*(?=\s|$)"  # not the full stop of "3."
    # The same in Chinese and Japanese, which have no space after them.
    rf"|(?<=[\u3041-\u30ff\u3400-\u9fff])[.!?…]+(?:{CLOSING}|[\"'])*"
    # Chinese and Japanese, Devanagari and its kin, Arabic and Urdu, Armenian, Ethiopic, Burmese, Khmer and
    # Tibetan: these marks end nothing but sentences, and many scripts have no space after them.
    rf"|[。！？｡।॥؟۔։።፧။។៕།]{CLOSING}*"
    # Thai and Lao have no mark, but leave a space where a sentence or a part of one ends.
    r"|(?<=[\u0e01-\u0eff])(?=\s)"
)

WHOLE = re.compile(rf"[.!?…。！？｡।॥؟۔։።፧။។៕།](?:{CLOSING}|[\"'])*$")


# Of a character that was cut between its tokens: bytes that are none, an emoji's joint, and half a flag.
HALF = re.compile(
    "\\A\ufffd+|\ufffd+\\Z"
    "|(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d\ufffd*\\Z"
    "|(?<![\U0001f1e6-\U0001f1ff])(?P<flags>(?:[\U0001f1e6-\U0001f1ff]{2})*)[\U0001f1e6-\U0001f1ff]\ufffd*\\Z"
)
# How a text may be quoted as a whole, in several languages.
QUOTES = {"“": "”", '"': '"”', "„": "“”", "«": "»", "「": "」", "『": "』"}
OPENING = "([{" + "".join(QUOTES)  # no space follows these
MARKS = "".join((*QUOTES, *QUOTES.values()))


class Written(NamedTuple):
    """A text, what the token limit did to it, and what a model that thinks first thought before it."""

    text: str
    cut: Cut = ""
    thinking: str = ""

    @property
    def thought(self) -> Thought:
        """The record's column; none where the model did not think."""
        return {"thinking": self.thinking} if self.thinking else {}


def ends_whole(text: str) -> bool:
    """Whether the text ends as a sentence does; in Thai and Lao nothing tells."""
    return bool(WHOLE.search(text))


def whole_characters(text: str) -> str:
    """The text without the half of a character that its first or last token may have brought."""
    while (whole := HALF.sub(lambda match: match["flags"] or "", text)) != text:
        text = whole
    return text


def trimmed(text: str, finish: Literal["stop", "length"], thinking: str = "") -> Written:
    """The text without white space around it; one cut by the token limit ends with its last whole sentence.

    Where it has none, it stays as it is and is "unfinished".
    """
    text = stripped(text)
    if finish == "stop":
        return Written(text, "", thinking)
    if ends := [match.end() for match in SENTENCE_END.finditer(text)]:
        return Written(text[: ends[-1]], "trimmed", thinking)
    return Written(text, "unfinished", thinking)


def mended(text: str, finish: Literal["stop", "length"], thinking: str = "") -> Written:
    """The same without a preface and without quotation marks around all of it."""
    text, cut, _ = trimmed(bare(text), finish)
    text = bare(text, bool(cut))
    if cut:  # a quotation's end may have been all that it ended with
        cut = "trimmed" if trimmed(untrimmed(text), "length").text == text else "unfinished"
    return Written(text, cut, thinking)


def untrimmed(text: str) -> str:
    """What a trimmed text may have been before, so that trimming it gives it again."""
    return f"{text} x"


def stripped(text: str) -> str:
    """The text without white space and halves of characters around it."""
    while (inner := whole_characters(text.strip())) != text:
        text = inner
    return text


def continued(start: str, text: str) -> str:
    """``start`` and what a model wrote after it, stripped; "" where that is nothing.

    A server may lose the space that follows the start.
    """
    if not stripped(text):
        return ""
    parted = text[0].isalnum() and parted_by_spaces(text[0])
    gap = " " if parted and start and start[-1] not in OPENING else ""
    return stripped(start + gap + text)


def unsaid(start: str, text: str) -> str:
    """``text`` without ``start``, where a model that was to go on from there says it again."""
    again = text.lstrip()
    return again.removeprefix(start) if start and again.startswith(start) else text


def bare(text: str, cut: bool = False) -> str:
    """Without prefaces and marks of a quotation, whose end may have been ``cut`` off."""
    while (inner := _unquoted(stripped(PREFACE.sub("", text)), cut)) != text:
        text = inner
    return text


def _unquoted(text: str, cut: bool) -> str:
    closing = QUOTES.get(text[:1], "")
    inner = text[1:-1] if text[1:] and text[-1] in closing else text[1:] if closing and cut else ""
    return inner if inner and set(inner).isdisjoint(MARKS) else text


def cut_note(cuts: Iterable[Cut], limit: str) -> list[str]:
    """A stage's note of the texts that ran into the ``limit``; [] where none did."""
    all_of_them = list(cuts)
    trimmed, unfinished = all_of_them.count("trimmed"), all_of_them.count("unfinished")
    if not trimmed + unfinished:
        return []
    return [
        f"{trimmed + unfinished} of {len(all_of_them)} texts ran into {limit}: {trimmed} end with their last "
        f"whole sentence, {unfinished} have none and stay unfinished."
    ]
