"""System turns and turns in a row, with chat templates that take them and such that do not."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from chat_templates import TEMPLATES
from solon.errors import SolonError
from solon.models import load_tokenizer
from solon.prompts.dialogue import assistant, system_first, user
from solon.prompts.template_turns import TemplateTurns
from solon.records import Message

SHOTS = [user("Salt?"), assistant("Here.")]
SYSTEM: Message = {"role": "system", "content": "Be short."}
WITHOUT_SYSTEM = {"gemma", "silent"}
ALTERNATING = {"gemma", "gemma3", "cohere", "mistral"}
USABLE = sorted(TEMPLATES.keys() - {"one turn"})


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_model))


def put(
    tokenizer: PreTrainedTokenizerBase, manner: str, messages: Sequence[Message], system: str = ""
) -> str:
    tokenizer.chat_template = TEMPLATES[manner]
    text: str = tokenizer.apply_chat_template(
        TemplateTurns(tokenizer)(messages, system), add_generation_prompt=True, tokenize=False
    )
    return text


@pytest.mark.parametrize("manner", USABLE)
def test_all_that_is_said_is_written_in_order(tokenizer: PreTrainedTokenizerBase, manner: str) -> None:
    text = put(tokenizer, manner, [*SHOTS, SYSTEM, user("Tea?")], "Be kind.")
    said = ["Be kind.\n\nBe short.", "Salt?", "Here.", "Tea?"]
    if manner == "mistral":  # the system's last, before what the user says last
        said = [*said[1:3], said[0], said[3]]
    places = [text.index(each) for each in said]
    assert places == sorted(places)
    assert ("<system>Be kind." in text) == (manner in {"chatml", "cohere", "qwen3.5"})
    assert ("<user>Be kind.\n\nBe short.\n\nSalt?" in text) == (manner in {"gemma", "gemma3", "silent"})


@pytest.mark.parametrize("manner", USABLE)
def test_turns_in_a_row_are_joined_where_they_must_alternate(
    tokenizer: PreTrainedTokenizerBase, manner: str
) -> None:
    turns = [user("Tea?"), user("Or milk?"), assistant("Tea."), assistant("Here."), user("Thanks.")]
    tokenizer.chat_template = TEMPLATES[manner]
    taken = TemplateTurns(tokenizer)(turns)
    if manner in ALTERNATING:
        assert taken == [user("Tea?\n\nOr milk?"), assistant("Tea.\n\nHere."), user("Thanks.")]
    else:
        assert taken == turns


@pytest.mark.parametrize("manner", USABLE)
def test_a_prompt_is_put_alike_with_its_answer(tokenizer: PreTrainedTokenizerBase, manner: str) -> None:
    tokenizer.chat_template = TEMPLATES[manner]
    turns = TemplateTurns(tokenizer)
    asked = [*SHOTS, user("Tea?")]
    for system in ("", "Be kind."):
        assert turns([*asked, assistant("Yes.")], system) == [*turns(asked, system), assistant("Yes.")]


def test_a_dialogue_that_needs_nothing_stays_as_it_is(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = TEMPLATES["chatml"]
    for dialogue in ([user("Tea?")], [SYSTEM, *SHOTS, user("Tea?")], [assistant("Hello."), user("Tea?")]):
        assert TemplateTurns(tokenizer)(dialogue) == dialogue


@pytest.mark.parametrize(
    ("manner", "turns", "why"),
    [
        ("gemma", [assistant("Hello."), user("Tea?")], "must alternate"),
        ("one turn", [*SHOTS, user("Tea?")], "leaves out what is said in turn 1"),
    ],
)
def test_turns_that_no_way_can_put_are_told(
    tokenizer: PreTrainedTokenizerBase, manner: str, turns: list[Message], why: str
) -> None:
    tokenizer.chat_template = TEMPLATES[manner]
    with pytest.raises(SolonError, match=rf"does not take a dialogue of the turns .*{why}"):
        TemplateTurns(tokenizer)(turns)


def test_system_turns_are_one_and_the_first() -> None:
    other: Message = {"role": "system", "content": "Be kind."}
    assert system_first([*SHOTS, SYSTEM, user("Tea?"), SYSTEM], "Be kind.") == [
        {"role": "system", "content": "Be kind.\n\nBe short."},
        *SHOTS,
        user("Tea?"),
    ]
    assert system_first([other, *SHOTS]) == [other, *SHOTS]
    empty: Message = {"role": "system", "content": ""}  # has templates leave out a text of their own
    assert system_first([*SHOTS, empty]) == [empty, *SHOTS]
