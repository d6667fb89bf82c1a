"""Shared beginnings in models whose attention is not the plain kind, on such models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model_families import FAMILIES, family
from solon.config import EngineSettings
from solon.errors import UnsupportedModel
from solon.inference import open_engine, transformers_engine
from solon.inference.engine import Question, Request
from solon.inference.known_states import KnownStates
from solon.inference.state_rows import StateRows
from solon.inference.states import States
from solon.inference.transformers_engine import TransformersEngine
from solon.prompts.dialogue import assistant, user
from test_engine_conformance import (  # noqa: F401 (what every engine must do, with the engine below)
    EngineFactory,
    reference_logprob,
    test_a_prompt_beyond_the_context_is_set_aside,
    test_an_id_in_flight_is_refused,
    test_chains_of_dependent_requests,
    test_more_requests_than_slots,
    test_seeds,
    test_stop_strings_cut_the_text,
    test_two_runs_give_the_same,
    tiny,
    tiny_engine,
)
from tolerance import tolerance

pytestmark = pytest.mark.numeric

SETTINGS = EngineSettings(dtype="float32", device="cpu", batch_size=2)
SHOT = [user("Tell me about tea. " * 3), assistant("Tea is made of leaves, and the people drink it. " * 2)]
ASKED = ("Why?", "Why do the people of the north drink so much of it, all the winter?", "How?", "And coffee?")
CHOICES = (" Yes, of course", " No")
PLAIN = {"llama", "lfm2", "recurrent_gemma"}  # over the rows of a cache, or not at all


def refused(*_: object) -> None:
    raise UnsupportedModel("only here")


def engine_with_states(model: Path | str, settings: EngineSettings) -> TransformersEngine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers_engine, "CachedModel", refused)
        return TransformersEngine(str(model), settings)


@pytest.fixture(scope="session")
def factory() -> EngineFactory:
    return lambda model, batch: engine_with_states(model, SETTINGS.model_copy(update={"batch_size": batch}))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in PLAIN])
def test_families_write_what_generate_does_and_score_as_they_do(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Two at a time, so that later ones join those under way; what they begin with is computed once."""
    folder = family(name, tiny_model, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with open_engine(str(folder), SETTINGS) as engine:
        assert isinstance(engine, TransformersEngine)
        assert isinstance(engine._rows, StateRows)
        requests = [
            Request(asked, [*SHOT, user(asked)], max_tokens=8 + number, temperature=0)
            for number, asked in enumerate(ASKED)
        ]
        texts = {completion.id: completion.text for completion in engine.generate(requests)}
        assert engine.usage.tokens_computed < 0.7 * engine.usage.tokens_naive
        questions = [Question(asked, [*SHOT, user(asked)], CHOICES) for asked in ASKED]
        scores = {score.id: score.logprobs for score in engine.scores(questions)}
    for number, asked in enumerate(ASKED):
        dialogue = [*SHOT, user(asked)]
        prompt = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, tokenize=False)
        tokens = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)])
        greedy = {"max_new_tokens": 8 + number, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
        made = model.generate(tokens, attention_mask=torch.ones_like(tokens), **greedy)[0, tokens.shape[1] :]
        text = tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert texts[asked] == text
        wanted = [reference_logprob(model, tokenizer, prompt, choice) for choice in CHOICES]
        assert scores[asked] == pytest.approx(wanted, abs=tolerance(8))


def test_a_chain_goes_on_from_its_own_states(tiny_model: Path) -> None:
    """Only what is new in the next prompt goes through the model."""
    engine = engine_with_states(tiny_model, SETTINGS)
    first = [*SHOT, user("Why?")]
    answer = next(engine.generate([Request("1", first, max_tokens=4, seed=1)])).text
    before = engine.usage.tokens_computed
    next(engine.generate([Request("2", [*first, assistant(answer), user("And?")], max_tokens=4)]))
    prompts = engine.usage.tokens_naive
    assert before < prompts / 2
    assert engine.usage.tokens_computed - before < 40


def test_what_prompts_that_come_one_by_one_begin_with_is_known_from_the_third_on(tiny_model: Path) -> None:
    engine = engine_with_states(tiny_model, SETTINGS)
    computed = []
    for asked in ("Why?", "How is it?", "What?", "And you?"):  # they differ from the first letter on
        before = engine.usage.tokens_computed
        next(engine.generate([Request(asked, [*SHOT, user(asked)], max_tokens=2)]))
        computed.append(engine.usage.tokens_computed - before)
    assert computed[1] > computed[0]  # it is longer; what it shares is read by itself, to be kept
    assert max(computed[2:]) < computed[0] / 2


def test_known_states_are_the_longest_and_the_least_used_go_first() -> None:
    def states(length: int) -> States:
        return States(type("Cache", (), {"layers": []})(), length)

    known = KnownStates(3, 100)
    numbers = np.arange(10)
    for length in (2, 4, 6):
        known.keep(numbers[:length], states(length))
    other = np.array([0, 1, 2, 3, 9, 9])
    assert known.branches(other, []) == [2, 4]
    assert known.branches(other, [np.array([0, 1, 2, 3, 9, 8])]) == [2, 4, 5]
    for most, length in ((10, 4), (3, 2)):
        found = known.longest(other, most)
        assert found is not None
        assert found.length == length
    assert known.longest(np.array([1, 2]), 2) is None
    known.keep(np.array([7]), None)  # the one of 6 tokens was used least lately
    assert known.branches(numbers, []) == [0, 2, 4]
    found = known.longest(numbers, 10)
    assert found is not None
    assert found.length == 4
