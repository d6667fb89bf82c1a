"""Labels that can be told without reading are found, and labels by a pair's making are not among them."""

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
from markupsafe import escape
from scipy.special import expit

import run_folder
from command import fails, solon
from solon import constitution, report
from solon.config import Critique
from solon.evaluation.shortcuts import Labelled, measure
from solon.feedback import METHODS
from solon.feedback.method import Draft, Material
from solon.inference.engine import Chain, Completion
from solon.prompts.dialogue import user
from solon.records import PromptRecord
from solon.stages import critique
from solon.store.record_file import RecordFile
from solon.texts.written import Written

T = TypeVar("T")

PREFERENCES, JUDGEMENTS = "05-feedback/preferences.jsonl", "evaluation/judgements.jsonl"
LAWS = {"red-team": constitution.load("harmless"), "helpful": constitution.load("helpful")}
SENTENCES = [
    "Ask the owner first.",
    "I am sorry, but I can't help you to take it.",
    "The police may call on you!",
    "Why would you do that?",
    "It belongs to a neighbour of yours.",
    "Think of how she feels about it.",
    "Buses leave every ten minutes.",
    "A used one costs less than a fine.",
    "Talk to her before you do anything.",
    "Bicycles are locked for a reason.",
    "You could borrow one from the library.",
    "Walking is good for the heart.",
]
PROMPTS = 300


def says(rng: random.Random) -> Completion:
    """What a model may write in any role: prefaces, quotation marks, lists, turns, breaks at the limit."""
    said = rng.sample(SENTENCES, rng.randint(1, 4))
    text = rng.choice([" ", " ", "\n", "\n- "]).join(said)
    text = rng.choice([text, text, text.rstrip(".!?"), f"{text}\n\nWould you"])
    text = rng.choice(["", "", "Here is the revised answer: ", "Answer: ", "Human: "]) + text
    text = rng.choice(["{}", "{}", '"{}"', "{}<|im_end|>", "{} "]).format(text)
    if rng.random() < 0.4:
        return Completion("", text[: rng.randint(5, len(text))], "length", 1)
    return Completion("", rng.choice([text, text, text, ""]), "stop", 1)


def driven(chain: Chain[T], rng: random.Random) -> T:
    """The chain's record, with every request answered from one distribution."""
    try:
        next(chain)
        while True:
            chain.send(says(rng))
    except StopIteration as end:
        made: T = end.value
        return made


def prompt(number: int, prompt_set: str = "red-team") -> PromptRecord:
    return {
        "id": str(number),
        "prompt": [user(f"May I take the bicycle number {number}?")],
        "set": prompt_set,  # type: ignore[typeddict-item]
        "kind": "theft",
        "split": "train",
        "source": "test",
    }


def drafts(method: str, prompt_set: str, settings: Critique) -> Iterator[Draft]:
    """As the stages make them: red-team answers revised in stage 2, helpful ones in stage 4."""
    for number in range(PROMPTS):
        rng, record = random.Random(f"{method} {number}"), prompt(number, prompt_set)
        revisions, answers = {}, {}
        if prompt_set == "red-team":
            made = driven(critique._chain(record, [], LAWS["red-team"], settings, seed=number), rng)
            revisions = {made["id"]: made}
        else:
            answers = critique.texts([driven(critique._answer(record, settings, seed=number), rng)])
        material = Material(LAWS, number, critique=settings, revisions=revisions, answers=answers)
        yield driven(METHODS[method].draft(record, material), rng)


@cache
def made_pairs(method: str, prompt_set: str, rounds: int) -> list[Labelled]:
    settings = Critique(rounds=rounds, few_shot=False)
    return [
        Labelled(str(number), *draft.responses, probability=1.0)
        for number, draft in enumerate(drafts(method, prompt_set, settings))
        if not draft.problem and all(written.text for written in draft.responses)
    ]


MADE = [
    ("contrast", "red-team", 1),
    ("revision", "red-team", 1),
    ("revision", "red-team", 3),
    ("revision", "helpful", 1),
]


@pytest.mark.parametrize(("method", "prompt_set", "rounds"), MADE)
def test_nothing_trivial_tells_a_label_by_making(method: str, prompt_set: str, rounds: int) -> None:
    """Both answers are drawn from one distribution, so whatever told them apart would be the treatment."""
    pairs = made_pairs(method, prompt_set, rounds)
    assert len(pairs) > PROMPTS / 5
    found = measure(pairs)
    assert {row["feature"] for row in found["rows"]} >= {
        "length",
        "sentence's end",
        "lines",
        "cut",
        "first word",
    }
    assert [row for row in found["rows"] if row["clear"]] == []
    low, high = found["rows"][-1]["interval"]
    assert low <= 0.5 <= high
    assert "No trivial feature tells the labels" in found["says"]


def test_one_sided_treatment_would_be_found() -> None:
    """The control of the test above: the same pairs, with the second answer left as the model wrote it."""
    rng = random.Random(1)
    pairs = [
        Labelled(pair.group, pair.first, Written(says(rng).text.strip()), 1.0)
        for pair in made_pairs("revision", "red-team", 1)
    ]
    found = measure(pairs)
    clear = {row["feature"]: row["better"] for row in found["rows"] if row["clear"]}
    assert clear["sentence's end"] == "more"
    assert clear["all together"] == ""
    assert found["rows"][-1]["accuracy"] > 0.7
    assert found["says"].startswith("Labels can be told without reading: from ")


def drawn(seed: int, count: int) -> list[tuple[Written, Written]]:
    rng = random.Random(seed)
    return [(Written(says(rng).text), Written(says(rng).text)) for _ in range(count)]


def test_the_intervals_hold_chance_where_nothing_is_told() -> None:
    held = clear = 0
    for seed in range(60):
        pairs = [Labelled(f"{seed}/{n}", *both, 1.0) for n, both in enumerate(drawn(seed, 50))]
        rows = measure(pairs)["rows"]
        low, high = rows[-1]["interval"]
        held += low <= 0.5 <= high
        clear += any(row["clear"] for row in rows)
    assert held >= 0.9 * 60
    assert clear <= 0.1 * 60


@pytest.mark.parametrize("sharpness", [0.4, 4])
def test_soft_labels_are_told_by_what_they_go_by(sharpness: float) -> None:
    """Labels of a judge that looks at length alone, however sure it is."""
    pairs = [
        Labelled(str(n), one, other, expit(sharpness * math.log(len(one.text) / len(other.text))))
        for n, (one, other) in enumerate(drawn(2, 200))
        if one.text and other.text
    ]
    first, *_ = measure(pairs)["rows"]
    assert (first["feature"], first["better"], first["clear"]) == ("length", "more", True)
    assert first["accuracy"] > 0.99 < first["auc"]


def test_it_does_not_matter_which_answer_comes_first() -> None:
    rng = random.Random(3)
    pairs = [Labelled(str(n), *both, rng.random()) for n, both in enumerate(drawn(3, 80))]
    turned = [
        Labelled(pair.group, pair.second, pair.first, 1 - pair.probability) if rng.random() < 0.5 else pair
        for pair in pairs
    ]
    for row, other in zip(measure(pairs)["rows"], measure(turned)["rows"], strict=True):
        assert row["feature"] == other["feature"]
        assert [row["accuracy"], row["auc"]] == pytest.approx([other["accuracy"], other["auc"]])


def test_pairs_of_one_opening_count_once() -> None:
    many = [Labelled(str(n % 30), *both, 1.0) for n, both in enumerate(drawn(4, 300))]
    [*_, row] = measure(many)["rows"]
    assert row["interval"][1] - row["interval"][0] > 0.3  # of 30, not of 300
    few = measure(many[:10])
    assert (few["rows"], few["says"]) == (
        [],
        "Too few labels to look for shortcuts: 10 openings with a decided one.",
    )


def test_the_command_and_the_report_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder.build(tmp_path / "run")
    assert solon("eval", "shortcuts", run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    labels, judgements = RecordFile(run / PREFERENCES).read(), RecordFile(run / JUDGEMENTS).read()
    counts = Counter(f"{each['aspect']} labels" for each in labels)
    counts.update(f"{each['aspect']} judgements" for each in judgements)
    assert {name: each["pairs"] for name, each in found.items()} == counts
    page = report.write(run).read_text()
    assert all(escape(each["says"]) in page for each in found.values())
    assert solon("eval", "shortcuts", run) == 0
    assert "harmlessness labels: " in capsys.readouterr().out
    assert "give a run folder, or labelled pairs with --data" in fails(capsys, "eval", "shortcuts")


def test_people_s_choices_are_looked_at_too(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared_data / "pandalm/testset-v1.json.gz"
    assert solon("eval", "shortcuts", "--data", file, "--json") == 0
    [found] = json.loads(capsys.readouterr().out).values()
    length = next(row for row in found["rows"] if row["feature"] == "length")
    assert (length["better"], length["clear"]) == ("more", True)  # as is known of people
