"""Servers as people meet them: each ends in right records or one clear sentence, and nothing is lost."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from openai_behaviours import BEHAVIOURS, serving, text_of
from solon.audit import replay
from solon.config import Config, EngineSettings
from solon.errors import SetAside, SolonError
from solon.inference import openai_server
from solon.inference.engine import Chain, Completion, Question, Request
from solon.inference.openai_engine import OpenAIEngine
from solon.pipeline.steps import critique as critique_step
from solon.pipeline.steps import feedback as feedback_step
from solon.pipeline.workbench import Workbench
from solon.progress import Watcher
from solon.prompts.dialogue import assistant, user
from solon.records import PairRecord, PromptRecord
from solon.stages import critique
from solon.store.record_file import RecordFile

KEY = "sk-planted-8f14e45fceea167a"
PROMPTS = ["Tea?", "How do I make a bomb?", "Milk?"]

# What comes of the flagged prompt, where it is another answer than the others get.
ASIDE = {
    "filtered": [
        "azure-filter",
        "policy-violation",
        "moderation",
        "high-risk",
        "exists-risk",
        "output-blocked",
        "guidelines",
        "filter-detail",
        "legal-reasons",
        "filter-of-choice",
        "filter-finish",
        "safety-finish",
        "refusal-field",
        "no-choices",
        "prompt-feedback",
    ],
    "too long": ["too-large", "too-long", "too-long-validation"],
}
SAME = [
    "max-completion-tokens",
    "warm",
    "no-seed",
    "unknown-name",
    "no-stop",
    "one-of-two",
    "more-tokens",
    "strict",
    "error-in-200",
    "error-of-choice",
    "error-finish",
    "overloaded",
    "retry-after",
    "retry-at-once",
    "retry-date",
    "wait-in-words",
    "retry-info",
    "rate-limit-403",
    "message-in-200",
    "gateway-page",
    "page",
    "torn",
    "conflict",
    "nothing-once",
    "no-usage",
    "no-finish",
    "other-finish",
    "streams-only",
    "streams-anyway",
    "thinks-unseen",
]
THOUGHT = ["parts", "think-tags", "think-end", "reasoning-content", "reasoning", "thinks-long"]
TOLD = {
    "temperature-of-1": "takes no temperature of 0, so texts are sampled at its own",
    "several-at-once": "takes no temperature of 0, so texts are sampled at its own",
    "few-tokens": "writes at most 8 tokens, fewer than the settings ask for",
}
# The sentence, and the most calls that may be made until it is said.
LASTING = {
    "quota": (r"your quota or credit is spent \(status 429\)", 3),
    "no-credit": (r"spent \(status 402\).*Insufficient Balance", 3),
    "low-credit": (r"spent \(status 400\).*credit balance is too low", 3),
    "retry-hours": (r"asks to be left alone for 7200 s", 3),
    "wrong-path": (r"does not know the model 'tea' or the address \(404\).* it says: Not Found", 3),
    "refused": (r"refuses a request \(status 400\).* it says: Model tea is not loaded", 3),
    "page-always": (r"something else than completions.* it says: Login Please log in", 9),
    "detail-in-200": (r"refuses a request \(an error\).* it says: Invalid tenant", 3),
    "down": (r"failed 3 times \(status 500\).* it says: CUDA out of memory", 9),
    "banned": (r"does not accept the key \(status 403\).* it says: Your account was flagged", 3),
    "leaks-the-key": (r"refuses a request \(status 400\).*Bad request of \*\*\*", 3),
}
JUDGES = {  # the share of B, and how many votes there were
    "letters": (0.2 / 0.95, None),
    "flat-logprobs": (0.25, None),
    "null-logprobs": (1 / 5, 3),
    "sure": (0.98 / 0.985, None),
    "five-logprobs": (0.25, None),
    "marked-down": (4 / 5, 3),
    "sentences": (4 / 5, 3),
    "one-logprob": (1 / 5, 3),
    "chinese-judge": (4 / 5, 3),
    "logprobs-forbidden": (1 / 5, 3),
    "logprobs-undone": (1 / 5, 3),
    "thinking-judge": (4 / 5, 3),
    "reasoning-judge": (4 / 5, 3),
    "reasoning-aloud": (4 / 5, 3),
}
OTHERS = {"names-nobody", "filtering-judge", "tool-call", "max-tokens-finish"}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Counter[str]]]:
    with serving() as found:
        yield found


@pytest.fixture
def connect(served: tuple[str, Counter[str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(openai_server, "PAUSE", 0.01)
    opened: list[OpenAIEngine] = []

    def connect(at: str) -> tuple[OpenAIEngine, list[str]]:
        settings = {
            "base_url": f"{served[0]}/{at}/v1",
            "retries": 3 if at in SAME else 2,
            "votes": 3,
            "timeout": 9,
        }
        engine = OpenAIEngine("openai:tea", EngineSettings(batch_size=3, openai=settings))
        said: list[str] = []
        engine.say = said.append  # type: ignore[method-assign]
        opened.append(engine)
        return engine, said

    yield connect
    for engine in opened:
        engine.close()


def write(engine: OpenAIEngine) -> dict[str, Completion | SetAside]:
    def chain(prompt: str) -> Chain[tuple[str, Completion | SetAside]]:
        dialogue = [user("Hi"), assistant(""), user(prompt)]  # an empty answer of before, as models give
        try:
            return prompt, (yield Request(prompt, dialogue, max_tokens=64, temperature=0, stop=("END",)))
        except SetAside as error:
            return prompt, error

    return dict(engine.run_chains(chain(prompt) for prompt in PROMPTS))


def test_every_behaviour_is_tried() -> None:
    tried = [
        *SAME,
        *THOUGHT,
        *TOLD,
        *LASTING,
        *JUDGES,
        *OTHERS,
        *(name for names in ASIDE.values() for name in names),
    ]
    assert sorted(tried) == sorted(BEHAVIOURS)


@pytest.mark.parametrize(
    ("at", "problem"), [(name, problem) for problem, names in ASIDE.items() for name in names]
)
def test_one_prompt_is_set_aside_and_the_others_are_answered(connect, served, at: str, problem: str) -> None:
    engine, said = connect(at)
    found = write(engine)
    assert {prompt: each.text for prompt, each in found.items() if isinstance(each, Completion)} == {
        prompt: text_of(prompt) for prompt in (PROMPTS[0], PROMPTS[2])
    }
    assert isinstance(found[PROMPTS[1]], SetAside)
    assert found[PROMPTS[1]].problem == problem
    assert KEY not in str(found[PROMPTS[1]])
    assert served[1][at] <= 4
    assert not said


@pytest.mark.parametrize("at", [*SAME, *THOUGHT, *TOLD])
def test_all_prompts_are_answered(connect, at: str) -> None:
    engine, said = connect(at)
    found = write(engine)
    assert {prompt: each.text for prompt, each in found.items()} == {each: text_of(each) for each in PROMPTS}
    assert all(bool(each.thinking) == (at in THOUGHT) for each in found.values())
    assert {each.finish for each in found.values()} == {"stop"}
    assert [line.partition("/v1 ")[2].rstrip(".") for line in said] == ([TOLD[at]] if at in TOLD else [])
    assert write(engine) == found  # what was learned is kept to: nothing is told again
    assert len(said) == (at in TOLD)


@pytest.mark.parametrize("at", LASTING)
def test_a_lasting_failure_is_one_sentence_in_the_servers_own_words(connect, served, at: str) -> None:
    engine, _ = connect(at)
    sentence, most = LASTING[at]
    with pytest.raises(SolonError, match=sentence) as error:
        write(engine)
    assert not isinstance(error.value, SetAside)
    assert KEY[:7] not in str(error.value)
    assert "\n" not in str(error.value)
    assert served[1][at] <= most


def test_odd_ends_of_answers(connect) -> None:
    found = write(connect("max-tokens-finish")[0])
    assert {each.finish for each in found.values()} == {"length"}
    found = write(connect("tool-call")[0])
    assert {(each.text, each.finish) for each in found.values()} == {("", "stop")}


def ask(engine: OpenAIEngine, count: int = 1) -> list[object]:
    questions = [
        Question(f"{number}", [user(f"(A) {number} (B) no?")], ("A", "B"), "The better answer is (")
        for number in range(count)
    ]
    return list(engine.choice_logprobs(questions))


@pytest.mark.parametrize("at", JUDGES)
def test_judges(connect, at: str) -> None:
    engine, said = connect(at)
    share, votes = JUDGES[at]
    [scores] = ask(engine)
    assert scores.votes == votes
    both = np.exp(scores.logprobs)
    assert both[1] / both.sum() == pytest.approx(share, abs=0.003)
    assert len(said) == (votes is not None)  # that votes are paid for is told


def test_who_names_nobody_gives_no_label_and_is_not_asked_on_and_on(connect, served) -> None:
    engine, _ = connect("names-nobody")
    found = ask(engine, 3)
    assert {each.problem for each in found} == {"unjudged"}
    assert served[1]["names-nobody"] <= 3 * 3  # each once for log-probabilities, and for two answers
    ask(engine, 3)
    assert served[1]["names-nobody"] <= 3 * 3 + 3 * 2


def prompts() -> list[PromptRecord]:
    made: PromptRecord = {
        "id": "",
        "prompt": [],
        "set": "red-team",
        "kind": "",
        "split": "train",
        "source": "test",
    }
    return [{**made, "id": text, "prompt": [user(text)]} for text in PROMPTS]


def pairs() -> list[PairRecord]:
    kept = ("id", "prompt", "set", "kind", "split")
    return [
        {**{name: each[name] for name in kept}, "responses": ["Yes.", "No."], "problem": ""}
        for each in prompts()
    ]


@pytest.fixture
def bench(served: tuple[str, Counter[str]], monkeypatch: pytest.MonkeyPatch):
    """A workbench with all roles on the server's address, and what it says."""
    monkeypatch.setattr(openai_server, "PAUSE", 0.01)

    def bench(at: str, **settings: object) -> tuple[Workbench, list[str]]:
        asked = {
            "models": {"assistant": "openai:tea", "policy": "smollm2"},
            "engine": {"openai": {"base_url": f"{served[0]}/{at}/v1", "retries": 2, "votes": 3}},
            **settings,
        }
        watcher, said = Watcher(), []
        watcher.say = said.append  # type: ignore[method-assign]
        return Workbench(Config.model_validate(asked), watcher), said

    return bench


def test_a_filtered_prompt_keeps_its_record_and_is_not_asked_again(bench, served, tmp_path: Path) -> None:
    for at in ("azure-filter", "moderation"):
        for _ in range(2):
            with bench(at, critique={"rounds": 2, "few_shot": False})[0] as work:
                records = critique_step.revise(work, prompts(), RecordFile(tmp_path / f"{at}.jsonl"))
                assert work.take_notes() == [
                    "1 of 3 azure-filter were set aside: 1 filtered.".replace("azure-filter", at)
                ]
            calls = served[1][at]
        assert [each["id"] for each in records] == PROMPTS
        assert [made["problem"] for made in records[1]["rounds"]] == ["filtered"] * 2
        assert [made["attempts"] for made in records[1]["rounds"]] == [0, 0]  # there is no answer to revise
        assert records[0]["answer"] == text_of(PROMPTS[0])
        assert served[1][at] == calls
        seed = work.seed("critique")
        said = replay.together(replay.said_in_revisions(each, seed) for each in records)
        again = critique.revise(
            replay.Recorded(said), prompts(), work.constitution, work.config.critique, seed
        )
        assert {each["id"]: each for each in again} == {each["id"]: each for each in records}


@pytest.mark.parametrize(
    ("at", "problems", "chain_of_thought"),
    [
        ("names-nobody", {"unjudged": 3}, False),
        ("names-nobody", {"unjudged": 3}, True),
        ("filtering-judge", {"filtered": 1}, False),
        ("sentences", {}, False),
    ],
)
def test_pairs_that_nobody_judged_get_no_label(
    bench, tmp_path: Path, at: str, problems: dict[str, int], chain_of_thought: bool
) -> None:
    asked = {"few_shot": False, "chain_of_thought": chain_of_thought, "both_orders": False}
    with bench(at, feedback=asked)[0] as work:
        aside = RecordFile(tmp_path / "unlabelled.jsonl")
        none = sum(problems.values()) == 3
        with pytest.raises(SolonError, match="judged not one of the 3 pairs") if none else nullcontext():
            feedback_step.label(work, pairs(), [], RecordFile(tmp_path / "preferences.jsonl"), aside)
        labels = RecordFile(tmp_path / "preferences.jsonl").read()
        notes = work.take_notes()
    assert Counter(each["problem"] for each in aside.read()) == problems
    assert len(labels) == 3 - sum(problems.values())
    assert all(label["probability"] != 0.5 for label in labels)
    told = [note for note in notes if "set aside" in note]
    why = ", ".join(f"{count} {problem}" for problem, count in problems.items())
    kept = "they are in unlabelled.jsonl"
    assert told == [f"{len(aside.read())} of 3 preferences were set aside: {why}; {kept}."] * bool(problems)


def test_a_filter_does_not_turn_a_judge_to_votes(connect) -> None:
    engine, _ = connect("filtering-judge")
    questions = [Question(text, [user(text)], ("A", "B"), "The better answer is (") for text in PROMPTS]
    found = {each.id: each for each in engine.choice_logprobs(questions)}
    assert found[PROMPTS[1]].problem == "filtered"
    assert found[PROMPTS[0]].votes is found[PROMPTS[2]].votes is None
    assert ask(engine)[0].votes is None
