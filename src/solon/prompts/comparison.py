"""How the feedback model is asked which of two answers is better (paper, section 4.1)."""

import re
from collections.abc import Sequence
from typing import Literal

from solon.constitution import ComparisonExample, ComparisonPrinciple, ReasoningExample
from solon.prompts.dialogue import assistant, transcript, user
from solon.records import Message

Layout = Literal["principle-first", "principle-last"]

# The judge's turn begins with this, so that its next token is the letter.
VERDICT = "The better answer is ("
LETTERS = ("A", "B")

# With chain of thought the judge's turn begins with REASONING and ends where CONCLUSION would follow.
REASONING = "Let me think about both answers step by step."
CONCLUSION = "So the better answer is"

# Lines that would pass as ours, were they in an answer or in the dialogue.
OURS = re.compile(
    r"^\W*(?:[(（]?[ABＡＢ][)）]|(?i:human|assistant|system) ?[:：]|(?i:so )?(?i:the|name the) better answer"
    r"|(?i:read this conversation|below are two answers|weigh both answers))",
    re.MULTILINE,
)


def quoted(text: str) -> str:
    """The text with its further lines indented where one of them could pass as a line of the question.

    Other texts stay as they are: indenting costs a token a line.
    """
    return text.replace("\n", "\n    ") if OURS.search(text) else text


def question(
    dialogue: Sequence[Message], instruction: str, answer_a: str, answer_b: str, layout: Layout, reason: bool
) -> Message:
    """The multiple-choice question about two answers to ``dialogue``.

    The paper puts the principle between the dialogue and the options ("principle-first"); with the principle
    last, all principles share the options' text as well.
    """
    options = f"(A) {quoted(answer_a)}\n\n(B) {quoted(answer_b)}"
    parts = [instruction, options] if layout == "principle-first" else [options, instruction]
    return user(
        "\n\n".join(
            [
                "Read this conversation between a person and an AI assistant.",
                transcript([{"role": turn["role"], "content": quoted(turn["content"])} for turn in dialogue]),
                "Below are two answers, (A) and (B), that the assistant could give next.",
                *parts,
                "Weigh both answers first, then name the better one: (A) or (B)."
                if reason
                else "Name the better answer: (A) or (B).",
            ]
        )
    )


def worked_examples(
    examples: Sequence[ComparisonExample], principles: Sequence[ComparisonPrinciple], layout: Layout
) -> list[Message]:
    """The examples as answered questions.

    The better answer is (A) and (B) by turns, so that the examples favour neither letter. They are the same
    for every question, so that engines compute them once.
    """
    messages: list[Message] = []
    for number, example in enumerate(examples):
        instruction = principles[number % len(principles)].instruction
        letter = LETTERS[number % 2]
        options = (example.better, example.worse) if letter == "A" else (example.worse, example.better)
        messages += [
            question(example.dialogue, instruction, *options, layout, reason=False),
            assistant(f"{VERDICT}{letter})."),
        ]
    return messages


def worked_reasoning(
    examples: Sequence[ReasoningExample], principles: Sequence[ComparisonPrinciple], layout: Layout
) -> list[Message]:
    """The examples with their reasoning, for chain of thought."""
    messages: list[Message] = []
    for number, example in enumerate(examples):
        instruction = principles[number % len(principles)].instruction
        messages += [
            question(example.dialogue, instruction, example.option_a, example.option_b, layout, reason=True),
            assistant(f"{REASONING} {example.reasoning}\n\n{CONCLUSION} ({example.answer})."),
        ]
    return messages
