"""What the transformers engine promises beyond what every engine does."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from solon.config import EngineSettings
from solon.inference.engine import Question, Request
from solon.inference.transformers_engine import TransformersEngine
from solon.prompts.dialogue import user


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_a_closed_engines_weights_are_gone_at_once(tiny_model: Path) -> None:
    """The next model needs their memory; Python's collector of circles may come much later."""
    engine = TransformersEngine(str(tiny_model), EngineSettings(dtype="float32", device="cpu"))
    list(engine.generate([Request("text", [user("Hello")], max_tokens=3)]))
    engine.scores([Question("question", [user("Well?")], ("Yes", "No"))])
    weights = weakref.ref(engine._model.network)
    assert weights()
    engine.close()
    assert weights() is None
