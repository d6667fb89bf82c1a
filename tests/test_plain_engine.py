"""The engine for models whose states cannot be copied, which share nothing."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model_families import family
from solon import models
from solon.config import EngineSettings
from solon.errors import SolonError
from solon.inference import attention, open_engine, plain_engine, state_rows, states
from solon.inference.cached_rows import CachedRows
from solon.inference.engine import Question, Request
from solon.inference.plain_engine import PlainEngine
from solon.inference.state_rows import StateRows
from solon.inference.transformers_engine import TransformersEngine
from solon.libraries.torch import attend
from solon.prompts.dialogue import user
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

SETTINGS = EngineSettings(dtype="float32", device="cpu", batch_size=4)
ASKED = (
    "Tell me about tea, and why the people of the north drink so much of it.",
    "Tell me about tea.",
    "Why?",
)
CHOICES = (" Yes, of course", " No")


@pytest.fixture(scope="session")
def factory() -> EngineFactory:
    return lambda model, batch: PlainEngine(model, SETTINGS.model_copy(update={"batch_size": batch}))


def test_it_may_be_asked_for_by_name(tiny_model: Path) -> None:
    with open_engine(str(tiny_model), SETTINGS.model_copy(update={"kind": "generate"})) as engine:
        assert isinstance(engine, PlainEngine)
        [completion] = engine.generate([Request("one", [user("Tea?")], max_tokens=4)])
        assert completion.tokens


def test_a_family_whose_states_cannot_be_copied_writes_what_generate_does(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Prompts of several lengths together, which padding must not change."""
    unusual = family("recurrent_gemma", tiny_model, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(unusual)
    model = AutoModelForCausalLM.from_pretrained(unusual, dtype=torch.float32).eval()
    with open_engine(str(unusual), SETTINGS) as engine:
        assert isinstance(engine, PlainEngine)
        said: list[str] = []
        engine.say = said.append  # type: ignore[method-assign]
        requests = [Request(asked, [user(asked)], max_tokens=12, temperature=0) for asked in ASKED]
        texts = {completion.id: completion.text for completion in engine.generate(requests)}
        questions = [Question(asked, [user(asked)], CHOICES) for asked in ASKED]
        scores = {score.id: score.logprobs for score in engine.scores(questions)}
    assert len(said) == 1
    assert "shares no prompts" in said[0]
    for asked in ASKED:
        prompt = tokenizer.apply_chat_template([user(asked)], add_generation_prompt=True, tokenize=False)
        tokens = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)])
        greedy = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
        made = model.generate(tokens, attention_mask=torch.ones_like(tokens), **greedy)[0, tokens.shape[1] :]
        text = tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert texts[asked] == text
        wanted = [reference_logprob(model, tokenizer, prompt, choice) for choice in CHOICES]
        assert scores[asked] == pytest.approx(wanted, abs=tolerance(8))


def test_before_a_run_it_is_told_which_models_share_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """By the configuration alone; as the engines find it with the weights."""
    for name, told in (("recurrent_gemma", True), ("qwen3_next", False), ("deepseek_v4", False)):
        assert bool(models.slow(str(family(name, tiny_model, tmp_path / name)))) == told
    assert models.slow(str(tiny_model)) is None
    assert models.slow("openai:any") is None


def test_a_model_that_reads_padding_has_prompts_of_one_length_together(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = PlainEngine(str(tiny_model), SETTINGS)
    requests = [Request(str(n), [user(asked)], max_tokens=4) for n, asked in enumerate((*ASKED, ASKED[2]))]
    together = {each.id: each.text for each in engine.generate(requests)}
    monkeypatch.setattr(plain_engine, "agree", lambda *_: False)
    apart = PlainEngine(str(tiny_model), SETTINGS)
    sizes = []
    generate = apart._generate
    monkeypatch.setattr(apart, "_generate", lambda batch: sizes.append(len(batch)) or generate(batch))
    assert {each.id: each.text for each in apart.generate(requests)} == together
    assert sorted(sizes) == [1, 1, 2]


def test_a_model_that_computes_something_else_is_found_at_the_start(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First over the rows of a cache, then from copies of its states."""
    folder = str(family("llama", tiny_model, tmp_path))
    with open_engine(folder, SETTINGS) as engine:
        assert isinstance(engine, TransformersEngine)
        assert isinstance(engine._rows, CachedRows)
    monkeypatch.setattr(attention, "attend", lambda query, *rest: attend(1.1 * query, *rest))
    with open_engine(folder, SETTINGS) as engine:
        assert isinstance(engine, TransformersEngine)
        assert isinstance(engine._rows, StateRows)
    monkeypatch.setattr(state_rows, "together", lambda parts: states.together([*parts[1:], *parts[:1]]))
    with open_engine(folder, SETTINGS) as engine:
        assert isinstance(engine, PlainEngine)


def test_a_models_own_way_of_sampling_is_left_out(tiny_model: Path, tmp_path: Path) -> None:
    """A repetition penalty or a floor of probability in its files is no wish of the user's."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.generation_config.update(repetition_penalty=5.0, do_sample=True, min_p=0.9)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)

    def texts(folder: Path) -> list[str]:
        with PlainEngine(str(folder), SETTINGS) as engine:
            requests = [Request(str(n), [user("Why?")], max_tokens=16, seed=n) for n in range(4)]
            return sorted(each.text for each in engine.generate(requests))

    assert texts(tmp_path) == texts(tiny_model)


def test_where_memory_does_not_suffice_fewer_are_made_at_a_time(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = PlainEngine(str(tiny_model), SETTINGS)
    requests = [Request(str(n), [user("Why?")], max_tokens=4, seed=n) for n in range(4)]
    wanted = {each.id: each.text for each in engine.generate(requests)}
    generate, said = engine._network.generate, []

    def narrow(tokens: torch.Tensor, **options: object) -> torch.Tensor:
        if len(tokens) > 2:
            raise RuntimeError("out of memory")
        return generate(tokens, **options)

    monkeypatch.setattr(engine._network, "generate", narrow)
    engine.say = said.append  # type: ignore[method-assign]
    assert {each.id: each.text for each in engine.generate(requests)} == wanted
    assert engine.concurrency == 2
    assert "went on with 2" in said[0]
    monkeypatch.setattr(engine._network, "generate", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(SolonError, match="memory does not suffice for one sequence"):
        list(engine.generate(requests))
