"""What stands in a server's answer, in whichever form: its text, its thoughts, how it ended."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from solon.inference.openai_refusals import Json, words
from solon.prompts.thoughts import part

LENGTH = {"length", "max_tokens", "max_output_tokens", "model_length"}
FILTERS = {
    "content_filter",
    "content-filter",
    "safety",
    "blocked",
    "blocklist",
    "prohibited_content",
    "recitation",
    "spii",
    "sensitive",
    "refusal",
    "guardrail_intervened",
    "moderation",
}
BROKEN_OFF = {"error", "abort", "malformed_function_call", "network_error", "insufficient_system_resource"}
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # servers' names for the field


class Damaged(Exception):
    """No answer, or a part of one: the next may be whole."""


class Withheld(Exception):
    """A filter kept the answer back."""


class Nothing(Exception):
    """A sound answer with no text in it, as some filters give; seldom an accident."""


@dataclass(frozen=True)
class Answer:
    text: str
    finish: Literal["stop", "length"]
    tokens: int
    thinking: str = ""
    logprobs: Any = None  # as the server gives them


def body_of(response: Any) -> Json:
    """The answer's JSON. Raises Damaged where it is none."""
    if isinstance(response, str):
        if response.lstrip().startswith(("data:", "event:", ":")):
            return joined([json.loads(line) for line in sent(response)])
        raise Damaged(words(response))
    body = response if isinstance(response, dict) else response.model_dump(warnings=False)
    if not isinstance(body, dict):
        raise Damaged(words(body))
    return body


def chat(body: Json) -> Answer:
    """Raises Damaged, Withheld or Nothing where there is no answer in it."""
    choice = _choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Damaged(words(body))
    text, thoughts = _texts(message.get("content"))
    thoughts += [message[name] for name in THOUGHTS if isinstance(message.get(name), str)][:1]
    if not text and message.get("refusal"):
        raise Withheld(str(message["refusal"]))
    parted = part(text)
    thinking = "\n\n".join(thought for each in [*thoughts, parted.thinking] if (thought := each.strip()))
    return _answer(body, choice, parted.text, thinking)


def completion(body: Json) -> Answer:
    choice = _choice(body)
    if not isinstance(choice.get("text"), str):
        raise Damaged(words(body))
    return _answer(body, choice, choice["text"], "")


def sent(stream: str) -> list[str]:
    """What a stream of events has sent, one JSON each."""
    lines = [line.partition(":")[2].strip() for line in stream.splitlines() if line.startswith("data:")]
    return [line for line in lines if line and line != "[DONE]"]


def joined(pieces: list[Json]) -> Json:
    """A streamed answer as it would have come whole."""
    whole: Json = {"choices": [], "usage": None}
    choice: Json = {"message": {"content": ""}, "finish_reason": None, "logprobs": None}
    for piece in pieces:
        whole |= {name: piece[name] for name in ("usage", "error", "id") if piece.get(name)}
        for of_piece in (piece.get("choices") or [])[:1]:
            whole["choices"] = [choice]
            choice["finish_reason"] = of_piece.get("finish_reason") or choice["finish_reason"]
            delta = of_piece.get("delta") or of_piece.get("message") or {}
            for name in ("content", "refusal", *THOUGHTS):
                if isinstance(delta.get(name), str):
                    choice["message"][name] = (choice["message"].get(name) or "") + delta[name]
            if of_piece.get("text") is not None:
                choice["text"] = choice.get("text", "") + of_piece["text"]
            if content := (of_piece.get("logprobs") or {}).get("content"):
                choice["logprobs"] = {
                    "content": [*((choice["logprobs"] or {}).get("content") or []), *content]
                }
    if whole["choices"] and not choice["finish_reason"]:
        raise Damaged("the stream broke off")
    return whole


def _choice(body: Json) -> Json:
    choices = body.get("choices")
    if choices is None and (feedback := body.get("prompt_feedback") or body.get("promptFeedback")):
        raise Withheld(words(feedback))
    if not isinstance(choices, list):
        raise Damaged(words(body))
    if not choices:
        if feedback := body.get("prompt_feedback") or body.get("promptFeedback"):
            raise Withheld(str(feedback))
        raise Nothing
    choice = choices[0]
    if not isinstance(choice, dict):
        raise Damaged(words(body))
    finish = str(choice.get("finish_reason") or "").lower()
    if finish in FILTERS:
        raise Withheld(finish)
    if finish in BROKEN_OFF:
        raise Damaged(finish)
    return choice


def _answer(body: Json, choice: Json, text: str, thinking: str) -> Answer:
    usage = body.get("usage")
    tokens = (usage.get("completion_tokens") if isinstance(usage, dict) else 0) or 0
    finish = str(choice.get("finish_reason") or "").lower()
    return Answer(text, "length" if finish in LENGTH else "stop", tokens, thinking, choice.get("logprobs"))


def _texts(content: Any) -> tuple[str, list[str]]:
    """The text of a message, which may be in parts, and the thoughts among them."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise Damaged(str(content)[:80])
    texts, thoughts = [], []
    for each in content:
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, dict) and "thinking" in each:
            inner, _ = _texts(each["thinking"])
            thoughts.append(inner)
        elif isinstance(each, dict) and isinstance(each.get("text"), str):
            (thoughts if each.get("type") in {"thinking", "reasoning"} else texts).append(each["text"])
        elif isinstance(each, dict) and each.get("type") == "refusal":
            raise Withheld(str(each.get("refusal")))
    return "".join(texts), thoughts
