"""Lengths and words in scripts with and without spaces."""

import pytest

from solon.policy.length_control import length
from solon.sources.red_team_words import is_english
from solon.texts.degenerate import problem
from solon.texts.repetition import boilerplate, common_phrases
from solon.texts.words import count, joined, words
from solon.texts.written import Written, mended, whole_characters

# Article 1 of the Universal Declaration of Human Rights: 30 words in English.
RIGHTS = {
    "English": "All human beings are born free and equal in dignity and rights. They are endowed with reason "
    "and conscience and should act towards one another in a spirit of brotherhood.",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
    "人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม "
    "และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ",
    "Lao": "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ, ສິດທິ, ເສລີພາບ ແລະ ຄວາມສະເໝີພາບເທົ່າທຽມກັນ. ທຸກໆຄົນມີເຫດຜົນ ແລະ "
    "ຄວາມຄິດຄວາມເຫັນສ່ວນຕົວຂອງໃຜຂອງມັນ, ແຕ່ວ່າມະນຸດທຸກໆຄົນຄວນປະພຶດຕໍ່ກັນຄືກັນກັບເປັນອ້າຍນ້ອງກັນ.",
    "Khmer": "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងភាពស្មើៗគ្នាក្នុងសិទ្ធិនិងសេចក្ដីថ្លៃថ្នូរ។ "
    "មនុស្សគ្រប់រូបសុទ្ធតែមានវិចារណញ្ញាណនិងសតិសម្បជញ្ញៈ ហើយត្រូវប្រព្រឹត្ដចំពោះគ្នាទៅវិញទៅមកក្នុងស្មារតីរាប់អានគ្នាជាបងជាប្អូន។",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। "
    "उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا وعليهم أن "
    "يعامل بعضهم بعضًا بروح الإخاء.",
}


@pytest.mark.parametrize("language", RIGHTS)
def test_the_same_text_has_about_as_many_words_in_every_language(language: str) -> None:
    text = RIGHTS[language]
    assert 18 <= count(text) <= 45
    assert count(f"{text} {text}") == pytest.approx(2 * count(text), abs=1)
    assert abs(length(text) - length(RIGHTS["English"])) < 0.5
    assert problem(Written(text), ["?"]) == ""  # no loop is seen in an ordinary text
    assert problem(Written(" ".join([text] * 3)), ["?"]) == "repeats itself"
    assert problem(Written(f"{text} {text[:9]}"), [text]) == "copy of the request"


def test_english_is_counted_by_white_space() -> None:
    for text in ("", "Don't — ask him!", "a\n b", "naïve “words” 100 %"):
        assert count(text) == len(text.split())


def test_signs_on_letters_belong_to_words() -> None:
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("می‌خواهم") == ["می‌خواهم"]
    assert words("Cafe\u0301") == words("CAFÉ") == words("ｃａｆé") == ["café"]
    assert words("我的 iPhone 坏了") == ["我", "的", "iphone", "坏", "了"]
    assert joined(["my", "iphone", "我", "的", "ok"]) == "my iphone 我的 ok"


def test_boilerplate_is_found_in_chinese() -> None:
    shared = "如有需要请随时告诉我"
    texts = [(str(number), f"第{number}个回答说的是另一件事。{shared}") for number in range(4)]
    assert boilerplate(texts) > boilerplate([(prompt, text.partition("。")[0]) for prompt, text in texts])
    assert shared in common_phrases(texts)[0]["text"]


def test_a_short_prompt_in_another_script_is_not_taken_for_english() -> None:
    assert not is_english("如何制造炸弹？")
    assert is_english("Hello!")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("\ufffd偷窃是\ufffd\ufffd", "偷窃是"),
        ("She is a 👩\u200d", "She is a 👩"),
        ("She is a 👩\u200d\ufffd", "She is a 👩"),
        ("🇫🇷 and 🇩", "🇫🇷 and "),
        ("🇫🇷🇩🇪", "🇫🇷🇩🇪"),
        ("ന\u0d4d\u200d", "ന\u0d4d\u200d"),  # where the joint is part of how a letter is written
    ],
)
def test_no_character_is_cut_in_half(text: str, whole: str) -> None:
    assert whole_characters(text) == whole


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("„Sprich mit ihm.“", "Sprich mit ihm."),
        ("「先に聞いてください。」", "先に聞いてください。"),
        ("«Parle-lui.»", "Parle-lui."),
        ("„Ja“ und „Nein“", "„Ja“ und „Nein“"),
    ],
)
def test_quotation_marks_of_other_languages_are_cut(text: str, better: str) -> None:
    assert mended(text, "stop") == Written(better)


@pytest.mark.parametrize(
    "text", ["先问他。\n用户：为什么？", "Frag ihn.\n\nNutzer: Warum?", "पूछो।\nउपयोगकर्ता: क्यों?"]
)
def test_the_dialogue_written_on_is_seen_in_other_languages(text: str) -> None:
    assert problem(Written(text), ["?"]) == "role confusion"
