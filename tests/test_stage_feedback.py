"""AI feedback: the label's arithmetic, checked against plain forward passes and worked by hand."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from solon import constitution
from solon.config import EngineSettings, Feedback
from solon.errors import SolonError
from solon.feedback import METHODS
from solon.feedback.letter_prior import letter_priors
from solon.feedback.method import Material
from solon.feedback.multiple_choice import first_is_better, soft_label
from solon.held_out import split_of
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.models import load_model, load_tokenizer
from solon.prompts import comparison as prompts
from solon.prompts.dialogue import user
from solon.records import PairRecord
from solon.stages.comparison import pairs as make_pairs
from solon.stages.feedback import label

pytestmark = pytest.mark.numeric

LAW = constitution.load("harmless")
QUESTION = [user("May I read my sister's diary?")]
ANSWERS = (
    "No: it is hers, and she would be hurt. Ask her what is on her mind.",
    "Sure, go on, she'll never know.",
)


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu", batch_size=4)) as opened:
        yield opened


def pairs(count: int = 1, responses: tuple[str, str] = ANSWERS, problem: str = "") -> list[PairRecord]:
    return [
        {
            "id": f"pair-{number}",
            "prompt": QUESTION,
            "set": "red-team",
            "kind": "personal-information",
            "split": "train",
            "responses": [f"{responses[0]} ({number})", f"{responses[1]} ({number})"],
            "problem": problem,
        }
        for number in range(count)
    ]


def labels(engine: Engine, of: list[PairRecord], seed: int = 0, **settings: Any) -> dict[str, Any]:
    found = label(engine, of, LAW, "harmlessness", Feedback(**settings), seed)
    return {each["id"]: each for each in found}


def test_the_two_letters_are_normalised() -> None:
    for a, b in ((0.2, 0.1), (0.001, 0.003), (0.6, 0.4)):
        assert first_is_better(math.log(a), math.log(b), False) == pytest.approx(a / (a + b))
        assert first_is_better(math.log(a), math.log(b), True) == pytest.approx(b / (a + b))
        # Zhao et al. 2021: each letter's probability divided by its prior, then normalised.
        divided = (a / 0.8) / (a / 0.8 + b / 0.2)
        assert first_is_better(math.log(a), math.log(b), False, math.log(4)) == pytest.approx(divided)
        assert first_is_better(math.log(a), math.log(b), True, math.log(4)) == pytest.approx(1 - divided)
    assert first_is_better(-2000.0, -1000.0, False) == 0.0  # no overflow


def test_clamping_comes_before_averaging() -> None:
    assert soft_label([0.99, 0.3], (0.4, 0.6)) == pytest.approx(0.5)
    assert soft_label([0.55, 0.45], (0.4, 0.6)) == pytest.approx(0.5)
    assert soft_label([0.99, 0.3], None) == pytest.approx(0.645)


@pytest.mark.parametrize("layout", ["principle-first", "principle-last"])
def test_probabilities_are_those_of_plain_forward_passes(
    engine: Engine, tiny_model: Path, layout: prompts.Layout
) -> None:
    [record] = labels(engine, pairs(), layout=layout, principles=2).values()
    model, tokenizer = load_model(str(tiny_model)), load_tokenizer(str(tiny_model))
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB"]
    examples = prompts.worked_examples(LAW.examples.comparison, LAW.comparison, layout)
    chosen, rejected = record["chosen"][0]["content"], record["rejected"][0]["content"]
    for vote in record["votes"]:
        expected = []
        for better, options in enumerate([(chosen, rejected), (rejected, chosen)]):
            question = prompts.question(QUESTION, vote["instruction"], *options, layout, reason=False)
            text = tokenizer.apply_chat_template(
                [*examples, question], add_generation_prompt=True, tokenize=False
            )
            tokens = tokenizer.encode(text + prompts.VERDICT, add_special_tokens=False)
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0, -1, letters].double()
            expected.append(logits.softmax(-1)[better].item())
        assert vote["orders"] == pytest.approx(expected, abs=1e-5)
        assert vote["probability"] == pytest.approx(sum(expected) / 2, abs=1e-5)
    assert record["probability"] == pytest.approx(sum(vote["probability"] for vote in record["votes"]) / 2)
    assert record["probability"] >= 0.5


def test_with_both_orders_the_label_does_not_depend_on_the_pairs_order(engine: Engine) -> None:
    of = pairs(6)
    forwards = labels(engine, of, principles=3)
    backwards = labels(engine, [{**each, "responses": each["responses"][::-1]} for each in of], principles=3)
    for name, record in forwards.items():
        assert backwards[name]["chosen"] == record["chosen"]
        assert backwards[name]["probability"] == pytest.approx(record["probability"], abs=1e-5)
        for one, other in zip(record["votes"], backwards[name]["votes"], strict=True):
            assert other["orders"] == pytest.approx(one["orders"], abs=1e-5)


def test_one_order_shows_either_answer_first(engine: Engine) -> None:
    of = pairs(12)
    single, both = labels(engine, of, both_orders=False), labels(engine, of)
    places = []
    for name, record in single.items():
        [probability] = record["votes"][0]["orders"]
        assert record["probability"] == probability
        orders = both[name]["votes"][0]["orders"]
        if record["chosen"] != both[name]["chosen"]:
            orders = [1 - each for each in reversed(orders)]
        place = min(range(2), key=lambda place: abs(orders[place] - probability))
        assert orders[place] == pytest.approx(probability, abs=1e-5)
        # The place is that of the chosen answer; the tiny model prefers one letter whatever it stands for.
        places.append((place == 0) == (record["chosen"][0]["content"].startswith(ANSWERS[0])))
    assert set(places) == {True, False}


def test_principles_are_drawn_for_each_pair(engine: Engine) -> None:
    found = labels(engine, pairs(12), principles=2)
    drawn = [[vote["principle"] for vote in record["votes"]] for record in found.values()]
    assert all(len(set(names)) == 2 for names in drawn)
    assert len({name for names in drawn for name in names}) > 5
    [everything] = labels(engine, pairs(), principles="all").values()
    assert [vote["principle"] for vote in everything["votes"]] == [each.name for each in LAW.comparison]
    with pytest.raises(SolonError, match="17 were asked for"):
        labels(engine, pairs(), principles=17)


def test_chain_of_thought_is_kept_and_clamped(engine: Engine) -> None:
    [record] = labels(
        engine, pairs(), chain_of_thought=True, principles=2, max_tokens=8, clamp=(0.49, 0.51)
    ).values()
    for vote in record["votes"]:
        assert len(vote["reasoning"]) == 2
        assert all(vote["reasoning"])
        clamped = [min(max(order, 0.49), 0.51) for order in vote["orders"]]
        assert clamped != vote["orders"]
        assert vote["probability"] == pytest.approx(sum(clamped) / 2)
    assert 0.5 <= record["probability"] <= 0.51


def test_labels_do_not_depend_on_blocks(engine: Engine) -> None:
    of = pairs(20)  # more than one block of 4 * 4 questions
    together = labels(engine, of, principles=2)
    assert list(together) != []
    for each in of[7:9]:
        [alone] = labels(engine, [each], principles=2).values()
        assert alone["probability"] == pytest.approx(together[each["id"]]["probability"], abs=1e-5)
        assert alone["votes"][0]["principle"] == together[each["id"]]["votes"][0]["principle"]


def test_labels_say_which_answer_was_cut_off(engine: Engine) -> None:
    """Of two turned pairs one label turns the answers, and what is said of them."""
    made = [*pairs(), {**pairs()[0], "id": "turned", "responses": pairs()[0]["responses"][::-1]}]
    first, second = labels(
        engine, [{**made[0], "cut": ["trimmed", ""]}, {**made[1], "cut": ["", "trimmed"]}]
    ).values()
    assert sorted(first["cut"]) == sorted(second["cut"]) == ["", "trimmed"]
    for found in (first, second):
        cut_off = found["chosen" if found["cut"][0] else "rejected"][-1]["content"]
        assert cut_off == made[0]["responses"][0]
    assert "cut" not in labels(engine, pairs())["pair-0"]  # nobody said


def test_pairs_with_a_problem_get_no_label(engine: Engine) -> None:
    assert labels(engine, pairs(problem="identical")) == {}


def test_worked_examples_favour_neither_letter() -> None:
    messages = prompts.worked_examples(LAW.examples.comparison, LAW.comparison, "principle-first")
    verdicts = [each["content"] for each in messages if each["role"] == "assistant"]
    assert [text.removeprefix(prompts.VERDICT)[0] for text in verdicts] == ["A", "B", "A", "B"]
    for example, asked, verdict in zip(LAW.examples.comparison, messages[::2], verdicts, strict=True):
        letter = verdict.removeprefix(prompts.VERDICT)[0]
        assert f"({letter}) {example.better}" in asked["content"]


def test_pairs_are_two_samples_with_a_stable_split(engine: Engine) -> None:
    from solon.config import Comparison as Settings

    asked: list[Any] = [
        {
            "id": f"{n}",
            "prompt": [user(f"Say {n}.")],
            "set": "red-team",
            "kind": "",
            "split": "train",
            "source": "",
        }
        for n in range(60)
    ]
    compared = METHODS["multiple-choice"]
    short = Material({}, 0, Settings(max_tokens=4))
    made = {each["id"]: each for each in make_pairs(engine, asked, compared, short, 0.5)}
    assert all(each["responses"][0] != each["responses"][1] for each in made.values() if not each["problem"])
    held_out = sum(each["split"] == "held-out" for each in made.values())
    assert 18 <= held_out <= 42
    unvaried = Material({}, 0, Settings(max_tokens=4, temperature=0))
    greedy = list(make_pairs(engine, asked[:2], compared, unvaried, 0))
    assert {each["problem"] for each in greedy} <= {"identical", "empty"}
    assert all(each["split"] == split_of(each["prompt"]) for each in greedy)  # what is kept from everything


def test_the_letters_prior_is_that_of_plain_forward_passes(engine: Engine, tiny_model: Path) -> None:
    model, tokenizer = load_model(str(tiny_model)), load_tokenizer(str(tiny_model))
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB"]
    shots = prompts.worked_examples(LAW.examples.comparison, LAW.comparison, "principle-last")
    found = letter_priors(engine, LAW.comparison[:2] * 2, shots, "principle-last")
    assert set(found) == {principle.name for principle in LAW.comparison[:2]}
    for principle in LAW.comparison[:2]:
        of_a = []
        for text in ("N/A", "[MASK]", "-"):
            asked = prompts.question(
                [user(text)], principle.instruction, text, text, "principle-last", reason=False
            )
            prompt = tokenizer.apply_chat_template(
                [*shots, asked], add_generation_prompt=True, tokenize=False
            )
            tokens = tokenizer.encode(prompt + prompts.VERDICT, add_special_tokens=False)
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0, -1, letters].double()
            of_a.append(logits.softmax(-1)[0].item())
        mean = sum(of_a) / 3
        assert found[principle.name] == pytest.approx(math.log(mean / (1 - mean)), abs=1e-4)


def test_the_prior_is_taken_off_each_orders_log_odds(engine: Engine) -> None:
    plain, corrected = (labels(engine, pairs(3), principles=2, prior_correction=on) for on in (False, True))
    shots = prompts.worked_examples(LAW.examples.comparison, LAW.comparison, "principle-first")
    priors = letter_priors(engine, LAW.comparison, shots, "principle-first")
    for name, record in plain.items():
        flipped = corrected[name]["chosen"] != record["chosen"]
        for vote, less in zip(record["votes"], corrected[name]["votes"], strict=True):
            orders = [1 - each for each in reversed(less["orders"])] if flipped else less["orders"]
            gaps = [
                log_odds(one) - log_odds(other) for one, other in zip(vote["orders"], orders, strict=True)
            ]
            assert gaps == pytest.approx([priors[vote["principle"]], -priors[vote["principle"]]], abs=1e-4)


def test_with_the_prior_off_one_letter_wins_no_longer(engine: Engine) -> None:
    """The tiny model names one letter whatever it stands for; its prior is all there is to it."""
    of = pairs(8)
    plain, corrected = (
        labels(engine, of, both_orders=False, prior_correction=on).values() for on in (False, True)
    )
    lean = [abs(log_odds(record["probability"])) for record in plain]
    assert sum(abs(log_odds(record["probability"])) for record in corrected) < sum(lean)


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
