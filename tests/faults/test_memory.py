"""Memory that does not suffice: the batch is halved, the results are the same, and the user is told."""

import resource
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from killing import CONTEXT

from solon.config import EngineSettings
from solon.errors import SolonError
from solon.inference.engine import Engine, Question, Request
from solon.inference.transformers_engine import TransformersEngine
from solon.prompts.dialogue import user

LEFT = 80  # MB; keys and values of 64 sequences of 4,000 tokens take 131 MB in the tiny model


def leave(megabytes: int) -> None:
    """All that this process may take beyond what it has."""
    [size] = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize")
    ]
    most = int(size.split()[1]) * 1024 + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def texts(engine: Engine) -> dict[str, str]:
    # The room for 4,000 tokens is taken at once, but the texts end soon.
    ends = tuple("etaoinshrdlu")
    requests = [Request(str(n), [user(f"Say {n}!")], max_tokens=4000, seed=n, stop=ends) for n in range(70)]
    return {each.id: each.text for each in engine.generate(requests)}


def scores(engine: Engine, words: int = 250) -> list[tuple[float, ...]]:
    long = "a word " * words
    # What all begin with would be kept once, and take little.
    questions = [Question(f"{n:02}", [user(f"{n} {long}")], ("Yes", "No")) for n in range(64)]
    return [each.logprobs for each in sorted(engine.scores(questions), key=lambda each: each.id)]


def work(model: str, megabytes: int | None, task: Any, out: Any) -> None:
    """The task's result, what the engine said, and its last batch size; or the error."""
    said: list[str] = []
    with TransformersEngine(model, EngineSettings(dtype="float32", device="cpu", batch_size=64)) as engine:
        engine.say = said.append  # type: ignore[method-assign]
        list(engine.generate([Request("first", [user("Hello")], max_tokens=2)]))
        engine.forget()
        if megabytes is not None:
            leave(megabytes)
        try:
            out.send((task(engine), said, engine.concurrency))
        except SolonError as error:
            out.send((error, said, engine.concurrency))


def alone(model: Path, megabytes: int | None, task: Any) -> Any:
    """In a process of its own, where nothing has been freed that could be taken again."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=work, args=(str(model), megabytes, task, there))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found


def test_the_batch_is_halved_and_the_work_goes_on(tiny_model: Path) -> None:
    expected, said, size = alone(tiny_model, None, texts)
    assert (said, size) == ([], 64)
    found, said, size = alone(tiny_model, LEFT, texts)
    assert found == expected
    assert size < 64
    assert f"did not suffice for 64 sequences of {tiny_model} at a time: it went on with 32" in said[0]
    expected, said, _ = alone(tiny_model, None, scores)
    assert said == []
    found, said, size = alone(tiny_model, LEFT * 3 // 4, scores)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert size < 64
    assert "did not suffice for 64" in said[0]


def test_where_nothing_is_left_to_halve_it_is_said(tiny_model: Path) -> None:
    error, said, size = alone(tiny_model, 20, partial(scores, words=400))
    assert str(error).startswith("memory does not suffice for one sequence")
    assert size == 1
    assert len(said) == 6
