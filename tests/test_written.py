"""What a model wrote is kept by one treatment: prefaces, quotation marks and what a token limit cut off."""

import random
import re
from collections.abc import Callable

import pytest

from solon.texts.written import Written, mended, trimmed, untrimmed


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("Here is a revised answer:\n\nTalk to him.", "Talk to him."),
        ("Sure! Here’s the rewritten response: Talk to him.", "Talk to him."),
        ("Revision: Talk to him.", "Talk to him."),
        ("Sure, here's a decent reply:\n\nTalk to him.", "Talk to him."),
        (
            "Sure! Here's a new answer that a family can read together and still learn something from: Talk.",
            "Talk.",
        ),
        ("Here is what I would say: talk to him.", "Here is what I would say: talk to him."),
        ("“Talk to him.”", "Talk to him."),
        ('"Talk," she said, "to him."', '"Talk," she said, "to him."'),
        ("Here is what I would do: talk to him.", "Here is what I would do: talk to him."),
    ],
)
def test_a_preface_and_quotation_marks_are_cut(text: str, better: str) -> None:
    assert mended(text, "stop")[:2] == (better, "")


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("Talk to him. If he does not list", "Talk to him."),
        ("1. Talk to him.\n2. Call the landlord.\n3.", "1. Talk to him.\n2. Call the landlord."),
        ("It costs 3.50 or so and then", "It costs 3.50 or so and then"),
        ('He said "Stop." and then he', 'He said "Stop."'),
        ("**Stop.** Then talk to", "**Stop.**"),
        ("“Talk to him. If he does", "Talk to him."),  # as where the quotation ends
    ],
)
def test_a_text_cut_at_the_limit_ends_with_a_whole_sentence(text: str, better: str) -> None:
    cut = "trimmed" if better != text else "unfinished"
    assert mended(text, "length")[:2] == (better, cut)
    assert mended(text, "stop")[:2] == (text, "")


LANGUAGES = {
    "Chinese": ("我不能帮你做这件事。偷窃是违法的！如果你缺钱，可以", "我不能帮你做这件事。偷窃是违法的！"),
    "Chinese in quotation marks": ("他说：“先问他。”然后再", "他说：“先问他。”"),
    "Japanese": (
        "それはお手伝いできません。まず「やめて。」と話してみましょう。それでも",
        "それはお手伝いできません。まず「やめて。」と話してみましょう。",
    ),
    "Hindi": (
        "मैं इसमें मदद नहीं कर सकता। चोरी करना गलत है। पहले मालिक से",
        "मैं इसमें मदद नहीं कर सकता। चोरी करना गलत है।",
    ),
    "Arabic": ("هل سألت صاحبها؟ السرقة خطأ. يمكنك أن", "هل سألت صاحبها؟ السرقة خطأ."),
    "Urdu": ("یہ غلط ہے۔ پہلے مالک سے", "یہ غلط ہے۔"),
    "Thai": ("ฉันช่วยเรื่องนี้ไม่ได้ การขโมยเป็นสิ่งผิด ลองคุยกับเจ้าขอ", "ฉันช่วยเรื่องนี้ไม่ได้ การขโมยเป็นสิ่งผิด"),
    "German": ("Das wäre Diebstahl. Frag lieber den Besi", "Das wäre Diebstahl."),
    "Armenian": ("Դա սխալ է։ Նախ հարց", "Դա սխալ է։"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_end_in_every_language(language: str) -> None:
    text, whole = LANGUAGES[language]
    assert trimmed(text, "length")[:2] == (whole, "trimmed")
    assert trimmed(text, "stop")[:2] == (text, "")
    if language != "Thai":  # where nothing tells the end of the last phrase from a break
        assert trimmed(f"\n{whole} ", "length")[:2] == (whole, "trimmed")


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_has_no_whole_sentence_stays_and_says_so(language: str) -> None:
    begun = re.split("[ 。！।؟۔։.]", LANGUAGES[language][0])[0]
    assert trimmed(begun, "length")[:2] == (begun, "unfinished")


def test_half_a_character_does_not_stay() -> None:
    assert trimmed("偷窃是\ufffd", "length")[:2] == ("偷窃是", "unfinished")


@pytest.mark.parametrize("treated", [trimmed, mended])
def test_what_was_treated_stays_so_when_it_is_treated_again(treated: Callable[..., Written]) -> None:
    """Otherwise an audit, which does that, would call a sound text forged."""
    parts = ['"', "“", "”", "«", "»", " ", ".", "!", "?", "。", "'", "a", "3", "\n", "\ufffd", "字", "ก", "ข"]
    parts += ["Sure, here's a revised answer:\n", "Revision: ", "\u200d", "👨", "🇩", "🇪"]
    draw = random.Random(0)
    for number in range(20_000):
        text, finish = "".join(draw.choices(parts, k=draw.randint(1, 9))), ("stop", "length")[number % 2]
        once = treated(text, finish)
        before = untrimmed(once.text) if once.cut == "trimmed" else once.text
        assert not once.text or treated(before, "length" if once.cut else "stop") == once, text
