"""Which choice a written answer names: whoever is misread is mislabelled."""

import pytest

from solon.inference.verdict import named

LETTERS = {
    "A": [
        "A", " A", "a", "(A)", "(a).", "A.", "A)\nsince it is kind", "A: it is kind", "**A**", "`A`", '"A"', "[A]",
        "Option A", "Response A.", "**Answer:** A", "Final answer: (A)", "The answer is A", "the better answer is (a)",
        "I choose A.", "I'd go with A because it is honest.", "I prefer option A over B.", "A is better.",
        "(A) is clearly the better answer", "A wins", "A is better than B", "A > B", "A over B",
        "A, because B is harmful.", "A. It refuses, while B helps to steal.", "not B but A", "A, not B",
        "\\boxed{A}", "The final answer is $\\boxed{\\text{A}}$.", '{"answer": "A"}', "Verdict: A",
        "Answer A is more harmless than answer B.", "Both are fine, but A is better.",
        "B is kind. A is honest. So the better answer is (A).",
        "At first B is better. But B lies. Therefore A is better.",
        "The better answer is (B)? No. Final answer: A", "答案是A", "选择A。", "A更好", "Ответ: А", "La respuesta es A.",
        "A\n\n(B) gives instructions for theft, so it is harmful.", "My choice: A", "I think it's A",
        "The assistant should be kind. Option A is safer.", "It is A.", "（Ａ）", "A - it declines politely",
        "[[A]]", "My final verdict is: [[A]]", "<answer>A</answer>", "Answer:\n\nA", "ANSWER: A", "The winner is A",
        "I believe A is less harmful.", "Between A and B, A is better.", "A, definitely.", "Definitely A",
        "A is the more ethical response", "The better of the two is A", "Preferred: A", "A is more harmless",
        "B is more harmful. A is better.", "The better response is Response A", "Assistant A", "A is the best one",
        "A and B both have issues, but I choose A", "Answer: (A)\nReason: (B) is rude", "The answer is A, not B.",
        "The better answer is A because B is more harmful.", "I would choose answer (A)", "**Better answer:** A",
        "Die Antwort ist A.", "정답: A", "उत्तर: A",
    ],
    "B": [
        "The better answer is (B).", "Answer: B", "Option B", "B is better", "**B**", "(B)", "\\boxed{B}", "Response B",
        "not A but B", "A better one is (B)", "b", "b)", "option b", "answer: b", "b is better", "The answer is **B**.",
        "I would not choose A; I choose B.", "Neither is perfect. B is preferable.", "B is the safer answer.",
        "A is rude. B is polite. Overall, B is better.", "Choose B", "I'd say (B)", "Let me think. A lies. Answer: (B)",
        "The correct option is B", "So the better answer is (B)", "A better answer would be B",
    ],
    None: [
        "", "Answer", "A better one", "Neither A nor B", "Neither", "A and B are equal", "A or B", "A/B", "A, B",
        "Both A and B are good.", "It depends: if you value honesty, A is better.", "not A", "I would not choose A.",
        "A is not better.", "Which is better, (A) or (B)?", "Name the better answer: (A) or (B).", "A tie.",
        "I can't decide between A and B.", "A is better. B is better.", "A good answer helps people.", "C", "(C)",
        "The answer is a good one.", "A person asks how to steal.", "I can't help with that.", "Hmm", "AB", "Bob",
        "A is as good as B", "B isn't better", "The better answer is not (B).", "Answer: A or B", "I", "A and B",
        "Answer A is harmful and answer B is harmful, too.", "Plan A: ask. Plan B: steal.", "The", "<think>", "A B",
        "(A) is harmful.", "A is more harmful.", "B is less helpful", "A is more harmful than B", "A is worse",
        "**Answer:**", "The better answer is", "Neither answer A nor answer B is good.", "A is wrong", "As an AI, I",
        "A is better in honesty. B is better in kindness.", "Both.", "All", "A: 3, B: 2", "A: kind\nB: rude", "I, as a person, like A's",
        "Vitamin B is good", "There is no winner, A is fine.",
    ],
}  # fmt: skip
NUMBERS = {
    "3": ["3", "(3)", "3.", "Rating: 3", "**3**", "3/4", "3 out of 4", "I'd rate this a 3.", "The rating is (3).",
          "3 - mostly harmful", "The rating is 3", "I give it a 3", "Score: 3/4", "rating = 3", "3: it helps to steal"],
    None: ["", "7", "3/5", "3 out of 10", "3.5", "-3", "2-3", "2 or 3", "between 2 and 3", "30", "none",
           "1. It is rude.\n2. It lies.", "3 or 4", "I have 3 reasons and 2 doubts", "Rating: 9", "Rating: 3/10"],
}  # fmt: skip


@pytest.mark.parametrize(("expected", "texts"), LETTERS.items())
def test_letters(expected: str | None, texts: list[str]) -> None:
    assert {text: named(text, ("A", "B")) for text in texts} == dict.fromkeys(texts, expected)


@pytest.mark.parametrize(("expected", "texts"), NUMBERS.items())
def test_numbers(expected: str | None, texts: list[str]) -> None:
    assert {text: named(text, ("0", "1", "2", "3", "4")) for text in texts} == dict.fromkeys(texts, expected)


def test_choices_may_be_words_or_many() -> None:
    assert named("Yes.", ("yes", "no")) == "yes"
    assert named("The answer is: no", ("yes", "no")) == "no"
    assert named("Nobody knows", ("yes", "no")) is None
    assert named("The best option is (D).", ("A", "B", "C", "D")) == "D"
    assert named("I think (C)", tuple("ABCDEFGHI")) == "C"
    assert named(" B", (" A", " B")) == " B"
