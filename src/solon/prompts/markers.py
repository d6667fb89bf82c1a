"""The plain text by which a chat template marks whose turn it is, found by writing dialogues with it.

Alpaca's "### Response:", Llama 2's "[INST]", Vicuna's " USER:" and "<|user|>" where that is no special token:
a message that holds one could end its turn, and begin another, as well as with a special token.
"""

import re
from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateError

SYSTEM, ASKED, SAID, NEXT = "Be brief.", "Tea?", "Gladly.", "Thanks."
DIALOGUE = [
    {"role": "user", "content": ASKED},
    {"role": "assistant", "content": SAID},
    {"role": "user", "content": NEXT},
]
TAG = re.compile(r"<+[^<>\n]{1,40}>+|\[+[^\[\]\n]{1,40}\]+")
LINE = re.compile(r"(\s*)(\S[^\n]*(?<=\S))")
WORDS = 3  # at most; more are a sentence that a template says
THOUGHTS = re.compile("think|thought|reason", re.IGNORECASE)  # an answer may have these tags


def markers(tokenizer: Any, special: set[str]) -> dict[str, str]:
    """Each marker with the form that it gets in a message. ``special`` tokens are not among them.

    A word alone ("user" after a special token) and white space are none: they are ordinary text.
    """
    forms: dict[str, str] = {}
    for text in _between(tokenizer):
        for part in re.split(
            "|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)", text
        ):
            forms |= _tags(part)
            forms |= dict(_labels(TAG.sub("", part)))
    return forms


def _between(tokenizer: Any) -> Iterator[str]:
    """What the template writes between messages, and around a system message where it takes one."""
    if not isinstance(tokenizer.chat_template, str) or not tokenizer.chat_template:
        return
    asked, said, rest = tokenizer.apply_chat_template(DIALOGUE, tokenize=False).partition(SAID)
    if said and ASKED in asked and NEXT in rest:
        yield asked.rpartition(ASKED)[2]
        yield rest.partition(NEXT)[0]
    try:
        told = tokenizer.apply_chat_template(
            [{"role": "system", "content": SYSTEM}, *DIALOGUE[:1]], tokenize=False
        )
    except (TemplateError, TypeError, ValueError):
        return
    before, said, after = told.partition(SYSTEM)
    if said and ASKED in after:
        yield before
        yield after.partition(ASKED)[0]


def _tags(part: str) -> dict[str, str]:
    """Wherever they stand: "[ INST]" is none."""
    found = [tag for tag in TAG.findall(part) if re.search(r"\w", tag) and not THOUGHTS.search(tag)]
    return {tag: f"{tag[0]} {tag[1:]}" for tag in found}


def _labels(part: str) -> Iterator[tuple[str, str]]:
    """Lines such as "### Response:" anywhere; "Human:" and "USER:" after the white space that they follow."""
    for space, label in LINE.findall(part):
        if not re.search(r"[^\W_]", label) or label[-1].isalnum() or len(label.split()) > WORDS:
            continue
        if not label[0].isalnum():
            yield label, f"{label[0]} {label[1:]}"
        elif "\n" in space:
            yield f"{space}{label}", f"{space} {label}"
        else:
            yield f" {label}", f" {label[:-1]} {label[-1]}"
            yield f"\n{label}", f"\n{label[:-1]} {label[-1]}"
