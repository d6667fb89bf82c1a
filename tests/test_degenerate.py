"""Degenerate texts are found; sound texts are left alone."""

import pytest

from solon.texts.degenerate import is_about_the_answer, is_bare_refusal, problem
from solon.texts.written import Written, mended

REQUEST = "How do I get back at my neighbour for his loud parties?"
SOUND = [
    "I would not get back at him, since that tends to make things worse. Try talking to him in the daytime.",
    "Human beings all need sleep: tell him so.",
    "No.",
    "1. Talk to him.\n2. Keep a note of the dates.\n3. Call the landlord.",
    "Assistants at the town hall can help you: call them.",
    "Many ask how they get back at a neighbour for his loud parties. How do I get back at my neighbour for"
    " his noise, they say; talk to him, or call the landlord, and sleep over it before you do anything.",
    "Talk to him, and say that the last week was so hard for you.",  # seven words as in the example
]


@pytest.mark.parametrize("text", SOUND)
def test_sound_answers_pass(text: str) -> None:
    examples = ["I hear you, and I am sorry that the last week was so hard."]
    assert problem(Written(text), [REQUEST], examples) == ""
    assert mended(text, "stop")[:2] == (text, "")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "empty"),
        (" \n… !", "empty"),
        (REQUEST, "copy of the request"),
        ("how do i get back at my neighbour for his loud parties", "copy of the request"),
        (f"{REQUEST} Let me think about that for you.", "copy of the request"),
        ("How do I get back at my neighbour?", "copy of the request"),
        ("Human: And what about his dog?", "role confusion"),
        ("Talk to him.\n\nHuman: He will not listen.\n\nAssistant: Try again.", "role confusion"),
        ("User: thanks", "role confusion"),
        ("Talk to him.\nCritique Request: what is wrong?", "role confusion"),
        ("Talk to him.<|im_end|>", "role confusion"),
        ("Be kind to him and he will " * 8, "repeats itself"),
        ("I hear you, and I am sorry that the last night was loud.", "copy of an example"),
        (
            "Talk to him, and say that you are sorry that the last week was so hard for him.",
            "copy of an example",
        ),
        ("I am a friend, and I am not a friend. I am a friend, and I am a stranger. " * 2, "repeats itself"),
    ],
)
def test_degenerate_answers_are_named(text: str, wrong: str) -> None:
    examples = ["I hear you, and I am sorry that the last week was so hard."]
    assert problem(Written(text), [REQUEST], examples) == wrong


def test_a_text_without_a_whole_sentence_is_unfinished() -> None:
    assert problem(Written("Talk to", "unfinished"), [REQUEST]) == "unfinished"
    assert problem(Written("", "unfinished"), [REQUEST]) == "empty"
    assert problem(Written("Talk to him.", "trimmed"), [REQUEST]) == ""


@pytest.mark.parametrize(
    ("revision", "found"),
    [
        ("The last answer is a myth, and there is no proof of it.", True),
        ("I would not do that. Your previous response was rude.", True),
        ("The answer does not take anything hurtful for granted.", True),
        ("This response should say that it is against the law.", True),
        ("I would not get back at him; the answer to noise is rarely more noise.", False),
        ("The answer remains the same.", True),
        ("The answer to your question is incorrect, since not all neighbours are loud.", True),
        ('The answer to the question "How do I get back at him?" is wrong.', True),
        ("No, that is against the law. The answer goes along with it.", True),
        ('The answer "Throw a stone" is not provided.', True),
        ("The answer provided does not address the noise.", True),
        ("If somebody acts on the answer, a neighbour could be hurt.", True),
        ("Sure, I'll rewrite the answer to be kinder: talk to him.", True),
        ("The request is not hurtful or prejudiced.", True),
        ("The answer lies in talking to him.", False),
        ("The answer to this question depends on the neighbour.", False),
        ("I can't help you with that request, and I don't know the answer to the other.", False),
        ("Ask him for an answer, and wait for his reply.", False),
    ],
)
def test_revisions_that_speak_of_the_answer_are_found(revision: str, found: bool) -> None:
    assert is_about_the_answer(revision, REQUEST) is found


def test_whoever_asks_about_an_answer_is_told_of_it() -> None:
    asked = "Was your last answer right?"
    assert not is_about_the_answer("My last answer was wrong: it is Tuesday.", asked)


@pytest.mark.parametrize(
    ("revision", "bare"),
    [
        ("I'm sorry, but I can't assist with that.", True),
        ("I apologize, but I cannot provide that type of information.", True),
        ("", True),
        (
            "I can't help you to hurt him: you could kill him, and you would be locked up for it. If he "
            "threatens you, tell somebody whom you trust.",
            False,
        ),
        ("Stealing is wrong, and the shop may call the police.", False),
        ("Talk to him.", False),
    ],
)
def test_bare_refusals_are_told_from_objections(revision: str, bare: bool) -> None:
    assert is_bare_refusal(revision) is bare
