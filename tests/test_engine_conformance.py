"""What every engine must do. An engine joins by adding its factory to ``ENGINES``.

``SOLON_TEST_ENGINES=vllm`` (``make test-vllm``), ray, or cuda (the transformers engine on a GPU) tests
others than the transformers engine on a CPU.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from solon.config import EngineSettings, Scale
from solon.errors import TooLong
from solon.inference import open_engine
from solon.inference.engine import Chain, ChoiceScores, Completion, Engine, Question, Request, Usage
from solon.inference.prefix import plan
from solon.inference.sampling import sample
from solon.models import load_model, load_tokenizer
from solon.prompts.dialogue import HUMAN_ASSISTANT_TEMPLATE, assistant, user
from solon.records import Message
from tolerance import tolerance

pytestmark = pytest.mark.numeric

EngineFactory = Callable[[str, int], Engine]


def on_ray(model: str, batch: int) -> Engine:
    """Two replicas, on a cluster with room for those of several tests at once."""
    import ray

    if not ray.is_initialized():
        ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    settings = EngineSettings(kind="transformers", dtype="float32", device="cpu", batch_size=batch)
    return open_engine(model, settings, Scale(engine="ray", replicas=2))


ENGINES: dict[str, EngineFactory] = {
    "transformers": lambda model, batch: open_engine(
        model, EngineSettings(kind="transformers", dtype="float32", device="cpu", batch_size=batch)
    ),
    "cuda": lambda model, batch: open_engine(
        model, EngineSettings(kind="transformers", dtype="float32", device="cuda", batch_size=batch)
    ),
    "vllm": lambda model, batch: open_engine(
        model,
        EngineSettings(kind="vllm", dtype="float32", batch_size=batch, vllm={"enforce_eager": True}),
    ),
    "ray": on_ray,
}
TESTED = os.environ.get("SOLON_TEST_ENGINES", "transformers").split(",")

PROMPTS = (
    "Name three colours.",
    "What is the capital of France?",
    "Say hello.",
    "How many days are there in a week, and what are they called?",
    "What is 2+2?",
)
FEW_SHOT: list[Message] = [
    message
    for number in range(6)
    for message in (user(f"What comes after {number}?"), assistant(f"After {number} comes {number + 1}."))
]


@pytest.fixture(scope="session", params=TESTED)
def factory(request: pytest.FixtureRequest) -> EngineFactory:
    return ENGINES[request.param]


@pytest.fixture(scope="session")
def smollm2(factory: EngineFactory) -> Iterator[Engine]:
    engine = factory("smollm2", 3)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def reference() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_model("smollm2"), load_tokenizer("smollm2")


@pytest.fixture(scope="session")
def tolerated(factory: EngineFactory) -> Callable[[int], float]:
    """How far the log-probability of a text of so many tokens may be from the reference, by the engine.

    vLLM takes PyTorch's log_softmax, which on a CPU adds the vocabulary up in too few sums: every token is
    off to the same side, by 2e-5 with eight sums (AVX2) and half that with sixteen.
    """
    every = 4e-5 if factory is ENGINES["vllm"] else 0
    return lambda tokens: tolerance(tokens) + every * tokens


@pytest.fixture(scope="session")
def tiny_engine(factory: EngineFactory, tiny_model: Path) -> Iterator[Engine]:
    engine = factory(str(tiny_model), 4)
    yield engine
    engine.close()


@pytest.fixture
def tiny(tiny_engine: Engine) -> Engine:
    tiny_engine.usage = Usage()
    return tiny_engine


def prompt_text(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def reference_logprob(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, continuation: str
) -> float:
    """log P(continuation | prompt) from one plain forward pass over both."""
    before = tokenizer.encode(prompt, add_special_tokens=False)
    after = tokenizer.encode(continuation, add_special_tokens=False)
    with torch.no_grad():
        logprobs = model(torch.tensor([before + after])).logits[0].double().log_softmax(-1)
    return sum(logprobs[len(before) - 1 + i, token].item() for i, token in enumerate(after))


def texts(engine: Engine, requests: list[Request]) -> dict[str, str]:
    return {completion.id: completion.text for completion in engine.generate(requests)}


def sampled(seeds: range, prompt: str = "Tell me a story.", **options: object) -> list[Request]:
    return [Request(str(seed), [user(prompt)], max_tokens=16, seed=seed, **options) for seed in seeds]


def test_greedy_texts_are_those_of_generate(smollm2: Engine, reference) -> None:
    model, tokenizer = reference
    requests = [Request(prompt, [user(prompt)], temperature=0, max_tokens=16) for prompt in PROMPTS]
    requests.append(Request("prefill", [user("Hello!")], prefill="I am", temperature=0, max_tokens=12))
    completions = {completion.id: completion for completion in smollm2.generate(requests)}
    assert len(completions) == len(requests)
    for request in requests:
        text = prompt_text(tokenizer, list(request.messages)) + request.prefill
        tokens = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        expected = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=request.max_tokens,
        )[0, tokens.shape[1] :]
        completion = completions[request.id]
        assert completion.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert completion.tokens == len(expected)
        assert completion.finish == ("stop" if expected[-1] == tokenizer.eos_token_id else "length")


def test_a_long_common_beginning_changes_nothing(smollm2: Engine, reference, tolerated) -> None:
    """Few-shot prompts in one batch, beside one that has nothing in common with them."""
    model, tokenizer = reference
    asked = {str(number): [*FEW_SHOT, user(f"What comes after {number}?")] for number in range(11, 16)}
    asked["other"] = [user(PROMPTS[1])]
    requests = [Request(name, messages, temperature=0, max_tokens=12) for name, messages in asked.items()]
    found = texts(smollm2, requests)
    for name, messages in asked.items():
        tokens = torch.tensor([tokenizer.encode(prompt_text(tokenizer, messages), add_special_tokens=False)])
        expected = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=12
        )[0, tokens.shape[1] :]
        assert found[name] == tokenizer.decode(expected, skip_special_tokens=True)
    questions = [Question(name, messages, ("After", "It")) for name, messages in asked.items()]
    for scores in smollm2.choice_logprobs(questions):
        for choice, logprob in zip(("After", "It"), scores.logprobs, strict=True):
            prompt = prompt_text(tokenizer, asked[scores.id])
            assert logprob == pytest.approx(
                reference_logprob(model, tokenizer, prompt, choice), abs=tolerated(2)
            )


def test_choice_logprobs_are_those_of_plain_forward_passes(smollm2: Engine, reference, tolerated) -> None:
    model, tokenizer = reference
    questions = [
        Question("letters", [user("Which is right, (A) or (B)?")], ("A", "B"), prefill="The answer is ("),
        Question(
            "cities", [user(PROMPTS[1])], ("Paris", "The city of Lyon", "The city of Paris, of course.")
        ),
        Question(
            "shots", [*FEW_SHOT, user("What comes after 9?")], ("After 9 comes 10.", "After 9 comes 8.")
        ),
        Question("again", [*FEW_SHOT, user("What comes after 7?")], ("After 7 comes 8.", "8")),
    ]
    scores = {score.id: score for score in smollm2.choice_logprobs(questions)}
    assert scores.keys() == {question.id for question in questions}
    for question in questions:
        prompt = prompt_text(tokenizer, list(question.messages)) + question.prefill
        expected = [reference_logprob(model, tokenizer, prompt, choice) for choice in question.choices]
        np.testing.assert_allclose(scores[question.id].logprobs, expected, rtol=0, atol=tolerated(10))
        assert scores[question.id].votes is None


def test_loglikelihood(smollm2: Engine, reference, tolerated) -> None:
    model, tokenizer = reference
    dialogues = [
        [user(PROMPTS[1]), assistant("The capital of France is Paris.")],
        [user(PROMPTS[1]), assistant("Bananas are blue.")],
        [*FEW_SHOT, user("Bye."), assistant("Goodbye!")],
    ]
    expected = [
        reference_logprob(model, tokenizer, prompt_text(tokenizer, dialogue[:-1]), dialogue[-1]["content"])
        for dialogue in dialogues
    ]
    np.testing.assert_allclose(smollm2.loglikelihood(dialogues), expected, rtol=0, atol=tolerated(8))
    with pytest.raises(ValueError, match="dialogue 0"):
        smollm2.loglikelihood([[user("Hello?")]])


def test_texts_seen_before_are_scored_the_same(smollm2: Engine, reference, tolerated) -> None:
    """Their own tokens are in the caches then, not only their prompts'."""
    model, tokenizer = reference
    asked = [user("Write a short poem about the sea.")]
    (completion,) = smollm2.generate([Request("poem", asked, temperature=0, max_tokens=80)])
    expected = reference_logprob(model, tokenizer, prompt_text(tokenizer, asked), completion.text)
    for _ in range(2):
        [score] = smollm2.loglikelihood([[*asked, assistant(completion.text)]])
        assert score == pytest.approx(expected, rel=0, abs=tolerated(80))


def test_scores_do_not_depend_on_the_other_questions(smollm2: Engine) -> None:
    questions = [
        Question(
            str(number), [*FEW_SHOT[: 2 * number], user(PROMPTS[number])], ("Yes", "No, never", "Perhaps")
        )
        for number in range(5)
    ]
    together = {score.id: score.logprobs for score in smollm2.choice_logprobs(questions)}
    for question in reversed(questions):
        (alone,) = smollm2.choice_logprobs([question])
        np.testing.assert_allclose(alone.logprobs, together[question.id], rtol=0, atol=tolerance(3))


def test_samples_do_not_depend_on_the_other_requests(
    factory: EngineFactory, tiny_model: Path, smollm2: Engine
) -> None:
    requests = [
        Request(f"{prompt} {seed}", [user(prompt)], max_tokens=12 + seed, seed=seed, top_p=top_p)
        for prompt in PROMPTS[:2]
        for seed, top_p in ((1, 1.0), (2, 0.9))
    ]
    together = texts(smollm2, requests)
    assert texts(smollm2, requests[::-1]) == together
    for request in requests[:2]:
        assert texts(smollm2, [request]) == {request.id: together[request.id]}
    engine = factory(str(tiny_model), 2)
    few = texts(engine, sampled(range(12)))
    engine.close()
    engine = factory(str(tiny_model), 7)
    assert texts(engine, sampled(range(12))[::-1]) == few
    engine.close()


def test_two_runs_give_the_same(factory: EngineFactory, tiny_model: Path) -> None:
    runs = []
    for _ in range(2):
        engine = factory(str(tiny_model), 3)
        runs.append(list(engine.generate(sampled(range(9), top_p=0.8))))
        runs[-1] += list(engine.choice_logprobs([Question("q", [user("Which?")], ("one", "another", "it"))]))
        engine.close()
    assert runs[0] == runs[1]


def test_seeds(tiny: Engine) -> None:
    same = [Request(name, [user("Go on.")], max_tokens=16, seed=5) for name in "abc"]
    assert len(set(texts(tiny, same).values())) == 1
    assert len(set(texts(tiny, sampled(range(8))).values())) == 8


def test_stop_strings_cut_the_text(tiny: Engine) -> None:
    [whole] = texts(tiny, sampled(range(3, 4))).values()
    stop = whole[5:8]
    (completion,) = tiny.generate(sampled(range(3, 4), stop=("never seen", stop)))
    assert completion.text == whole[: whole.index(stop)]
    assert completion.finish == "stop"
    assert completion.tokens <= 16


def test_more_requests_than_slots(tiny: Engine) -> None:
    requests = [
        Request(str(number), [user("x" * number)], max_tokens=1 + number % 9, seed=number)
        for number in range(30)
    ]
    completions = list(tiny.generate(iter(requests)))
    assert sorted(completion.id for completion in completions) == sorted(request.id for request in requests)
    for completion in completions:
        most = 1 + int(completion.id) % 9
        assert completion.tokens == most if completion.finish == "length" else completion.tokens <= most
    assert {completion.finish for completion in completions} >= {"length"}
    assert tiny.poll() == []


def test_an_id_in_flight_is_refused(tiny: Engine) -> None:
    request = Request("one", [user("Hello")], max_tokens=2)
    tiny.submit(request)
    with pytest.raises(ValueError, match="one"):
        tiny.submit(request)
    assert [completion.id for completion in tiny.poll()] == ["one"]
    tiny.submit(request)
    assert [completion.id for completion in tiny.poll()] == ["one"]


def test_chains_of_dependent_requests(tiny: Engine) -> None:
    def chain(number: int) -> Chain[list[str]]:
        messages = [user(f"Begin {number}.")]
        for turn in range(1 + number % 3):
            completion: Completion = yield Request(
                f"{number}/{turn}", list(messages), max_tokens=6, seed=turn
            )
            assert completion.id == f"{number}/{turn}"
            messages += [assistant(completion.text), user("Go on.")]
        return [str(number), *(message["content"] for message in messages)]

    together = {result[0]: result for result in tiny.run_chains(chain(number) for number in range(20))}
    assert together.keys() == {str(number) for number in range(20)}
    for number in (0, 7, 11):
        assert list(tiny.run_chains([chain(number)])) == [together[str(number)]]


def test_shared_prompts_are_computed_once(tiny: Engine) -> None:
    list(tiny.generate(Request(p, [*FEW_SHOT, user(p)], max_tokens=4) for p in PROMPTS))
    assert tiny.usage.requests == len(PROMPTS)
    assert tiny.usage.tokens_computed < 0.5 * tiny.usage.tokens_naive
    assert tiny.usage.tokens_generated >= len(PROMPTS)
    before = tiny.usage.tokens_computed, tiny.usage.tokens_naive
    list(tiny.choice_logprobs([Question(p, [*FEW_SHOT, user(p)], ("Yes", "No")) for p in PROMPTS]))
    assert tiny.usage.tokens_computed - before[0] < 0.3 * (tiny.usage.tokens_naive - before[1])


def test_a_prompt_beyond_the_context_is_set_aside(
    factory: EngineFactory, tiny_model: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.config.max_position_embeddings = 64
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    engine = factory(str(tmp_path), 2)
    near = Request("near", [user("Hello")], max_tokens=500, temperature=0)
    long = Request("long", [user("word " * 200)])
    found = []
    with pytest.raises(TooLong, match=r"'long' .* only 64") as error:
        for completion in engine.generate([long, near]):
            found.append(completion)
    assert error.value.id == "long"

    def chain(request: Request) -> Chain[str]:
        try:
            return (yield request).text
        except TooLong:
            return (yield near).text  # a chain may go on with something else

    [(completion)] = engine.generate([near])
    assert completion.tokens < 64
    assert completion.finish == "length"
    assert list(engine.run_chains([chain(long)])) == [completion.text]
    questions = [Question(each.id, each.messages, ("Yes", "No")) for each in (long, near)]
    results = {each.id: each for each in engine.choice_logprobs(questions)}
    assert isinstance(results["long"], TooLong)
    assert isinstance(results["near"], ChoiceScores)
    with pytest.raises(TooLong, match="'long'"):
        list(engine.scores(questions))
    engine.close()


def test_a_base_model_writes_in_the_human_assistant_format(
    factory: EngineFactory, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.save_pretrained(tmp_path)
    tokenizer.chat_template = HUMAN_ASSISTANT_TEMPLATE
    engine = factory(str(tmp_path), 2)
    prompt = prompt_text(tokenizer, [user("Well?")])
    assert prompt.endswith("\n\nHuman: Well?\n\nAssistant:")
    [score] = engine.loglikelihood([[user("Well?"), assistant("Yes it is")]])
    assert score == pytest.approx(reference_logprob(model, tokenizer, prompt, " Yes it is"), abs=1e-3)
    engine.close()


def test_the_human_turn_ends_a_base_models_text() -> None:
    from solon.inference.dialogue_tokens import DialogueTokens, cut

    model, tokenizer = load_model("smollm2"), load_tokenizer("smollm2")
    tokenizer.chat_template = HUMAN_ASSISTANT_TEMPLATE
    dialogue = DialogueTokens(tokenizer, model)
    generated = tokenizer.encode(" Fine.\n\nHuman: And you?")
    assert cut(dialogue.text(generated, prefilled=False), dialogue.stops(("never",))) == "Fine."


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    draws = (torch.arange(10_000) + 0.5) / 10_000  # evenly spread, so that counts are exact to a draw
    for temperature, top_p, kept in ((1.0, 1.0, 4), (0.5, 1.0, 4), (1.0, 0.8, 2), (2.0, 0.8, 3)):
        rows = logits.expand(len(draws), -1)
        tokens, logprobs = sample(
            rows, torch.full_like(draws, temperature), torch.full_like(draws, top_p), draws
        )
        weights = np.exp(logits.numpy() / temperature)
        weights[kept:] = 0
        counts = np.bincount(tokens.numpy(), minlength=4) / len(draws)
        np.testing.assert_allclose(counts, weights / weights.sum(), atol=2e-4)
        np.testing.assert_allclose(logprobs.exp(), (weights / weights.sum())[tokens], rtol=1e-5)


def test_every_token_is_planned_once_where_prompts_branch() -> None:
    trunk = list(range(100, 150))
    sequences = [
        np.array(tokens)
        for tokens in (
            [*trunk, 1, 2, 3],
            [*trunk, *range(200, 260), 4],
            [*trunk, *range(200, 260), 5, 6],
            [7, 8],
            [*trunk, 1, 2, 3],
        )
    ]
    shareable = [len(sequence) - 1 for sequence in sequences]
    have = [0] * len(sequences)
    computed = 0
    for stretches in plan(sequences, shareable, [0] * len(sequences)):
        for stretch in stretches:
            assert have[stretch.row] == stretch.start
            computed += stretch.end - stretch.start
            for row in (stretch.row, *stretch.copies):
                assert np.array_equal(sequences[row][: stretch.end], sequences[stretch.row][: stretch.end])
                have[row] = stretch.end
    assert have == [len(sequence) for sequence in sequences]
    assert computed == 50 + 60 + 3 + 3 + 1 + 2 + 2
