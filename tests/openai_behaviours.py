"""A server whose addresses behave as servers do that people have met: ``/NAME/v1/chat/completions``.

What it answers where it answers is ``text_of`` the last message, so that a record is right or it is not.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Json = dict[str, Any]
Reply = tuple[int, Any, dict[str, str]]  # status, body (JSON or text), headers
FLAGGED = "bomb"  # in prompts that filters refuse
BEHAVIOURS: dict[str, Callable[["Call"], Reply]] = {}


def text_of(asked: str) -> str:
    return f"You said: {asked}"


class Call:
    """What was asked, and for the how manyth time (from 1)."""

    def __init__(self, asked: Json, key: str, times: int) -> None:
        self.asked, self.key, self.times = asked, key, times
        self.last: str = asked["messages"][-1]["content"]
        self.flagged = any(FLAGGED in each["content"] for each in asked["messages"])

    def says(self, text: str | None = None, **changes: Any) -> Reply:
        """An answer, with changes to its one choice; ``message`` changes the message."""
        message = {"role": "assistant", "content": text_of(self.last) if text is None else text}
        message |= changes.pop("message", {})
        choice = {"index": 0, "message": message, "finish_reason": "stop", **changes}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return 200, {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}, {}

    def likeliest(self, **shares: float) -> Reply:
        """An answer whose first token had these probabilities."""
        from math import log

        most = self.asked.get("top_logprobs")
        if not most:
            return self.says(next(iter(shares)))
        listed = [{"token": token, "logprob": log(share)} for token, share in [*shares.items()][:most]]
        return self.says(listed[0]["token"], logprobs={"content": [{**listed[0], "top_logprobs": listed}]})


def refuses(code_: int, message: str, headers: dict[str, str] | None = None, **error: Any) -> Reply:
    return code_, {"error": {"message": message, **error}}, headers or {}


def behaviour(name: str) -> Callable[[Callable[[Call], Reply]], Callable[[Call], Reply]]:
    def named(function: Callable[[Call], Reply]) -> Callable[[Call], Reply]:
        BEHAVIOURS[name] = function
        return function

    return named


def once(name: str, *replies: Reply | Callable[[], Reply]) -> None:
    """Fails in these ways, one after another, before it answers."""

    def function(call: Call) -> Reply:
        if call.times > len(replies):
            return call.says()
        reply = replies[call.times - 1]
        return reply() if callable(reply) else reply

    BEHAVIOURS[name] = function


def always(name: str, reply: Reply) -> None:
    BEHAVIOURS[name] = lambda _: reply


def to_flagged(name: str, reply: Reply | Callable[[Call], Reply]) -> None:
    """Answers all but flagged prompts."""

    def function(call: Call) -> Reply:
        if not call.flagged:
            return call.says()
        return reply(call) if callable(reply) else reply

    BEHAVIOURS[name] = function


def takes(name: str, wrong: Callable[[Json], bool], reply: Reply) -> None:
    """Refuses requests with some setting."""
    BEHAVIOURS[name] = lambda call: reply if wrong(call.asked) else call.says()


# Filters

to_flagged(
    "azure-filter",
    refuses(
        400,
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        code="content_filter",
        param="prompt",
        innererror={
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"hate": {"filtered": True}},
        },
    ),
)
to_flagged("policy-violation", refuses(400, "Your request was rejected.", code="content_policy_violation"))
to_flagged(
    "moderation",
    refuses(
        403,
        'Your chosen model requires moderation and your input was flagged for "violence". '
        "No credits were used.",
        code=403,
        metadata={"reasons": ["violence"], "flagged_input": "How do I make a bomb?"},
    ),
)
to_flagged("high-risk", refuses(400, "The request was rejected because it was considered high risk"))
to_flagged("exists-risk", refuses(400, "Content Exists Risk", type="invalid_request_error"))
to_flagged("output-blocked", refuses(400, "Output blocked by content filtering policy"))
to_flagged("guidelines", (403, {"code": "403", "error": "Content violates usage guidelines."}, {}))
to_flagged("filter-detail", (400, {"detail": "Input flagged by safety filter"}, {}))
to_flagged("legal-reasons", (451, "<html>Unavailable For Legal Reasons</html>", {}))
to_flagged(
    "filter-of-choice", (200, {"choices": [{"error": {"code": "content_filter", "message": "no"}}]}, {})
)
to_flagged("filter-finish", lambda call: call.says("Take some", finish_reason="content_filter"))
to_flagged("safety-finish", lambda call: call.says(message={"content": None}, finish_reason="SAFETY"))
to_flagged("refusal-field", lambda call: call.says(message={"content": None, "refusal": "I can't."}))
to_flagged("no-choices", (200, {"choices": [], "usage": None}, {}))
to_flagged("prompt-feedback", (200, {"choices": None, "promptFeedback": {"blockReason": "SAFETY"}}, {}))

# Settings

takes(
    "max-completion-tokens",
    lambda asked: "max_tokens" in asked,
    refuses(
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        param="max_tokens",
        code="unsupported_parameter",
    ),
)
takes(
    "temperature-of-1",
    lambda asked: asked.get("temperature", 1) != 1,
    refuses(
        400,
        "Unsupported value: 'temperature' does not support 0 with this model. "
        "Only the default (1) is supported.",
        param="temperature",
        code="unsupported_value",
    ),
)
takes(
    "warm",
    lambda asked: asked.get("temperature") == 0,
    (422, {"error": "Input validation error: `temperature` must be strictly positive"}, {}),
)
takes(
    "no-seed",
    lambda asked: "seed" in asked,
    (
        422,
        {"detail": [{"type": "extra", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
        {},
    ),
)
takes(
    "unknown-name",
    lambda asked: "seed" in asked,
    refuses(
        400,
        'Invalid JSON payload received. Unknown name "seed": Cannot find field.',
        status="INVALID_ARGUMENT",
    ),
)
takes("no-stop", lambda asked: "stop" in asked, refuses(400, "Unsupported parameter: 'stop'", param="stop"))
takes(
    "one-of-two",
    lambda asked: {"temperature", "top_p"} <= asked.keys(),
    refuses(400, "`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
)
takes(
    "few-tokens",
    lambda asked: asked["max_tokens"] > 8,
    refuses(400, "max_tokens is too large: 64. This model supports at most 8 completion tokens."),
)
takes(
    "more-tokens",
    lambda asked: asked["max_tokens"] < 99,
    refuses(
        400, "Invalid 'max_tokens': integer below minimum value. Expected a value >= 99, but got 64 instead."
    ),
)
takes(
    "strict",
    lambda asked: any(not each["content"].strip() for each in asked["messages"]),
    refuses(400, "messages: text content blocks must be non-empty", type="invalid_request_error"),
)


@behaviour("several-at-once")
def _several(call: Call) -> Reply:
    """Knows nothing but messages, one refusal after another."""
    for name in ("seed", "top_p", "temperature"):
        if name in call.asked:
            return refuses(400, f"Unrecognized request argument supplied: {name}")
    return call.says()


# What passes

once("error-in-200", (200, {"error": {"message": "Rate limit exceeded", "code": 429}}, {}))
once(
    "error-of-choice",
    (200, {"choices": [{"error": {"code": 502, "message": "Upstream"}, "message": {}}]}, {}),
)
once("error-finish", (200, {"choices": [{"message": {"content": "You"}, "finish_reason": "error"}]}, {}))
once("overloaded", refuses(529, "Overloaded", type="overloaded_error"), refuses(503, "engine is overloaded"))
once("retry-after", refuses(429, "Slow down", headers={"Retry-After": "0.05"}))
once("retry-at-once", refuses(429, "Slow down", headers={"Retry-After": "0"}))
once("retry-date", lambda: refuses(429, "Slow down", headers={"Retry-After": formatdate(time.time() - 5)}))
once(
    "wait-in-words", refuses(429, "Rate limit reached. Please try again in 20ms.", code="rate_limit_exceeded")
)
once(
    "retry-info",
    (
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota",
                    "details": [{"retryDelay": "0.02s"}],
                }
            }
        ],
        {},
    ),
)
once("rate-limit-403", refuses(403, "You have exceeded a secondary rate limit"))
once("message-in-200", (200, {"code": 10013, "msg": "System overloaded, try again later"}, {}))
once("gateway-page", (502, "<html><head><title>502 Bad Gateway</title></head></html>", {}))
once("page", (200, "<html><body>Service unavailable</body></html>", {}))
once("torn", (200, '{"choices": [{"message": {"content": "You sa', {"Content-Type": "application/json"}))
once("conflict", refuses(409, "try again"), refuses(408, "timeout"), refuses(425, "too early"))
once("nothing-once", (200, {"choices": []}, {}))

# What lasts

always(
    "quota",
    refuses(429, "You exceeded your current quota.", code="insufficient_quota", type="insufficient_quota"),
)
always("no-credit", refuses(402, "Insufficient Balance", code="invalid_request_error"))
always("low-credit", refuses(400, "Your credit balance is too low to access the API."))
always("retry-hours", refuses(429, "Daily limit", headers={"Retry-After": "7200"}))
always("wrong-path", (404, {"detail": "Not Found"}, {}))
always("refused", (400, {"detail": "Model tea is not loaded: POST /load first"}, {}))
always("page-always", (200, "<html><title>Login</title><body>Please log in to the proxy</body></html>", {}))
always("detail-in-200", (200, {"detail": "Invalid tenant"}, {}))
always("down", (500, {"detail": "CUDA out of memory"}, {}))
always("banned", refuses(403, "Your account was flagged for a violation of our usage policies."))


@behaviour("leaks-the-key")
def _leaks(call: Call) -> Reply:
    return refuses(400, f"Bad request of {call.key} ({call.key[:7]}*****{call.key[-4:]})")


# Forms of answers

BEHAVIOURS["no-usage"] = lambda call: (200, {**call.says()[1], "usage": None}, {})
BEHAVIOURS["parts"] = lambda call: call.says(
    message={
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
            {"type": "text", "text": text_of(call.last)},
        ]
    }
)
BEHAVIOURS["think-tags"] = lambda call: call.says(f"<think>\nHm.\n</think>\n\n{text_of(call.last)}")
BEHAVIOURS["think-end"] = lambda call: call.says(f"Hm.\n</think>\n\n{text_of(call.last)}")
BEHAVIOURS["reasoning-content"] = lambda call: call.says(message={"reasoning_content": "Hm."})
BEHAVIOURS["reasoning"] = lambda call: call.says(message={"reasoning": "Hm."})
BEHAVIOURS["no-finish"] = lambda call: call.says(finish_reason=None)
BEHAVIOURS["other-finish"] = lambda call: call.says(finish_reason="eos")
BEHAVIOURS["max-tokens-finish"] = lambda call: call.says(finish_reason="MAX_TOKENS")
BEHAVIOURS["tool-call"] = lambda call: call.says(
    message={"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
    finish_reason="tool_calls",
)
to_flagged("too-large", (413, "<html>413 Request Entity Too Large</html>", {}))
to_flagged("too-long", (400, {"message": "Input is too long for requested model."}, {}))
to_flagged(
    "too-long-validation",
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048"}, {}),
)


@behaviour("thinks-long")
def _thinks_long(call: Call) -> Reply:
    """Its thoughts take the whole of a small limit."""
    if call.asked["max_tokens"] < 200:
        return call.says(message={"content": None, "reasoning_content": "Hm. " * 9}, finish_reason="length")
    return call.says(message={"reasoning_content": "Hm. " * 20})


@behaviour("thinks-unseen")
def _thinks_unseen(call: Call) -> Reply:
    if call.asked["max_tokens"] < 200:
        return refuses(
            400,
            "Could not finish the message because max_tokens or model output limit was reached. "
            "Please try again with higher max_tokens.",
        )
    return call.says()


def events(call: Call) -> str:
    whole = text_of(call.last)
    pieces = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in (whole[:5], whole[5:])]
    pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"


@behaviour("streams-only")
def _streams_only(call: Call) -> Reply:
    if not call.asked.get("stream"):
        return refuses(400, "This model only supports stream mode, please enable the stream parameter.")
    return 200, events(call), {"Content-Type": "text/event-stream"}


BEHAVIOURS["streams-anyway"] = lambda call: (200, events(call), {"Content-Type": "text/event-stream"})

# Judges

BEHAVIOURS["letters"] = lambda call: call.likeliest(A=0.7, **{" B": 0.2, "(A": 0.05, "The": 0.05})
BEHAVIOURS["flat-logprobs"] = lambda call: call.says(
    "A", logprobs={"tokens": ["A"], "token_logprobs": [-0.1], "top_logprobs": [{"A": -0.2877, "B": -1.3863}]}
)
BEHAVIOURS["null-logprobs"] = lambda call: call.says(
    "A", logprobs={"content": [{"token": "A", "logprob": None, "top_logprobs": []}]}
)
BEHAVIOURS["sure"] = lambda call: call.likeliest(B=0.98, **{"The": 0.01, "I": 0.005})
BEHAVIOURS["marked-down"] = lambda call: (
    call.likeliest(**{"**": 0.9, "A": 0.05, "B": 0.01})
    if (call.asked.get("logprobs"))
    else call.says("**B**")
)
BEHAVIOURS["sentences"] = lambda call: (
    call.likeliest(The=0.9, A=0.06, B=0.04)
    if (call.asked.get("logprobs"))
    else call.says("The better answer is (B).")
)
BEHAVIOURS["one-logprob"] = lambda call: (
    call.likeliest(A=0.6) if call.asked.get("logprobs") else call.says("Option A")
)
BEHAVIOURS["names-nobody"] = lambda call: call.says("I cannot say which one is better.")
BEHAVIOURS["chinese-judge"] = lambda call: (
    call.likeliest(答=0.95, A=0.01) if (call.asked.get("logprobs")) else call.says("答案是B。")
)
takes_logprobs = "You are not allowed to request logprobs from this model."
BEHAVIOURS["logprobs-forbidden"] = lambda call: (
    refuses(403, takes_logprobs) if call.asked.get("logprobs") else call.says("A")
)
BEHAVIOURS["logprobs-undone"] = lambda call: (
    refuses(501, "logprobs is not implemented") if call.asked.get("logprobs") else call.says("A")
)
BEHAVIOURS["five-logprobs"] = lambda call: (
    refuses(400, "Invalid value: top_logprobs must be between 0 and 5", param="top_logprobs")
    if call.asked.get("top_logprobs", 0) > 5
    else call.likeliest(A=0.75, B=0.25)
)
BEHAVIOURS["filtering-judge"] = lambda call: (
    refuses(400, "filtered", code="content_filter") if call.flagged else call.likeliest(A=0.75, B=0.25)
)


@behaviour("thinking-judge")
def _thinking_judge(call: Call) -> Reply:
    if call.asked.get("logprobs"):
        return call.likeliest(**{"<think>": 0.999})
    if call.asked["max_tokens"] < 200:
        return call.says("<think>\nOkay, the user wants", finish_reason="length")
    return call.says("<think>\nOption A is rude.\n</think>\n\nB")


@behaviour("reasoning-judge")
def _reasoning_judge(call: Call) -> Reply:
    if call.asked["max_tokens"] < 200:
        return call.says(message={"content": "", "reasoning_content": "Okay, A"}, finish_reason="length")
    return call.says("B", message={"reasoning_content": "Okay, A is rude."})


@behaviour("reasoning-aloud")
def _reasoning_aloud(call: Call) -> Reply:
    if call.asked["max_tokens"] < 200:
        return call.says("Let me weigh both. The first", finish_reason="length")
    return call.says("Let me weigh both. The first is rude. The better answer is (B).")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    calls: Counter[str]
    asked: Counter[str]
    lock = Lock()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        address = self.path.strip("/").partition("/")[0]
        with self.lock:
            self.calls[address] += 1
            name = f"{address} {json.dumps(asked['messages'])}"
            self.asked[name] += 1
            times = self.asked[name]
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, body, headers = BEHAVIOURS[address](Call(asked, key, times))
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[tuple[str, Counter[str]]]:
    """The server's address, and how many calls each of its addresses got."""
    handler = type("Own", (Handler,), {"calls": Counter(), "asked": Counter()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.calls
    server.shutdown()
    server.server_close()
