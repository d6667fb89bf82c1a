"""How a dialogue becomes text."""

from collections.abc import Sequence

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


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def transcript(messages: Sequence[Message]) -> str:
    """The dialogue as plain text to be quoted inside a question about it."""
    speakers = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "\n\n".join(f"{speakers[message['role']]}: {message['content']}" for message in messages)
