"""A multiple-choice question put to a chat that cannot continue an assistant's turn, and its first token."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from solon.prompts.dialogue import assistant, user
from solon.records import Message

TOP_LOGPROBS = 20  # the most that OpenAI's server and vLLM's give
AROUND = " \t\n()[]\"'.:*"  # what may stand around a choice in a token: "A", " A", "(A" and "A)" are the same
ANSWER_TOKENS = 8  # room for a letter and what a model likes to put around it


def turns(messages: Sequence[Message], prefill: str, reply: str) -> list[Message]:
    """The prefill as a turn of its own, and a further user turn that asks the model to go on from there."""
    return [*messages, assistant(prefill.rstrip(" (")), user(reply)]


def reply_with(choices: Sequence[str]) -> str:
    return f"Go on from there: reply with {' or '.join(choices)} and nothing else."


def logprobs(choices: Sequence[str], likeliest: Iterable[tuple[str, float]]) -> tuple[float, ...]:
    """The choices' log-probabilities (nats), summed over their variants (see ``AROUND``).

    ``likeliest`` are the likeliest first tokens with theirs. A choice that is not among them gets the lowest,
    which is an upper bound.
    """
    candidates = list(likeliest)
    floor = min(logprob for _, logprob in candidates)
    of_choices = [
        [logprob for token, logprob in candidates if token.strip(AROUND) == choice.strip(AROUND)]
        for choice in choices
    ]
    return tuple(float(np.logaddexp.reduce(variants or [floor])) for variants in of_choices)


def named(text: str, choices: Sequence[str]) -> list[str]:
    """The choice that a sampled answer begins with, if any: "(A)." names A, "A better one is" does not."""
    for choice in choices:
        if re.match(rf"\W*{re.escape(choice.strip())}(?!\w)(?! \w)", text):
            return [choice]
    return []
