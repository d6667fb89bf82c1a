"""Where a turn of the assistant ends: what the chat template writes there, whatever the tokenizer calls it.

A base model's tokenizer may have the ChatML format and "<|endoftext|>" as its end of text: a model that was
trained on "<|im_end|>" then never came to an end.
"""

from typing import Any, NamedTuple

from solon.prompts.dialogue import assistant, special_tokens, user

SAID, NEXT = "Gladly.", "Thanks."


class TurnEnd(NamedTuple):
    tokens: list[str]  # special tokens that a template writes first after the assistant's message
    strings: list[str]  # what it writes there before the next turn where that is plain text
    written: bool  # whether the message that ends a dialogue has one of them after it


def turn_end(tokenizer: Any) -> TurnEnd:
    """What the chat template has after a message of the assistant, at the end and amid a dialogue."""
    asked = [user("Tea?"), assistant(SAID)]
    last = _after(tokenizer, asked)
    amid = _after(tokenizer, [*asked, user(NEXT)]).partition(NEXT)[0]
    special = special_tokens(tokenizer)
    ends = [_first_of(text, special) for text in (last, amid)]
    tokens = list(dict.fromkeys(token for token in ends if token))
    plain = amid.rstrip() if not ends[1] and any(letter.isalpha() for letter in amid) else ""
    return TurnEnd(tokens, [plain] if plain else [], bool(ends[0]))


def settle(tokenizer: Any) -> None:
    """Make the template's end of turn the tokenizer's end of text; have that written where there is none.

    So trainings teach it, samples end at it, and checkpoints say so. Where the template writes the end of
    text elsewhere too, it is left as it is: ``turn_end`` is looked at beside it.
    """
    if not isinstance(tokenizer.chat_template, str):
        return
    end = turn_end(tokenizer)
    if not end.written:
        tokenizer.chat_template += (
            "{% if not add_generation_prompt and messages and messages[-1]['role'] == 'assistant' %}"
            "{{ eos_token }}{% endif %}"
        )
    elif tokenizer.eos_token not in end.tokens:
        before, former = _whole(tokenizer), tokenizer.eos_token
        tokenizer.eos_token = end.tokens[0]
        if _whole(tokenizer) != before:
            tokenizer.eos_token = former


def _whole(tokenizer: Any) -> str:
    dialogue = [user("Tea?"), assistant(SAID), user(NEXT)]
    text: str = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, tokenize=False)
    return text


def _after(tokenizer: Any, dialogue: list[Any]) -> str:
    text: str = tokenizer.apply_chat_template(dialogue, tokenize=False)
    return text.rpartition(SAID)[2] if SAID in text else ""


def _first_of(text: str, tokens: set[str]) -> str:
    """The token that the text begins with after white space; "" where it begins with none."""
    begun = text.lstrip()
    return max((token for token in tokens if begun.startswith(token)), key=len, default="")
