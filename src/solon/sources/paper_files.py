"""Reads the five prompt files that the paper's authors published, each as a part of a constitution.

Two of them hold principles and three hold worked examples, so a whole constitution is a few of them merged.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from solon.constitution import ComparisonExample, Constitution, CritiqueExample, ReasoningExample
from solon.errors import SolonError
from solon.misfits import misfits
from solon.sources.tables import SHORTER, text_of, without_repeats

# A turn begins the text or follows a blank line, so a line such as "A: yes" inside an answer stays in it.
TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|CritiqueRequest|Critique|RevisionRequest|Revision):")
SPEAKER = re.compile(r"(?:\A\s*|\n\n)([HA]):")
ROLES = {"Human": "user", "Assistant": "assistant", "H": "user", "A": "assistant"}
CRITIQUE_EXAMPLE = re.compile(r"(Human Assistant )+CritiqueRequest Critique RevisionRequest Revision")
CRITIQUE_REQUEST = re.compile(r"\s*CritiqueRequest:(.*?)(?:\n\s*Critique:)?\s*", re.DOTALL)
REVISION_REQUEST = re.compile(r"\s*RevisionRequest:(.*?)(?:\n\s*Revision:)?\s*", re.DOTALL)
OPTIONS = re.compile(r"\s*Options:\s*$")
# "{}" stands where the paper puts a comparison principle, drawn anew each time. Each part ends where what
# follows it is first found: in a long text that does not fit, trying every other place would take for ever.
REASONING = re.compile(
    r"\s*Human: Consider the following conversation[^\n]*:\n"
    r"(?>(?P<dialogue>.*?)\n\s*\{\}\s*\(A\) \[\[\[)"
    r"(?>(?P<a>.*?)\]\]\]\s*\(B\) \[\[\[)"
    r"(?>(?P<b>.*?)\]\]\]\s*Assistant: Let's think step by step:)"
    r"(?>(?P<reasoning>.*?)\n\s*Human:\s*So the answer is: )\((?P<answer>[AB])\)\s*",
    re.DOTALL,
)


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Requests(Shape):
    prompt: list[str] = Field(min_length=1)
    edit_request: str


class Ranked(Shape):
    prompt: str
    corrects: list[str] = Field(min_length=1)
    incorrects: list[str] = Field(min_length=1)


class Reasoned(Shape):
    prompt: str


def read(path: Path, name: str | None = None) -> Constitution:
    """The principles or examples of one of the paper's files, as a constitution called ``name``.

    Without a name it takes the file's. Raises SolonError naming file and field for what does not fit.
    """
    text = text_of(path)
    try:
        data = json.loads(text, object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        where = f"{path} line {error.lineno} column {error.colno}"
        raise SolonError(f"{where}: not valid JSON: {error.msg}; mend it there") from None
    except (ValueError, RecursionError):
        raise SolonError(f"{path}: it is nested too deep, or a number is too long; {SHORTER}") from None
    except SolonError as error:
        raise SolonError(f"{path}: {error}") from None
    try:
        return Constitution.model_validate({"name": name or path.stem, **fields(data)})
    except SolonError as error:
        raise SolonError(f"{path}: {error}") from None
    except ValidationError as error:
        raise SolonError("\n".join(f"{path}: {line}" for line in misfits(error))) from None


def merge(parts: Sequence[Constitution], name: str) -> Constitution:
    """One constitution with all that ``parts`` hold, in their order.

    Raises SolonError where two of them have a principle of the same name, or the same example.
    """
    if not parts:
        raise SolonError(f"there is nothing to merge into '{name}'; give at least one constitution")
    owners: dict[tuple[str, str], str] = {}
    for part in parts:
        held = contents(part)
        for key, label in held.items():
            if key in owners:
                both = f"'{owners[key]}' and '{part.name}' both have the {label}"
                raise SolonError(f"{both}; rename or remove one of the two, then merge")
        owners |= dict.fromkeys(held, part.name)
    whole: dict[str, Any] = {"name": name, "examples": {}}
    whole["description"] = " ".join(part.description for part in parts if part.description)
    for kind in ("critique", "comparison"):
        whole[kind] = [principle for part in parts for principle in getattr(part, kind)]
    for kind in ("critique", "comparison", "reasoning"):
        whole["examples"][kind] = [example for part in parts for example in getattr(part.examples, kind)]
    try:
        return Constitution.model_validate(whole)
    except ValidationError as error:
        raise SolonError("\n".join(misfits(error))) from None


def contents(part: Constitution) -> dict[tuple[str, str], str]:
    """What ``part`` holds, each with a label: principles known by their names, examples by all their text."""
    critique = {("critique", p.name): f"critique principle '{p.name}'" for p in part.critique}
    comparison = {("comparison", p.name): f"comparison principle '{p.name}'" for p in part.comparison}
    worked = part.examples
    examples: list[CritiqueExample | ComparisonExample | ReasoningExample]
    examples = [*worked.critique, *worked.comparison, *worked.reasoning]
    asked = {
        ("example", e.model_dump_json()): f"example that asks {e.dialogue[-1]['content']!r:.60}"
        for e in examples
    }
    return critique | comparison | asked


def fields(data: Any) -> dict[str, Any]:
    """What a file holds, as fields of a constitution; which of the five it is shows in its shape."""
    if isinstance(data, dict) and data:
        return {"critique": list(critique_principles(fit(dict[str, Requests], data)))}
    if not isinstance(data, list) or not data:
        known = "CritiqueRevisionInstructions, CritiqueRevisionFewShotPrompts, RLMadisonInstructions, "
        known += "RLMadisonFewShotPrompts and RLMadisonPrecogFewShotPrompts"
        raise SolonError(f"the file has none of the paper's shapes; give a file such as {known}")
    if isinstance(data[0], str):
        texts = fit(list[str], data)
        if any(TURN.search(text) for text in texts):
            return {"examples": {"critique": [critique_example(i, text) for i, text in enumerate(texts)]}}
        principles = [
            {"name": f"comparison{i}", "instruction": OPTIONS.sub("", text)} for i, text in enumerate(texts)
        ]
        return {"comparison": principles}
    if isinstance(data[0], dict) and data[0].keys() & {"corrects", "incorrects"}:
        pairs = fit(list[Ranked], data)
        return {"examples": {"comparison": [e for i, pair in enumerate(pairs) for e in ranked(i, pair)]}}
    return {
        "examples": {"reasoning": [reasoned(i, e.prompt) for i, e in enumerate(fit(list[Reasoned], data))]}
    }


def critique_principles(entries: dict[str, Requests]) -> Iterator[dict[str, str]]:
    """One principle for each wording of the critique request (the published file has one each)."""
    for name, entry in entries.items():
        revision = match(REVISION_REQUEST, entry.edit_request, f"{name}.edit_request", "'RevisionRequest:'")
        for i, prompt in enumerate(entry.prompt):
            critique = match(CRITIQUE_REQUEST, prompt, f"{name}.prompt[{i}]", "'CritiqueRequest:'")
            yield {
                "name": name if i == 0 else f"{name}-{i + 1}",
                "critique_request": critique[1],
                "revision_request": revision[1],
            }


def critique_example(index: int, text: str) -> dict[str, Any]:
    field = f"[{index}]"
    turns = split(TURN, text, field)
    if turns[-1] == ("Human", ""):  # where the next example would begin
        turns.pop()
    order = " ".join(who for who, _ in turns)
    if not CRITIQUE_EXAMPLE.fullmatch(order):
        expected = "Human and Assistant by turns, then CritiqueRequest, Critique, RevisionRequest, Revision"
        raise SolonError(f"{field} has the turns {order}; expected {expected}")
    answer, critique_request, critique, revision_request, revision = (said for _, said in turns[-5:])
    return {
        "dialogue": messages(turns[:-5]),
        "answer": answer,
        "critique_request": critique_request,
        "critique": critique,
        "revision_request": revision_request,
        "revision": revision,
    }


def ranked(index: int, entry: Ranked) -> Iterator[dict[str, Any]]:
    """Every correct answer beside every incorrect one (the published file has one of each)."""
    turns = split(TURN, entry.prompt, f"[{index}].prompt")
    if turns[-1] == ("Assistant", ""):  # where the answers begin
        turns.pop()
    if any(label not in ROLES for label, _ in turns):
        raise SolonError(f"[{index}].prompt has a turn that is neither Human: nor Assistant:; remove it")
    for better in entry.corrects:
        for worse in entry.incorrects:
            yield {"dialogue": messages(turns), "better": better, "worse": worse}


def reasoned(index: int, text: str) -> dict[str, Any]:
    field = f"[{index}].prompt"
    frame = "a conversation, {}, (A) [[[...]]], (B) [[[...]]], the reasoning and the answer"
    matched = match(REASONING, text, field, frame)
    return {
        "dialogue": messages(split(SPEAKER, matched["dialogue"], field)),
        "option_a": matched["a"],
        "option_b": matched["b"],
        "reasoning": matched["reasoning"],
        "answer": matched["answer"],
    }


def split(label: re.Pattern[str], text: str, field: str) -> list[tuple[str, str]]:
    """The turns of a dialogue written out as text: who speaks, and what is said."""
    before, *rest = label.split(text)
    if before.strip() or not rest:
        raise SolonError(f"{field} does not begin with a labelled turn such as Human:; label it")
    return [(who, said.strip()) for who, said in zip(rest[::2], rest[1::2], strict=True)]


def messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": ROLES[who], "content": said} for who, said in turns]


def match(pattern: re.Pattern[str], text: str, field: str, expected: str) -> re.Match[str]:
    matched = pattern.fullmatch(text)
    if not matched:
        raise SolonError(f"{field} does not fit; expected {expected}, found {text.strip()!r:.60}")
    return matched


def fit(shape: Any, data: Any) -> Any:
    """``data`` checked against a shape; every field must be known, so that nothing is dropped unseen."""
    return TypeAdapter(shape).validate_python(data)
