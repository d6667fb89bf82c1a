"""How a dialogue becomes text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solon.prompts.markers import markers
from solon.prompts.thoughts import format_of, part
from solon.records import Message

# The paper's format, for base models whose tokenizer has no chat template of its own. The end-of-text token
# closes each assistant turn, so that a finetuned model learns where to stop.
HUMAN_ASSISTANT_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\n\nHuman: ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '\n\nAssistant: ' + message['content'] + eos_token }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)

# Where a model that writes the dialogue on by itself must be cut.
HUMAN_TURN = "\n\nHuman:"
ASSISTANT_TURN = "\n\nAssistant:"


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def joined(texts: Iterable[str]) -> str:
    """Several texts in the place of one; empty ones are left out."""
    return "\n\n".join(filter(None, texts))


def system_first(messages: Sequence[Message], text: str = "") -> list[Message]:
    """The dialogue with all that its system turns say in one turn before the others, after ``text``.

    So worked examples may stand before a dialogue that has one.
    """
    said = [text] if text else []
    said += [message["content"] for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    return [{"role": "system", "content": joined(dict.fromkeys(said))}, *others] if said else others


def transcript(messages: Sequence[Message]) -> str:
    """The dialogue as plain text to be quoted inside a question about it."""
    speakers = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "\n\n".join(f"{speakers[message['role']]}: {message['content']}" for message in messages)


def special_tokens(tokenizer: Any) -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def reserved(tokenizer: Any) -> dict[str, str]:
    """What the dialogue format alone may write, each with the form it gets where a message has it.

    These are the tokenizer's special tokens, what marks a model's thoughts, and what else its template marks
    turns by (``markers``). A space breaks them: "<|im_end|>" becomes "< |im_end|>", which is ordinary text.
    """
    special, thoughts = special_tokens(tokenizer), format_of(tokenizer)
    forms = {}
    for token in sorted(special | {*(thoughts or ())} - {""}):
        first = len(token) - len(token.lstrip()) + 1
        form = f"{token[:first]} {token[first:]}"
        if token not in form:  # one character cannot be broken, nor can white space
            forms[token] = form
    return forms | markers(tokenizer, special)


def neutral(text: str, forms: Mapping[str, str]) -> str:
    """The text with everything ``reserved`` broken, so that no message can end its turn or begin another."""
    text = f" {text}"  # white space is before every message, the format's own
    for token, form in forms.items():
        while token in text:  # again where they overlap
            text = text.replace(token, form)
    return text[1:]


def turns(messages: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """The dialogue as a key: equal for equal roles and contents."""
    return tuple((message["role"], message["content"]) for message in messages)


def neutral_messages(messages: Sequence[Message], forms: Mapping[str, str]) -> list[Message]:
    """The messages as text; those of the assistant are its answers, without what it thought."""
    return [{"role": message["role"], "content": neutral(said(message), forms)} for message in messages]


def said(message: Message) -> str:
    return part(message["content"]).text if message["role"] == "assistant" else message["content"]
