"""The engine for models on a server, against a real server process with a real model and real faults."""

import asyncio
import json
import logging
import math
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from openai_server import FAULTS
from solon import constitution, pipeline
from solon.config import Config, Critique, EngineSettings, Feedback
from solon.engine_settings import OpenAISettings
from solon.errors import SolonError, TooLong
from solon.inference import first_token, open_engine, openai_engine, openai_server
from solon.inference.engine import Completion, Engine, Question, Request
from solon.inference.openai_answers import Answer
from solon.inference.openai_modes import ChatMode
from solon.inference.spent import Spent
from solon.models import resolve
from solon.progress import Watcher
from solon.prompts import comparison as prompts
from solon.prompts.dialogue import assistant, user
from solon.records import PairRecord, PromptRecord
from solon.role_settings import Role
from solon.stages import critique
from solon.stages.feedback import label
from solon.store.record_file import RecordFile, complete
from test_engine_conformance import (  # noqa: F401 (what every engine must do, with the engine below)
    test_an_id_in_flight_is_refused,
    test_chains_of_dependent_requests,
    test_more_requests_than_slots,
    test_seeds,
    test_stop_strings_cut_the_text,
)

pytest_plugins = ["openai_process"]

LAW = constitution.load("harmless")
SERVER = Path(__file__).parent / "openai_server.py"
KEY = "sk-planted-8f14e45fceea167a"
PREFILLED = {"mode": "chat", "continue_final_message": True}


@pytest.fixture(scope="module")
def local(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu", batch_size=4)) as engine:
        yield engine


@pytest.fixture(scope="module")
def vllm() -> Iterator[str]:
    """The address of ``vllm serve`` with the embedded model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What `vllm serve` runs; the command itself does not start in vLLM's package for CPUs.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", resolve("smollm2")]
    command += ["--served-model-name", "smollm2", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        assert process.poll() is None, "vllm serve ended by itself"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
            break
        except OSError:
            time.sleep(1)
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def connect(address: str, tiny_model: Path) -> Iterator[Any]:
    """Engines on the server: ``connect("plain", mode="chat")``."""
    opened: list[Engine] = []

    def connect(
        at: str = "plain", batch_size: int = 8, model: str = "openai:tiny", **settings: Any
    ) -> Engine:
        settings = {"mode": "completion", "tokenizer": str(tiny_model), "timeout": 30, **settings}
        settings["base_url"] = f"{address}/{at}/v1"
        asked = EngineSettings(batch_size=batch_size, openai=settings)
        opened.append(open_engine(model, asked, role=Role(thinking_tokens=0)))  # no room for long answers
        return opened[-1]

    yield connect
    for engine in opened:
        engine.close()


@pytest.fixture
def tiny(connect: Any) -> Engine:
    engine: Engine = connect("conformance", batch_size=4)
    return engine


def stats(address: str, at: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{address}/stats") as answer:
        found: dict[str, int] = json.load(answer)[at]
    return found


def greedy(count: int = 5) -> list[Request]:
    return [
        Request(f"plain {n}", [user(f"Tell me about {n}.")], max_tokens=4 + n, temperature=0)
        for n in range(count)
    ]


def by_id(completions: Iterator[Completion]) -> dict[str, Completion]:
    return {completion.id: completion for completion in completions}


def pairs(count: int) -> list[PairRecord]:
    return [
        {
            "id": f"pair-{number}",
            "prompt": [user(f"May I take bicycle {number}?")],
            "set": "red-team",
            "kind": "theft",
            "split": "train",
            "responses": ["Ask its owner.", "Sure."],
            "problem": "",
        }
        for number in range(count)
    ]


# The same as the transformers engine


@pytest.mark.parametrize("settings", [{"mode": "completion"}, PREFILLED], ids=["completion", "chat"])
def test_greedy_texts_are_the_transformers_engines(
    connect: Any, local: Engine, settings: dict[str, Any]
) -> None:
    requests = [
        *greedy(),
        Request("prefilled", [user("Hello!")], prefill="I am", temperature=0, max_tokens=12),
        Request("turns", [user("Hi"), assistant("Yes?"), user("Go on.")], temperature=0, max_tokens=12),
    ]
    expected = by_id(local.generate(requests))
    stop = expected["turns"].text[3:5]
    requests.append(
        Request("stop", requests[-1].messages, temperature=0, max_tokens=12, stop=("never", stop))
    )
    expected |= by_id(local.generate(requests[-1:]))
    found = by_id(connect(**settings).generate(requests))
    assert {name: each.text for name, each in found.items()} == {
        name: each.text for name, each in expected.items()
    }
    assert {name: each.finish for name, each in found.items()} == {
        name: each.finish for name, each in expected.items()
    }
    assert found["turns"].tokens == expected["turns"].tokens == 12


def test_choices_of_any_length_are_scored_exactly_in_completion_mode(connect: Any, local: Engine) -> None:
    questions = [
        Question("letters", [user("(A) or (B)?")], ("A", "B"), prefill="The better answer is ("),
        Question("texts", [user("Where?")], ("Paris", "In the city of Lyon, of course.", "Café ☕")),
    ]
    expected = {each.id: each.logprobs for each in local.choice_logprobs(questions)}
    for scores in connect().choice_logprobs(questions):
        np.testing.assert_allclose(scores.logprobs, expected[scores.id], atol=1e-4)
        assert scores.votes is None
    dialogues = [[user("Who?"), assistant("It was I.")], [user("Who?"), assistant("Nobody knows.")]]
    np.testing.assert_allclose(connect().loglikelihood(dialogues), local.loglikelihood(dialogues), atol=1e-4)
    with pytest.raises(ValueError, match="empty choice"):
        list(connect().choice_logprobs([Question("q", [user("?")], ("", "B"))]))


def test_chat_mode_scores_first_tokens(
    connect: Any, local: Engine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connect(**PREFILLED)
    monkeypatch.setattr(first_token, "MOST", 0)  # a random model spreads its probability
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    words = [text for text in map(tokenizer.decode, range(len(tokenizer))) if text.isalnum()]
    single = tuple(text for text in words if len(tokenizer.encode(text)) == 1)
    question = Question("q", [user("Which one?")], single, prefill="The answer is (")
    [found], [own] = engine.choice_logprobs([question]), local.choice_logprobs([question])
    floor = min(found.logprobs)
    listed = [place for place, value in enumerate(found.logprobs) if value > floor]
    assert listed
    for place, (value, expected) in enumerate(zip(found.logprobs, own.logprobs, strict=True)):
        # A variant of the same text (" A") may add to it. What is not listed gets an upper bound.
        assert value >= expected - 1e-4
        if place not in listed:
            assert value == floor
    with pytest.raises(SolonError, match=r"engine\.openai\.mode to completion"):
        engine.loglikelihood([[user("Who?"), assistant("It was I.")]])


def test_variants_of_a_choice_are_added_and_a_missing_one_gets_a_bound() -> None:
    def found(**shares: float) -> tuple[float, ...] | None:
        listed = [(token, math.log(share)) for token, share in shares.items()]
        scores = first_token.logprobs(("A", "B"), listed)
        return None if scores is None else tuple(np.exp(scores))

    assert found(**{"A": 0.5, " A": 0.2, "(A": 0.1, "The": 0.04}) == pytest.approx((0.8, 0.04))
    assert found(A=0.99, The=0.005) == pytest.approx((0.99, 0.005))
    assert found(A=0.999) == pytest.approx((0.999, 0.001))  # no more than all that is not listed
    assert found(A=0.8) is None  # B may have 0.2
    assert found(A=0.3, B=0.15, The=0.5) is None  # it begins with something else


def test_a_server_that_cannot_prefill_is_asked_to_go_on(connect: Any, local: Engine) -> None:
    asked = [user("(A) or (B)?"), assistant("The better answer is"), user("Go on from there.")]
    question = Request("q", asked[:1], prefill="The better answer is (", temperature=0, max_tokens=9)
    [expected] = local.generate([Request("q", asked, temperature=0, max_tokens=9)])
    assert list(connect(mode="chat").generate([question])) == [expected]


@pytest.mark.parametrize(
    ("text", "added"),
    [("It is wrong to take it.", " take it."), ("\nIt is wrong to", ""), (" take it.", " take it.")],
)
def test_a_prefill_that_the_server_says_again_is_left_out(text: str, added: str) -> None:
    class Repeats(ChatMode):
        async def _put(self, messages: Any, **options: Any) -> Answer:
            return Answer(text, "stop", 6)

    server: Any = SimpleNamespace(settings=OpenAISettings(mode="chat"))
    request = Request("q", [user("May I?")], prefill="It is wrong to")
    assert asyncio.run(Repeats(server, Role()).write(request)).text == added


@pytest.mark.skipif(not find_spec("vllm"), reason="vllm is not installed")
@pytest.mark.parametrize("settings", [{"mode": "completion"}, PREFILLED], ids=["completion", "chat"])
def test_vllm_serve(settings: dict[str, Any], vllm: str) -> None:
    letters = Question("q", [user("Which comes first, (A) or (B)?")], ("A", "B"), prefill="The answer is (")
    here = EngineSettings(dtype="float32")
    there = EngineSettings(openai={"base_url": vllm, **settings})
    found = []
    for name, chosen in (("smollm2", here), ("openai:smollm2", there)):
        with open_engine(name, chosen) as engine:
            texts = {each.id: each.text for each in engine.generate(greedy())}
            [scores] = engine.choice_logprobs([letters])
            found.append((texts, scores.logprobs, scores.votes))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], atol=0.05)
    assert found[1][2] is None


# Labels


@pytest.mark.parametrize("chain_of_thought", [False, True])
def test_labels_are_the_transformers_engines(connect: Any, local: Engine, chain_of_thought: bool) -> None:
    settings = Feedback(few_shot=False, chain_of_thought=chain_of_thought, max_tokens=8)
    ours, theirs = (
        {each["id"]: each for each in label(engine, pairs(3), LAW, "harmlessness", settings, 0)}
        for engine in (connect(), local)
    )
    for name, record in ours.items():
        assert record["labeller"] == "openai:tiny"
        assert record["probability"] == pytest.approx(theirs[name]["probability"], abs=1e-4)
        for vote, other in zip(record["votes"], theirs[name]["votes"], strict=True):
            assert vote["orders"] == pytest.approx(other["orders"], abs=1e-4)
            assert vote["reasoning"] == other["reasoning"]
            assert vote["samples"] is other["samples"] is None


@pytest.mark.parametrize("at", ["silent", "refusing"])
@pytest.mark.parametrize("mode", ["chat", "completion"])
def test_without_logprobs_sampled_answers_are_counted(connect: Any, at: str, mode: str) -> None:
    engine = connect(at, mode=mode, votes=3)
    for record in label(engine, pairs(2), LAW, "harmlessness", Feedback(few_shot=False), 0):
        if "votes" not in record:  # a random model seldom names a letter
            assert record["problem"] == "unjudged"
            continue
        [vote] = record["votes"]
        assert 2 <= vote["samples"] <= 6  # of both orders
    with pytest.raises(SolonError):
        engine.loglikelihood([[user("Who?"), assistant("Me")]])


def test_the_arithmetic_of_votes(connect: Any) -> None:
    engine = connect("silent", mode="chat", votes=7)
    texts = iter(["A", "(A).", "A)", "B", "A better answer", "Neither", "**A**"])

    async def write(request: Request) -> Completion:
        assert request.temperature == 1
        return Completion(request.id, next(texts), "stop", 1)

    engine._mode.write = write
    [scores] = engine.choice_logprobs([Question("q", [user("?")], prompts.LETTERS)])
    assert scores.votes == 5
    np.testing.assert_allclose(
        np.exp(scores.logprobs), [5 / 7, 2 / 7]
    )  # (4 + 1) / (5 + 2), (1 + 1) / (5 + 2)


# Faults


def revisions(engine: Engine, path: Path, count: int) -> bytes:
    """The file of ``count`` records, each from a chain of three requests and written as it comes."""
    asked: list[PromptRecord] = [
        {
            "id": f"prompt-{number}",
            "prompt": [user(f"May I take bicycle {number}?")],
            "set": "red-team",
            "kind": "theft",
            "split": "train",
            "source": "test",
        }
        for number in range(count)
    ]
    settings = Critique(rounds=1, few_shot=False, max_tokens=6, attempts=1)
    complete(
        RecordFile(path),
        asked,
        lambda missing: critique.revise(engine, missing, LAW, settings, seed=0),
        lambda done, total: None,
    )
    return path.read_bytes()


def test_failing_calls_lose_and_duplicate_nothing(connect: Any, address: str, tmp_path: Path) -> None:
    sound = revisions(connect(), tmp_path / "sound.jsonl", 24)
    faulty = connect("faulty", batch_size=24, timeout=4, retries=12)
    assert revisions(faulty, tmp_path / "faulty.jsonl", 24) == sound
    ids = [json.loads(line)["id"] for line in sound.splitlines()]
    assert ids == [f"prompt-{number}" for number in range(24)]
    assert faulty.usage.requests == 3 * 24  # answers that came; those that failed are not counted
    found = stats(address, "faulty")
    failed = found["calls"] - found["no fault"]
    assert found["no fault"] == 3 * 24
    assert 0.15 < failed / found["calls"] < 0.45
    assert set(FAULTS) <= found.keys()


def test_what_has_finished_before_a_failure_is_kept(connect: Any, tmp_path: Path) -> None:
    engine = connect()
    long = Request("long", [user("word " * 5000)])
    found = []
    with pytest.raises(TooLong, match=r"finds a prompt too long for 'tiny'.*4096 tokens") as error:
        for completion in engine.generate([*greedy(7), long]):
            found.append(completion.id)
    assert KEY not in str(error.value)
    assert sorted(found) == sorted(request.id for request in greedy(7))
    assert len(list(engine.generate(greedy(7)))) == 7  # the engine is as good as new


@pytest.mark.parametrize(
    ("at", "model", "expected"),
    [
        ("locked", "openai:tiny", r"does not accept the key \(status 401\): set .* OPENAI_API_KEY"),
        ("plain", "openai:other", r"does not know the model 'other' .*404"),
        ("broken", "openai:tiny", r"failed 2 times \(status 500\)"),
    ],
)
def test_a_lasting_failure_is_one_clear_sentence(
    connect: Any, address: str, at: str, model: str, expected: str
) -> None:
    engine = connect(at, model=model, retries=1)
    for ask in (
        lambda: list(engine.generate(greedy())),
        lambda: list(engine.choice_logprobs([Question("q", [user("?")], prompts.LETTERS)])),
    ):
        with pytest.raises(SolonError, match=expected) as error:
            ask()
        assert f"the server at {address}/{at}/v1 " in str(error.value)
        assert KEY not in str(error.value)
        assert error.value.__suppress_context__


@pytest.mark.parametrize("mode", ["chat", "completion"])
def test_a_question_that_is_too_long_is_set_aside_alone(connect: Any, mode: str) -> None:
    asked = [Question("long", [user("word " * 5000)], ("A", "B")), Question("near", [user("?")], ("A", "B"))]
    found = {each.id: each for each in connect(mode=mode).choice_logprobs(asked)}
    assert isinstance(found["long"], TooLong)
    assert not isinstance(found["near"], TooLong)


def test_wrong_content_that_lasts_is_told(connect: Any) -> None:
    for mode in ("chat", "completion"):
        with pytest.raises(SolonError, match="answers with something else than completions"):
            list(connect("other", mode=mode, retries=0).generate(greedy(2)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"token_budget": 500}, r"engine\.openai\.token_budget is 500, and \d+ is spent"),
        (
            {"budget": 0.001, "input_price": 2.0},
            r"engine\.openai\.budget is 0\.001, and 0\.00[12]\d* is spent",
        ),
    ],
)
def test_a_budget_stops_cleanly(
    connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], says: str
) -> None:
    whole = revisions(connect(), tmp_path / "whole.jsonl", 12)
    file, before = tmp_path / "records.jsonl", 0
    stops, found = 0, b""
    while not found:
        spent = Spent()  # another process
        monkeypatch.setattr(openai_server, "SPENT", spent)
        monkeypatch.setattr(openai_engine, "SPENT", spent)
        try:
            found = revisions(connect(batch_size=2, **settings), file, 12)
        except SolonError as error:
            stops += 1
            assert re.search(says, str(error))
            assert spent.tokens < 500 + 2 * 300  # what was under way is paid for
            assert len(RecordFile(file).ids()) > before
            before = len(RecordFile(file).ids())
    assert stops > 1
    assert found == whole


@pytest.mark.skipif("SOLON_TEST_FAULTS" not in os.environ, reason="takes more than a minute: make faults")
def test_a_server_that_is_dead_for_a_minute(tiny_model: Path, tmp_path: Path) -> None:
    def serve(*port: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(SERVER), str(tiny_model), *port]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        started.append(process)
        return process

    started: list[subprocess.Popen[str]] = []
    first = serve()
    port = first.stdout.readline().strip()
    settings = {"base_url": f"http://127.0.0.1:{port}/plain/v1", "timeout": 30}
    wanted = [Request(f"{n}", [user(f"Tell me about {n}.")], max_tokens=24, temperature=0) for n in range(40)]
    found = []
    with open_engine("openai:tiny", EngineSettings(batch_size=4, openai=settings)) as engine:
        for completion in engine.generate(wanted):
            found.append(completion.id)
            if len(found) == 5:
                first.kill()
                first.wait()
                Timer(60, serve, [port]).start()
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    assert sorted(found) == sorted(request.id for request in wanted)


def test_a_server_that_is_not_there_or_too_slow(connect: Any, address: str) -> None:
    with pytest.raises(SolonError, match=r"cannot be reached"):
        settings = EngineSettings(openai={"base_url": "http://127.0.0.1:9/v1", "retries": 0})
        with open_engine("openai:tiny", settings) as engine:
            list(engine.generate(greedy(1)))
    with pytest.raises(SolonError, match=r"no answer within 0\.2 s, 1 times"):
        list(connect("slow", timeout=0.2, retries=0).generate(greedy(1)))
    with pytest.raises(SolonError, match=r"no answer within 0\.05 s in all"):
        list(connect("broken", time_limit=0.05).generate(greedy(1)))


def test_without_a_server_or_a_tokenizer_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SolonError, match=r"engine\.openai\.tokenizer"):
        open_engine("openai:tiny", EngineSettings(openai={"mode": "completion"}))
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(SolonError, match=r"engine\.openai\.base_url .* OPENAI_API_KEY"):
        open_engine("openai:tiny", EngineSettings())
    monkeypatch.setitem(sys.modules, "openai", None)
    for module in ("openai_engine", "openai_modes", "openai_server"):
        monkeypatch.delitem(sys.modules, f"solon.inference.{module}")
    with pytest.raises(SolonError, match=r"pip install solon\[openai\]"):
        open_engine("openai:tiny", EngineSettings())


# What is counted, and what is kept secret


def test_never_more_requests_at_a_time_than_the_batch(connect: Any, address: str) -> None:
    list(connect("narrow", batch_size=3).generate(greedy(12)))
    questions = [Question(str(number), [user("?")], prompts.LETTERS) for number in range(12)]
    list(connect("wide", batch_size=5).choice_logprobs(questions))
    # How many come together depends on how fast the server is: more than one, never more than allowed.
    assert 1 < stats(address, "narrow")["most at once"] <= 3
    assert 1 < stats(address, "wide")["most at once"] <= 5


def test_usage_and_cost(connect: Any, local: Engine) -> None:
    engine = connect(mode="completion", input_price=2.0, output_price=10.0)
    before = local.usage.tokens_naive
    completions = list(engine.generate(greedy()))
    list(local.generate(greedy()))
    usage = engine.usage
    assert usage.requests == 5
    assert usage.tokens_generated == sum(completion.tokens for completion in completions)
    assert usage.tokens_naive == local.usage.tokens_naive - before
    assert (
        0.4 * usage.tokens_naive < usage.tokens_computed < 0.6 * usage.tokens_naive
    )  # the server caches half
    assert usage.cost == pytest.approx((2 * usage.tokens_naive + 10 * usage.tokens_generated) / 1e6)
    engine._count(None)  # a server that tells nothing
    engine._count({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
    assert engine.usage.requests == 7


def test_a_run_keeps_the_key_to_itself(
    address: str, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The assistant on a server and the policy here, up to the first training."""

    class EnoughSeen(Exception):
        pass

    class UntilSupervised(Watcher):
        def stage(self, title: str) -> Any:
            if title.startswith("Supervised finetuning"):
                raise EnoughSeen
            return super().stage(title)

    caplog.set_level(logging.DEBUG)
    settings: dict[str, Any] = {
        "models": {"assistant": "openai:tiny", "policy": str(tiny_model)},
        "engine": {"device": "cpu", "dtype": "float32", "openai": {"base_url": f"{address}/plain/v1"}},
        "prompts": {"red_team": {"train": 2, "held_out": 1}, "helpful": {"train": 2, "held_out": 1}},
        "critique": {"rounds": 1, "few_shot": False, "max_tokens": 8},
    }
    settings["engine"]["openai"]["output_price"] = 3.0
    config = Config.model_validate(settings)
    with pytest.raises(EnoughSeen):
        pipeline.run(config, tmp_path / "run", UntilSupervised())
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"config.yaml", "manifest.json", "revisions.jsonl"}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert caplog.text
    assert KEY not in caplog.text + repr(config)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["models"]["assistant"] == {
        "name": "openai:tiny",
        "hash": "",
        "learned_from": [],
        "unknown": ["openai:tiny (origin unknown: on a server)"],
    }
    assert manifest["models"]["policy"]["hash"]
    assert manifest["stages"]["critique"]["usage"]["cost"] > 0
    with pytest.raises(SolonError, match=r"set models\.policy to a local model"):
        pipeline.run(Config.model_validate({"models": {"assistant": "openai:tiny"}}), tmp_path / "other")


def test_the_key_cannot_be_put_into_the_configuration() -> None:
    for wrong in ({"api_key": KEY}, {"base_url": f"https://me:{KEY}@example.org/v1"}):
        with pytest.raises(ValueError, match="openai"):
            EngineSettings.model_validate({"openai": wrong})
