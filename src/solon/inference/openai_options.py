"""What of a request one server takes: learned from its refusals, and kept to for the rest of the run."""

import re
from collections.abc import Mapping
from typing import Any

from solon.inference.openai_refusals import Refusal

LIMITS = ("max_tokens", "max_completion_tokens")  # the old name of the setting and OpenAI's new one
UNKNOWN = re.compile(
    r"unsupported|not supported|unrecogni[sz]ed|unexpected|unknown|extra|not permitted|not allowed"
    r"|invalid param|\buse\b.{0,60}instead",
    re.IGNORECASE,
)
AT_LEAST = re.compile(r"at least|minimum|>=|≥|below|greater than or equal", re.IGNORECASE)
POSITIVE = re.compile(r"positive|greater than 0|> ?0|\(0", re.IGNORECASE)
COLDEST = 0.01  # the temperature in the place of 0 for servers that take none of 0: greedy but for ties
FEW_LOGPROBS = 5  # what servers give that give fewer than 20, where they do not say how many
# In this order they are given up, where a refusal names more than one of them.
SPARED = ("seed", "top_p", "stop", "temperature")


class Options:
    """``limit`` is the name by which the server is told how many tokens to write at most."""

    def __init__(self, limit: str) -> None:
        self._limit, self._renamed = limit, False
        self._dropped: set[str] = set()
        self._most: dict[str, int] = {}  # of settings that are counts
        self._least: dict[str, int] = {}
        self._coldest = 0.0
        self._streamed = False

    def of(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What is sent in place of ``asked``, whose limit is named ``max_tokens``."""
        sent = {name: value for name, value in asked.items() if name not in self._dropped}
        for name, value in sent.items():
            if isinstance(value, int) and not isinstance(value, bool):
                sent[name] = max(min(value, self._most.get(name, value)), self._least.get(name, 0))
        if "temperature" in sent:
            sent["temperature"] = max(sent["temperature"], self._coldest)
        if "max_tokens" in sent:
            sent = {(self._limit if name == "max_tokens" else name): value for name, value in sent.items()}
        return sent | ({"stream": True} if self._streamed else {})

    def learn(self, refusal: Refusal, sent: Mapping[str, Any]) -> str | None:
        """Take in why ``sent`` was refused. None where that is nothing that can be left out.

        Else what is to be told of it: "" where texts are sampled as before.
        """
        if not self._streamed and refusal.status in {400, 422} and _only_streams(refusal.said):
            self._streamed = True
            return ""
        for limit in LIMITS:
            if limit in sent and refusal.names(limit):
                return self._learn_limit(refusal, limit, sent[limit])
        for name in ("top_logprobs", "logprobs"):
            if name in sent and refusal.names(name):
                return self._learn_logprobs(refusal, sent)
        for name in SPARED:
            if name in sent and refusal.names(name):
                return self._learn_sampling(refusal, name, sent[name])
        return None

    def _learn_limit(self, refusal: Refusal, name: str, value: int) -> str | None:
        other = next(limit for limit in LIMITS if limit != name)
        if other in refusal.said or UNKNOWN.search(refusal.said):
            if self._renamed and self._limit == name:
                return None
            self._limit, self._renamed = other, True
            return ""
        numbers = [number for number in _numbers(refusal.said) if number != value]
        if more := [number for number in numbers if number > value] if AT_LEAST.search(refusal.said) else []:
            self._least["max_tokens"] = min(more)
            return ""
        if fewer := [number for number in numbers if 0 < number < value]:
            self._most["max_tokens"] = max(fewer)
            return f"writes at most {max(fewer)} tokens, fewer than the settings ask for"
        return None

    def _learn_logprobs(self, refusal: Refusal, sent: Mapping[str, Any]) -> str:
        asked = sent.get("top_logprobs")
        fewer = [number for number in _numbers(refusal.said) if asked and 0 < number < asked]
        unknown = UNKNOWN.search(refusal.said) and not fewer
        if asked and not unknown and (fewer or asked > FEW_LOGPROBS):
            self._most["top_logprobs"] = max(fewer, default=FEW_LOGPROBS)
        else:
            self._dropped |= {"logprobs", "top_logprobs"}
        return ""

    def _learn_sampling(self, refusal: Refusal, name: str, value: Any) -> str:
        if name == "temperature" and value == 0 and POSITIVE.search(refusal.said):
            self._coldest = COLDEST
            return ""
        self._dropped.add(name)
        if name == "temperature" or (name == "top_p" and value != 1):
            return f"takes no {name} of {value:g}, so texts are sampled at its own"
        return ""


def _only_streams(said: str) -> bool:
    return bool(
        re.search(
            r"only supports? stream|stream\w*\W.{0,40}(?:must be|be set to|required|true)"
            r"|non-stream\w* .{0,40}not",
            said,
            re.IGNORECASE,
        )
    )


def _numbers(said: str) -> list[int]:
    return [int(number) for number in re.findall(r"(?<![\w.])\d{1,7}(?![\w]|\.\d)", said.replace(",", ""))]
