"""Thoughts of models that think before they answer: how they are marked and parted from answers.

A thought is no part of an answer. What is revised, compared, judged, rewarded and trained on is the answer.
"""

import re
from typing import Any, NamedTuple


class Format(NamedTuple):
    """How a kind of model marks its thoughts."""

    open: str
    close: str  # the answer follows
    before_close: str = ""  # ends a thought that ``close`` does not end by itself


CHANNELS = Format("<|channel|>", "<|channel|>final<|message|>", "<|end|><|start|>assistant")  # gpt-oss
FORMATS = (
    CHANNELS,
    Format("<|open|>think<|sep|>", "<|open|>response<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    Format("<|channel>thought", "<channel|>"),  # Gemma 4
    Format("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    Format("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Format("<|begin_of_thought|>", "<|end_of_thought|>"),
    Format("◁think▷", "◁/think▷"),  # Kimi
    Format("[THINK]", "[/THINK]"),  # Mistral
)
# These may mean something else where the model's template or tokens do not have them.
WORDS = (
    Format("[unused16]", "[unused17]"),  # Pangu
    Format("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    Format("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "\n"),  # Apriel
)
# All others are tags: <think> of DeepSeek, Qwen and most, <thinking>, <seed:think>, <reasoning> ...
TAG = r"[\w:.-]*(?:think|thought|reason)[\w:.-]*"
# Some models mark their answer, too.
ANSWER = re.compile(
    r"\s*<(answer|response|output|solution|\|begin_of_solution\|)>(.*?)(?:</\1>|<\|end_of_solution\|>|\Z)\s*",
    re.DOTALL,
)
ANSWER_ENDS = ("[END FINAL RESPONSE]",)
CHANNEL_MARKS = re.compile(
    r"(?:<\|end\|>|<\|start\|>assistant|<\|(?:channel|constrain)\|>[^<]*|<\|message\|>)+"
)
FENCE = "```"  # what is quoted between two of these is text


class Parted(NamedTuple):
    thinking: str  # "" where there is none
    text: str  # the answer; "" where the thought did not end


def tag(name: str) -> Format:
    return Format(f"<{name}>", f"</{name}>")


THINK = tag("think")


def format_of(tokenizer: Any) -> Format | None:
    """Of the model's thoughts, by its chat template, else by its tokens; None where neither tells."""
    template = str(tokenizer.chat_template)
    if tokenizer.chat_template:  # some put their marks together, and have none of them in one piece
        asked = [{"role": "user", "content": "Tea?"}]
        template += tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    tokens = "\n".join(token.content for token in tokenizer.added_tokens_decoder.values())
    for form in (*FORMATS, *WORDS, THINK):  # some templates write one of the marks alone
        if form.open in template or form.close in template:
            return form
    for text in (template, tokens):
        for form in (*FORMATS, *WORDS, THINK, *map(tag, re.findall(f"<({TAG})>", text))):
            if form.open in text and form.close in text:
                return form
    return None


def part(text: str, form: Format | None = None, opened: bool = False, closed: bool = False) -> Parted:
    """What was thought and what was answered in a text that a model wrote.

    ``form`` is None where the model's format is not known: then any will do. Thoughts come first, and end
    with the text where they are not closed. Where the prompt has ``opened`` the thought, or may have, its end
    alone is in the text; where the prompt has ``closed`` it, the text is an answer unless it opens another.
    Later thoughts begin a line. A text without thoughts is returned as it is.
    """
    begun, thoughts = text.lstrip(), []
    tags = map(tag, re.findall(f"^</?({TAG})>", begun, re.MULTILINE))
    for each in (form,) if form else (*FORMATS, *tags):
        if opened or begun.startswith(each.open):
            thought, _, begun = begun.partition(each.close)
            thoughts.append(thought.strip().removeprefix(each.open).removesuffix(each.before_close))
        elif not closed and (end := re.search(rf"^{re.escape(each.close)}", begun, re.MULTILINE)):
            if each.open in begun[: end.start()]:  # then both are a part of what is said
                continue
            thoughts.append(begun[: end.start()])
            begun = begun[end.end() :]
        else:
            continue
        form = each
        break
    if form is None:
        return Parted("", text)

    def later(match: re.Match[str]) -> str:
        if begun[: match.start()].count(FENCE) % 2:
            return match[0]
        thoughts.append(match[1])
        return ""

    block = rf"^[ \t]*{re.escape(form.open)}(.*?)(?:{re.escape(form.close)}\s*|\Z)"
    answer = re.sub(block, later, begun, flags=re.MULTILINE | re.DOTALL)
    if form == CHANNELS:
        thoughts = [CHANNEL_MARKS.sub("\n\n", f"{CHANNELS.open}{thought}") for thought in thoughts]
    for end in (*re.findall(r"^<\|\w+\|>", form.before_close), *ANSWER_ENDS):
        answer = answer.partition(end)[0]
    if not thoughts:
        return Parted("", text)
    if inner := ANSWER.fullmatch(answer):
        answer = inner[2]
    return Parted("\n\n".join(thought for each in thoughts if (thought := each.strip())), answer.lstrip())
