"""A multiple-choice question put to a chat that cannot continue an assistant's turn, and its first token."""

from collections.abc import Iterable, Sequence
from math import exp, log
from typing import Any

import numpy as np

from solon.prompts.dialogue import assistant, user
from solon.records import Message

TOP_LOGPROBS = 20  # the most that OpenAI's server and vLLM's give
# What may stand around a choice in a token: "A", " A", "(A" and "A)" are the same.
AROUND = " \t\n()[]{}\"'.:*_`（）【】「」“”"
MOST = 0.5  # of the probability: below, the model is more likely to begin with something else than a choice
SLIGHT = 0.05  # of the probability: what a choice that is not listed may have without changing much
NEGLIGIBLE = 1e-9  # of the probability, so that a logarithm is finite
ANSWER_TOKENS = 8  # room for a letter and what a model likes to put around it


def turns(messages: Sequence[Message], prefill: str, reply: str) -> list[Message]:
    """The prefill as a turn of its own, and a further user turn that asks the model to go on from there."""
    return [*messages, assistant(prefill.rstrip(" (")), user(reply)]


def reply_with(choices: Sequence[str]) -> str:
    return f"Go on from there: reply with {' or '.join(choices)} and nothing else."


def likeliest(given: Any) -> list[tuple[str, float]]:
    """The likeliest first tokens with their log-probabilities (nats), as a chat server gives them."""
    if not isinstance(given, dict):
        return []
    if content := given.get("content"):
        listed = content[0].get("top_logprobs") or content[:1]
        found = [(entry.get("token"), entry.get("logprob")) for entry in listed]
    else:  # as of completions, which some give in a chat, too
        top, tokens = given.get("top_logprobs") or [{}], given.get("tokens") or [None]
        own = [(tokens[0], (given.get("token_logprobs") or [None])[0])]
        found = list((top[0] or {}).items()) or own
    return [
        (token, float(logprob))
        for token, logprob in found
        if isinstance(token, str) and isinstance(logprob, int | float)
    ]


def logprobs(choices: Sequence[str], likeliest: Iterable[tuple[str, float]]) -> tuple[float, ...] | None:
    """The choices' log-probabilities (nats), summed over their variants (see ``AROUND``).

    ``likeliest`` are the likeliest first tokens with theirs. None where the choices have together less than
    ``MOST`` of the probability: then the model begins with something else, and what it thinks of them is not
    to be seen in what little is left. None, too, where too few tokens are listed to tell how small that of a
    missing choice is: it has no more than the least that is listed, and than all that is not listed.
    """
    candidates = list(likeliest)
    of_choices = [
        [logprob for token, logprob in candidates if token.strip(AROUND) == choice.strip(AROUND)]
        for choice in choices
    ]
    found = sum(exp(logprob) for variants in of_choices for logprob in variants)
    rest = 1 - sum(exp(logprob) for _, logprob in candidates)
    missing = min(rest, exp(min(logprob for _, logprob in candidates)))
    if found < MOST or (missing > SLIGHT and not all(of_choices)):
        return None
    floor = log(max(missing, NEGLIGIBLE))
    return tuple(float(np.logaddexp.reduce(variants or [floor])) for variants in of_choices)
