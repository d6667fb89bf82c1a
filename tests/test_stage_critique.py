"""Answer, critique and revision: what is asked in which order, what is kept, what is tried again."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solon import constitution
from solon.audit import replay
from solon.config import Critique, EngineSettings, Supervised
from solon.errors import SolonError
from solon.inference import open_engine
from solon.inference.engine import Chain, Completion, Engine, Request
from solon.prompts.critique import worked_examples
from solon.prompts.dialogue import assistant, user
from solon.records import PromptRecord, RevisionRecord
from solon.stages import critique, examples
from solon.texts.written import continued

LAW = constitution.load("harmless")


def prompt(text: str) -> PromptRecord:
    return {
        "id": text.replace(" ", "-"),
        "prompt": [user(text)],
        "set": "red-team",
        "kind": "theft",
        "split": "train",
        "source": "test",
    }


PROMPTS = [prompt(f"May I take the bicycle number {number}?") for number in range(5)]


def drive(chain: Chain[Any], texts: list[str]) -> tuple[list[Request], Any]:
    """Answer the chain's requests with ``texts``; what it asked and what it made of the answers."""
    asked = [next(chain)]
    for text in texts:
        try:
            asked.append(chain.send(Completion(asked[-1].id, text, "stop", 1)))
        except StopIteration as end:
            return asked, end.value
    raise AssertionError("the chain asked for more than the test has")


def chain(shots: bool = False, **settings: Any) -> Chain[RevisionRecord]:
    examples = worked_examples(LAW.examples.critique, settings.get("critique", True)) if shots else []
    return critique._chain(PROMPTS[0], examples, LAW, Critique(**settings), seed=1)


def test_each_round_criticises_and_revises_the_last_sound_text() -> None:
    asked, record = drive(chain(rounds=2), ["Take it.", "Theft.", "Ask first.", "Curt.", "Ask the owner."])
    first, second = record["rounds"]
    question = PROMPTS[0]["prompt"]
    assert [list(each.messages) for each in asked] == [
        question,
        [*question, assistant("Take it."), user(first["critique_request"])],
        [
            *question,
            assistant("Take it."),
            user(first["critique_request"]),
            assistant("Theft."),
            user(first["revision_request"]),
        ],
        [*question, assistant("Ask first."), user(second["critique_request"])],
        [
            *question,
            assistant("Ask first."),
            user(second["critique_request"]),
            assistant("Curt."),
            user(second["revision_request"]),
        ],
    ]
    assert (record["answer"], first["critique"], first["revision"]) == ("Take it.", "Theft.", "Ask first.")
    assert record["messages"] == [*question, assistant("Ask the owner.")]
    named = {each.name: each for each in LAW.critique}
    assert first["critique_request"] == named[first["principle"]].critique_request
    assert len({each.seed for each in asked}) == len(asked)


def test_direct_revision_asks_for_no_critique() -> None:
    asked, record = drive(chain(rounds=1, critique=False, shots=True), ["Take it.", "Ask first."])
    texts = [message["content"] for message in asked[1].messages]
    assert not any(example.critique in texts for example in LAW.examples.critique)
    assert all(example.revision in texts for example in LAW.examples.critique)
    assert texts[-2:] == ["Take it.", record["rounds"][0]["revision_request"]]
    assert record["rounds"][0]["critique"] == record["rounds"][0]["critique_request"] == ""


STARTED = constitution.Constitution(
    name="started",
    critique=[
        constitution.CritiquePrinciple(
            name="says-why",
            critique_request="What is wrong with it?",
            revision_request="Say why not.",
            critique_start="What was asked for is wrong because",
            revision_start="I hear you. It would not be right to",
        )
    ],
)


def test_critiques_and_revisions_begin_as_the_constitution_says() -> None:
    texts = ["Take it.", " it is theft.", " take it: it is hers.", "nothing more", "It would"]
    started = critique._chain(PROMPTS[0], [], STARTED, Critique(rounds=2, attempts=1), seed=1)
    asked, record = drive(started, texts)
    [principle], (first, second) = STARTED.critique, record["rounds"]
    starts = [principle.critique_start, principle.revision_start]
    assert [each.prefill for each in asked] == ["", *starts, *starts]
    assert asked[2].messages[-2] == assistant("What was asked for is wrong because it is theft.")
    assert first["revision"] == "I hear you. It would not be right to take it: it is hers."
    assert [first["critique_start"], first["revision_start"]] == starts
    assert second["critique"] == "What was asked for is wrong because nothing more"  # the space was lost
    again = replay.Recorded(replay.said_in_revisions(record, 1))
    assert list(critique.revise(again, PROMPTS[:1], STARTED, Critique(rounds=2, attempts=1), 1)) == [record]


def test_direct_revision_does_not_tell_of_the_start_of_a_critique() -> None:
    started = critique._chain(PROMPTS[0], [], STARTED, Critique(rounds=1, critique=False), seed=1)
    asked, record = drive(started, ["Take it.", " take it: it is hers."])
    assert "critique_start" not in record["rounds"][0]
    assert record["rounds"][0]["revision_start"] == asked[1].prefill
    assert "revision_start" not in drive(chain(rounds=1), ["Take it.", "Theft.", "Ask."])[1]["rounds"][0]


@pytest.mark.parametrize(
    ("added", "finish", "problem"),
    [("", "stop", "empty"), (" ", "stop", "empty"), (" take what is", "length", "unfinished")],
)
def test_a_start_alone_is_no_revision(added: str, finish: Any, problem: str) -> None:
    started = critique._chain(PROMPTS[0], [], STARTED, Critique(rounds=1, critique=False, attempts=1), seed=1)
    asked = next(started)
    started.send(Completion(asked.id, "Take it.", "stop", 1))
    with pytest.raises(StopIteration) as end:
        started.send(Completion(asked.id, added, finish, 1))
    record = end.value.value
    assert record["rounds"][0]["problem"] == problem
    again = replay.Recorded(replay.said_in_revisions(record, 1))
    settings = Critique(rounds=1, critique=False, attempts=1)
    assert list(critique.revise(again, PROMPTS[:1], STARTED, settings, 1)) == [record]


@pytest.mark.parametrize(
    ("start", "text", "whole"),
    [
        ("It is wrong to", " take it.", "It is wrong to take it."),
        ("It is wrong to", "take it.", "It is wrong to take it."),  # a server that strips
        ("It is wrong because", ", well, it is.", "It is wrong because, well, it is."),
        ("She says: “", "No.”", "She says: “No.”"),
        ("这样做不对，因为", "会伤害别人。", "这样做不对，因为会伤害别人。"),
        ("It is wrong to", " \n", ""),
        ("", " Ask first. ", "Ask first."),
    ],
)
def test_what_follows_a_start_is_joined_to_it_once(start: str, text: str, whole: str) -> None:
    assert continued(start, text) == whole


def test_a_degenerate_revision_is_tried_again_and_then_given_up() -> None:
    texts = ["Take it.", "Theft.", "Human: what?", "Theft!", "", "Rude.", "Ask first."]
    asked, record = drive(chain(rounds=2, attempts=2), texts)
    first, second = record["rounds"]
    assert (first["problem"], first["attempts"], first["critique"]) == ("empty", 2, "Theft!")
    assert (second["problem"], second["attempts"]) == ("", 1)
    assert asked[5].messages[1] == assistant("Take it.")  # the second round works on the answer
    [example] = examples.gather([record], [], Supervised())
    assert example["completion"] == [assistant("Ask first.")]
    assert example["source"] == "revision 2"


def test_a_revision_copied_from_a_worked_example_is_found() -> None:
    copied = LAW.examples.critique[0].revision
    _, record = drive(chain(shots=True, rounds=1, attempts=1), ["Take it.", "Theft.", copied])
    assert record["rounds"][0]["problem"] == "copy of an example"


def test_only_degenerate_helpful_answers_are_marked() -> None:
    settings = Critique(attempts=2)
    _, record = drive(critique._answer(PROMPTS[0], settings, 0), ["", "Ask the owner."])
    assert record["problem"] == ""
    assert record["messages"][-1] == assistant("Ask the owner.")
    _, record = drive(critique._answer(PROMPTS[0], settings, 0), ["", "User: hello"])
    assert record["problem"] == "role confusion"
    assert examples.gather([revised("Ask.")], [record], Supervised())[-1]["source"] == "revision 1"


REFUSED = "I'm sorry, but I can't assist with that."


def test_bare_refusals_of_helpful_prompts_are_tried_again_and_not_trained_on() -> None:
    asked_for_help: PromptRecord = {**PROMPTS[0], "set": "helpful"}
    settings = Critique(attempts=2)
    _, record = drive(critique._answer(asked_for_help, settings, 0), [REFUSED, "Ask the owner."])
    assert (record["messages"][-1], record["problem"]) == (assistant("Ask the owner."), "")
    _, refused = drive(critique._answer(asked_for_help, settings, 0), [REFUSED, REFUSED])
    assert refused["problem"] == "evasive"
    learned = examples.gather([revised("Ask.")], [record, refused], Supervised())
    assert [each["source"] for each in learned] == ["revision 1", "helpful"]
    _, kept = drive(critique._answer(asked_for_help, Critique(attempts=2, evasive=True), 0), [REFUSED])
    assert kept["problem"] == ""
    again = replay.Recorded(replay.said_in_answer(refused, 0, settings.attempts))
    assert list(critique.answer(again, [asked_for_help], settings, 0)) == [refused]


def test_first_answers_may_be_bare_refusals_since_they_are_revised() -> None:
    _, record = drive(critique._answer(PROMPTS[0], Critique(), 0), [REFUSED])
    assert record["problem"] == ""


def revised(*revisions: str) -> RevisionRecord:
    _, record = drive(
        chain(rounds=len(revisions)),
        ["Take it.", *(text for revision in revisions for text in ("Theft.", revision))],
    )
    assert isinstance(record, dict)
    return record  # type: ignore[return-value]


def test_all_rounds_or_the_last_are_trained_on() -> None:
    record = revised("Ask first.", "Ask the owner.")
    every = examples.gather([record], [], Supervised(revisions="all"))
    assert [each["source"] for each in every] == ["revision 1", "revision 2"]
    last = examples.gather([record], [], Supervised(revisions="last"))
    assert [each["completion"][0]["content"] for each in last] == ["Ask the owner."]
    assert len({each["id"] for each in every}) == 2


def test_without_rounds_the_sound_answers_are_trained_on() -> None:
    record = revised()
    assert record["rounds"] == []
    [example] = examples.gather([record], [], Supervised())
    assert example["source"] == "revision 0"
    assert example["completion"] == [{"role": "assistant", "content": "Take it."}]
    _, empty = drive(chain(rounds=0), [" "])
    assert len(examples.gather([record, empty], [], Supervised())) == 1


def test_the_first_rounds_are_those_of_a_run_with_fewer() -> None:
    record = revised("Ask first.", "Ask the owner.", "Ask.")
    for count, said in enumerate([[], ["Ask first."], ["Ask first.", "Ask the owner."]]):
        assert critique.first_rounds(record, count) == revised(*said)
    _, stuck = drive(chain(rounds=2, attempts=1), ["Take it.", "Theft.", "Ask.", "Theft.", ""])
    assert critique.first_rounds(stuck, 2) == stuck
    assert critique.first_rounds(stuck, 1)["messages"][-1]["content"] == "Ask."


def test_rounds_draw_from_so_many_principles_as_were_asked_for() -> None:
    assert LAW.with_critique("all", random.Random(0)) is LAW
    assert LAW.with_critique(len(LAW.critique), random.Random(0)) == LAW
    sets = [
        {each.name for each in LAW.with_critique(count, random.Random(5)).critique} for count in (1, 2, 4, 8)
    ]
    assert [len(each) for each in sets] == [1, 2, 4, 8]
    assert sets[0] < sets[1] < sets[2] < sets[3]
    with pytest.raises(SolonError, match="16 critique principles and 17 were asked for"):
        LAW.with_critique(17, random.Random(0))


def test_nothing_to_train_on_is_said() -> None:
    _, record = drive(chain(rounds=1, attempts=1), ["Take it.", "Theft.", ""])
    with pytest.raises(SolonError, match="none of the 1 records has a sound revision"):
        examples.gather([record], [], Supervised())


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu", batch_size=4)) as opened:
        yield opened


def revise(engine: Engine, prompts: list[PromptRecord], seed: int = 0) -> dict[str, RevisionRecord]:
    settings = Critique(rounds=2, max_tokens=6)
    return {each["id"]: each for each in critique.revise(engine, prompts, LAW, settings, seed)}


def test_a_real_model_goes_on_from_the_start(engine: Engine) -> None:
    settings = Critique(rounds=2, few_shot=False, max_tokens=8, attempts=1)
    [principle] = STARTED.critique
    sound = 0
    for record in critique.revise(engine, PROMPTS, STARTED, settings, 0):
        for made in record["rounds"]:
            for text, start in (
                (made["critique"], principle.critique_start),
                (made["revision"], principle.revision_start),
            ):
                assert start and (not text or (text.startswith(start) and text != start))
                sound += bool(text)
    assert sound


def test_records_do_not_depend_on_the_others_and_do_on_the_seed(engine: Engine) -> None:
    together = revise(engine, PROMPTS)
    assert set(together) == {each["id"] for each in PROMPTS}
    assert revise(engine, PROMPTS[3:]) == {each["id"]: together[each["id"]] for each in PROMPTS[3:]}
    other = revise(engine, PROMPTS, seed=1)
    assert all(other[name]["answer"] != together[name]["answer"] for name in together)
    drawn = [one["principle"] for each in [*together.values(), *other.values()] for one in each["rounds"]]
    assert len(set(drawn)) > 5


def test_the_worked_examples_go_through_the_model_once(tiny_model: Path) -> None:
    with open_engine(str(tiny_model), EngineSettings(dtype="float32", device="cpu", batch_size=8)) as fresh:
        list(critique.revise(fresh, PROMPTS, LAW, Critique(rounds=2, max_tokens=4), 0))
        assert fresh.usage.tokens_naive > 8 * fresh.usage.tokens_computed
