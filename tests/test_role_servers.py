"""Each role's model on a server of its own, by OpenAI's client or by LiteLLM, against one that notes all."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from operator import eq
from threading import Thread
from typing import Any, ClassVar

import pytest

from solon.config import Config
from solon.errors import SolonError
from solon.inference import openai_engine, openai_server
from solon.inference.engine import Engine, Question, Request
from solon.inference.spent import Spent
from solon.pipeline.workbench import Workbench
from solon.progress import Watcher
from solon.prompts.dialogue import user

NEEDS_LITELLM = pytest.mark.skipif(find_spec("litellm") is None, reason="LiteLLM is not installed")
TEA = Request("q", [user("Tea?")], max_tokens=7)


class Noting(BaseHTTPRequestHandler):
    """Answers "(B)" in the form of the API that is asked, or the next of the ``failures``."""

    asked: ClassVar[list[tuple[str, Any, dict[str, Any]]]] = []
    failures: ClassVar[list[tuple[int, str]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers, body))
        roles = [each["role"] for each in body.get("messages", ())]
        if self.path.startswith("/gemma") and roles[0] == "system":
            self.answer(400, {"message": "System role not supported"})
        elif self.path.startswith("/gemma") and any(map(eq, roles, roles[1:])):
            self.answer(
                400, {"message": "Conversation roles must alternate user/assistant/user/assistant/..."}
            )
        elif self.failures:
            status, kind = self.failures.pop()
            said = f"{kind}: the-other-key"  # servers like to repeat it
            self.answer(status, {"type": "error", "error": {"type": kind, "message": said}})
        elif self.path.endswith("/v1/messages"):
            usage = {"input_tokens": 30, "output_tokens": 20}
            text = [{"type": "text", "text": "(B)"}]
            self.answer(
                200,
                {"id": "m", "type": "message", "role": "assistant", "model": body["model"], "content": text}
                | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage},
            )
        elif ":generateContent" in self.path:
            part = {
                "content": {"role": "model", "parts": [{"text": "(B)"}]},
                "finishReason": "STOP",
                "index": 0,
            }
            usage = {"promptTokenCount": 30, "candidatesTokenCount": 20, "totalTokenCount": 50}
            self.answer(200, {"candidates": [part], "usageMetadata": usage})
        else:
            usage = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}
            message = {"role": "assistant", "content": "(B)"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer(
                200,
                {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"]}
                | {"choices": [choice], "usage": usage},
            )

    def answer(self, status: int, body: dict[str, Any]) -> None:
        said = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    Noting.asked.clear()
    Noting.failures.clear()
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-first-key")
    monkeypatch.setenv("OTHER_KEY", "the-other-key")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    spent = Spent()
    monkeypatch.setattr(openai_server, "SPENT", spent)
    monkeypatch.setattr(openai_engine, "SPENT", spent)


def bench(
    url: str, feedback: str = "openai:two", server: Any = None, role: Any = None, **openai: Any
) -> Workbench:
    """The assistant at /one, and the feedback model at /two, unless ``server`` says otherwise."""
    settings = {
        "models": {"assistant": "openai:one", "policy": "smollm2", "feedback": feedback},
        "engine": {"openai": {"base_url": f"{url}/one/v1", "retries": 1, **openai}},
        "roles": {"feedback": {"openai": server or {"base_url": f"{url}/two/v1"}, **(role or {})}},
    }
    return Workbench(Config.model_validate(settings), Watcher())


def ask(engine: Engine) -> str:
    [completion] = engine.generate([TEA])
    return completion.text


def test_each_role_is_asked_at_its_server_with_its_key(url: str) -> None:
    server = {
        "base_url": f"{url}/two/v1",
        "key_variable": "OTHER_KEY",
        "extra_body": {"top_k": 4},
        "votes": 2,
        "input_price": 1e6,
    }
    with bench(url, server=server, extra_body={"top_k": 9}, output_price=1e6) as work:
        ask(work.engine("assistant"))
        assert work.take_usage()["cost"] == 20
        ask(work.engine("judge"))  # whose model is the feedback's
        assert work.take_usage()["cost"] == 50
        question = Question("q", [user("Which?")], ("A", "B"))
        [scores] = work.engine("feedback").scores([question])
    assert scores.votes == 2
    (first, at_first, said), (second, at_second, said_there), *_ = Noting.asked
    assert (first, second) == ("/one/v1/chat/completions", "/two/v1/chat/completions")
    assert at_first["Authorization"] == "Bearer the-first-key"
    assert at_second["Authorization"] == "Bearer the-other-key"
    assert (said["model"], said["top_k"]) == ("one", 9)
    assert (said_there["model"], said_there["top_k"]) == ("two", 4)


def test_a_server_that_refuses_system_turns_gets_none(url: str) -> None:
    turns = [user("Salt?"), {"role": "system", "content": "Be short."}, user("Tea?")]
    role = {"system": "Be fair.", "chat_template_kwargs": {"enable_thinking": False}}
    with bench(url, server={"base_url": f"{url}/gemma/v1"}, role=role) as work:
        requests = [Request(str(n), turns, max_tokens=7) for n in range(3)]
        assert [each.text for each in work.engine("feedback").generate(requests)] == ["(B)"] * 3
    asked = Noting.asked[-1][2]
    assert asked["chat_template_kwargs"] == {"enable_thinking": False}
    assert asked["messages"] == [user("Be fair.\n\nBe short.\n\nSalt?\n\nTea?")]


def test_a_budget_counts_what_all_servers_cost(url: str) -> None:
    with bench(url, budget=60, input_price=1e6, output_price=0) as work:
        ask(work.engine("assistant"))
        ask(work.engine("feedback"))
        with pytest.raises(SolonError, match=r"engine.openai.budget is 60, and 60 is spent"):
            ask(work.engine("assistant"))


def test_what_a_key_variable_lacks_is_told_and_never_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTHER_KEY")
    with (
        bench(url, server={"key_variable": "OTHER_KEY"}) as work,
        pytest.raises(
            SolonError, match=r"variable OTHER_KEY, which key_variable says has the key, is not set"
        ),
    ):
        work.engine("feedback")
    with pytest.raises(ValueError, match="is no name of an environment variable") as error:
        Config.model_validate({"roles": {"judge": {"openai": {"key_variable": "sk-planted-8f14"}}}})
    assert "planted" not in error.value.errors()[0]["msg"]


def test_a_budget_needs_every_servers_price(url: str) -> None:
    with pytest.raises(ValueError, match="no price of the assistant's model: set input_price"):
        bench(url, budget=1, server={"input_price": 2})


@NEEDS_LITELLM
@pytest.mark.parametrize(
    ("model", "path", "header"),
    [
        ("litellm:anthropic/some-model", "/two/v1/messages", "x-api-key"),
        ("litellm:gemini/some-model", "/two/v1/models/some-model:generateContent", "x-goog-api-key"),
        ("litellm:openai/some-model", "/two/v1/chat/completions", "Authorization"),
    ],
)
def test_other_providers_are_asked_in_their_own_forms(url: str, model: str, path: str, header: str) -> None:
    base = f"{url}/two" if "anthropic" in model else f"{url}/two/v1"
    server = {"base_url": base, "key_variable": "OTHER_KEY", "input_price": 1e6}
    with bench(url, model, server) as work:
        engine = work.engine("feedback")
        assert ask(engine) == "(B)"
        assert work.take_usage()["cost"] == 30
        [scores] = engine.scores([Question("q", [user("Which?")], ("A", "B"))])
    assert scores.votes == 5
    assert scores.logprobs[1] > scores.logprobs[0]
    asked_at, headers, body = Noting.asked[0]
    assert asked_at.split("?")[0] == path
    assert "the-other-key" in headers[header]
    assert "Tea?" in json.dumps(body)
    assert all("the-first-key" not in str(each) for each in Noting.asked)


@NEEDS_LITELLM
def test_a_provider_that_is_overloaded_is_asked_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "PAUSE", 0.01)
    server, overloaded = {"base_url": f"{url}/two", "key_variable": "OTHER_KEY"}, (529, "overloaded_error")
    with bench(url, "litellm:anthropic/some-model", server) as work:
        Noting.failures += [overloaded]
        assert ask(work.engine("feedback")) == "(B)"
        Noting.failures += [overloaded, overloaded]
        with pytest.raises(SolonError, match=r"anthropic, by LiteLLM, failed 2 times"):
            ask(work.engine("feedback"))
        Noting.failures += [(401, "authentication_error")]
        with pytest.raises(SolonError, match=r"does not accept the key .* OTHER_KEY") as error:
            ask(work.engine("feedback"))
        assert "the-other-key" not in str(error.value)
        Noting.failures += [(400, "invalid_request_error")]
        with pytest.raises(
            SolonError, match=r"anthropic, by LiteLLM, refuses a request \(status 400\)"
        ) as error:
            ask(work.engine("feedback"))
    assert "the-other-key" not in str(error.value)


@NEEDS_LITELLM
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("litellm:anthropic/some-model", "set the environment variable ANTHROPIC_API_KEY to your key there"),
        (
            "litellm:nobody/some-model",
            "does not know whose model 'nobody/some-model' is .* litellm:PROVIDER/NAME",
        ),
    ],
)
def test_what_litellm_cannot_reach_is_told(url: str, model: str, says: str) -> None:
    with bench(url, model, {"votes": 1}) as work, pytest.raises(SolonError, match=says):
        work.engine("feedback")


@pytest.mark.skipif(find_spec("litellm") is not None, reason="LiteLLM is installed")
def test_litellm_is_asked_for_where_it_is_not_installed(url: str) -> None:
    with (
        bench(url, "litellm:anthropic/some-model") as work,
        pytest.raises(SolonError, match=r"solon\[litellm\]"),
    ):
        work.engine("feedback")
