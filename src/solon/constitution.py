"""The constitution: the principles that steer critique, revision and comparison.

Two kinds, as in the paper (Appendix C): a critique principle asks the model to find fault with an answer and
then to revise it; a comparison principle asks which of two answers is better. There may also be a scale to
rate one answer by.
"""

import hashlib
import random
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from solon.errors import SolonError
from solon.records import Message
from solon.yaml_file import load_yaml


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


Text = Annotated[str, Field(min_length=1)]  # after its outer white space is cut, so blank text is refused


def ends_with_human(dialogue: list[Message]) -> list[Message]:
    for index, message in enumerate(dialogue):
        if not message["content"]:
            raise fault([index, "content"], "", "is blank; write the turn or remove it")
    if dialogue[-1]["role"] != "user":
        role = dialogue[-1]["role"]
        raise fault([len(dialogue) - 1, "role"], role, f"is {role}: the dialogue must end with a user turn")
    return dialogue


def fault(location: list[int | str], value: Any, message: str) -> ValidationError:
    """An error at a place inside the value being validated, so that its own line can be named."""
    kind = PydanticCustomError("value_error", "{message}", {"message": message})
    detail = InitErrorDetails(type=kind, loc=tuple(location), input=value)
    return ValidationError.from_exception_data("constitution", [detail])


Dialogue = Annotated[list[Message], Field(min_length=1), AfterValidator(ends_with_human)]


class CritiquePrinciple(Part):
    """Steers one round of critique and revision (paper, Appendix C.1)."""

    name: Text
    critique_request: Text
    revision_request: Text
    # How the model's critique and revision begin; it goes on from there. Solon's own.
    critique_start: Text | None = None
    revision_start: Text | None = None


HEAVIEST = 1e6  # of weights, so that their sums are exact enough


class ComparisonPrinciple(Part):
    """Steers one multiple-choice judgement (paper, Appendix C.2)."""

    name: Text
    instruction: Text
    # how much its votes count in a label, beside those of others on the same pair; Solon's own
    weight: float = Field(default=1.0, ge=0, le=HEAVIEST, allow_inf_nan=False, strict=True)


class RatingScale(Part):
    """Steers ratings of one answer by itself, in place of judgements of two (``feedback.method: rating``).

    Solon's own: the paper's people rated harm in this way, on a scale from 0 to 4 (section 4.5).
    """

    question: Text  # of what the assistant said
    # What the numbers mean: 0, the best, is the first. Each is to be one token, hence at most ten.
    scale: Annotated[list[Text], Field(min_length=2, max_length=10)]

    @property
    def principle(self) -> ComparisonPrinciple:
        """What the votes of ratings are said to go by."""
        return ComparisonPrinciple(name="rating", instruction=self.question)


class CritiqueExample(Part):
    """A worked critique and revision, shown to the model before its own (paper, Appendix E)."""

    dialogue: Dialogue  # ends with the human's turn
    answer: Text
    critique_request: Text
    critique: Text
    revision_request: Text
    revision: Text


class ComparisonExample(Part):
    """A worked judgement: the first response is the better one; which letter it gets is drawn when shown."""

    dialogue: Dialogue
    better: Text
    worse: Text


class ReasoningExample(Part):
    """A worked judgement with its reasoning, for chain of thought; the letters are fixed by the reasoning."""

    dialogue: Dialogue
    option_a: Text
    option_b: Text
    reasoning: Text
    answer: Literal["A", "B"]


class Examples(Part):
    critique: list[CritiqueExample] = []
    comparison: list[ComparisonExample] = []
    reasoning: list[ReasoningExample] = []

    @property
    def dialogues(self) -> list[list[Message]]:
        """What the examples are about: each a dialogue that ends in a human turn."""
        return [
            *(example.dialogue for example in self.critique),
            *(example.dialogue for example in self.comparison),
            *(example.dialogue for example in self.reasoning),
        ]


P = TypeVar("P", CritiquePrinciple, ComparisonPrinciple)


def unique_names(principles: list[P]) -> list[P]:
    seen: set[str] = set()
    for index, principle in enumerate(principles):
        if principle.name in seen:
            message = f"is {principle.name!r}, the name of an earlier principle; give each its own name"
            raise fault([index, "name"], principle.name, message)
        seen.add(principle.name)
    return principles


def some_weigh(principles: list[ComparisonPrinciple]) -> list[ComparisonPrinciple]:
    if principles and not any(principle.weight for principle in principles):
        message = "has the weight 0 under every principle, so no vote would count; give one of them more"
        raise fault([], None, message)
    return principles


class Constitution(Part):
    name: Text
    description: str = ""
    # what answers are the more of, the better they follow it: "more harmless"
    quality: Text = "in keeping with the constitution"
    critique: Annotated[list[CritiquePrinciple], AfterValidator(unique_names)] = []
    comparison: Annotated[
        list[ComparisonPrinciple], AfterValidator(unique_names), AfterValidator(some_weigh)
    ] = []
    rating: RatingScale | None = None
    examples: Examples = Examples()

    @model_validator(mode="after")
    def not_empty(self) -> "Constitution":
        examples = self.examples
        # The paper's few-shot files hold examples alone, to be merged with principles from elsewhere.
        parts = [
            self.critique,
            self.comparison,
            self.rating,
            examples.critique,
            examples.comparison,
            examples.reasoning,
        ]
        if not any(parts):
            raise fault([], self.name, "has no principle; add one under 'critique' or 'comparison'")
        return self

    def draw_critique(self, rng: random.Random) -> CritiquePrinciple:
        """One critique principle at random (paper, section 3.1). Raises SolonError where there is none."""
        if not self.critique:
            raise SolonError(
                f"constitution '{self.name}' has no critique principle; add one under 'critique'"
            )
        return rng.choice(self.critique)

    def with_critique(self, count: int | Literal["all"], rng: random.Random) -> "Constitution":
        """The same with only ``count`` of its critique principles, drawn at random and in the file's order.

        The fewer that one ``rng`` draws are among the more that it draws. Raises SolonError where the
        constitution has fewer than ``count``.
        """
        have = len(self.critique)
        if count == "all":
            return self
        if count > have:
            raise SolonError(
                f"constitution '{self.name}' has {have} critique principles and {count} were asked for; "
                "add principles or ask for 'all'"
            )
        drawn = sorted(rng.sample(range(have), have)[:count])
        return self.model_copy(update={"critique": [self.critique[number] for number in drawn]})

    def draw_comparison(
        self, rng: random.Random, count: int | Literal["all"] = 1
    ) -> list[ComparisonPrinciple]:
        """``count`` different comparison principles at random, or all of them in the file's order.

        Raises SolonError where the constitution has none, or fewer than ``count``.
        """
        have = len(self.comparison)
        if not have:
            raise SolonError(
                f"constitution '{self.name}' has no comparison principle; add one under 'comparison'"
            )
        if count == "all":
            return list(self.comparison)
        if count > have:
            raise SolonError(
                f"constitution '{self.name}' has {have} comparison principles and {count} were asked for; "
                "add principles or ask for 'all'"
            )
        return rng.sample(self.comparison, count)

    @property
    def weights(self) -> dict[str, float]:
        """Of the comparison principles whose votes count otherwise than once, by their names."""
        return {each.name: each.weight for each in self.comparison if each.weight != 1}

    def weighed(self, weights: Mapping[str, float]) -> "Constitution":
        """The same with these weights of comparison principles in the place of theirs, by their names."""
        principles = [
            each.model_copy(update={"weight": weights.get(each.name, each.weight)})
            for each in self.comparison
        ]
        return self.model_copy(update={"comparison": principles})

    @property
    def unweighed(self) -> "Constitution":
        """The same with votes that all count alike."""
        return self.weighed(dict.fromkeys(self.weights, 1.0))

    def labels_as(self, other: "Constitution") -> bool:
        """Whether the other asks the same, and its principles' votes count as much."""
        return self.content_hash == other.content_hash and self.weights == other.weights

    def scale_of_answers(self) -> RatingScale:
        """What answers are rated by. Raises SolonError where the constitution has nothing of the kind."""
        if self.rating is None:
            raise SolonError(
                f"constitution '{self.name}' has no scale to rate answers by; add a question and its scale "
                "under 'rating'"
            )
        return self.rating

    def to_yaml(self) -> str:
        """A YAML file that ``load`` reads back as the same constitution."""
        data = self.model_dump(exclude_defaults=True)
        return yaml.dump(data, Dumper=BlockDumper, sort_keys=False, allow_unicode=True, width=100)

    @property
    def content_hash(self) -> str:
        """SHA-256 of all that models are asked by; layout and comments of the file do not count.

        Nor do ``weights``, which change no question: what goes by them records them apart.
        """
        # One without a rating says what it said before, and how its quality is called steers nothing.
        silent: Any = {"quality": True, "comparison": {"__all__": {"weight"}}}
        said = self.model_dump_json(exclude_none=True, exclude=silent)
        return hashlib.sha256(said.encode()).hexdigest()


class BlockDumper(yaml.SafeDumper):
    """Writes text of several lines as a block, as a person would."""


def represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    # Line breaks that YAML reads as others, unless escaped.
    if any(line_break in text for line_break in "\r\x85\u2028\u2029"):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


BlockDumper.add_representer(str, represent_text)


def packaged() -> list[str]:
    """The names of the constitutions that come with Solon."""
    folder = resources.files("solon") / "constitutions"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load(name_or_path: str) -> Constitution:
    """A packaged constitution by its name, or one from a path that ends in ``.yaml`` or ``.yml``.

    Raises SolonError for an unknown name, and naming file, line and field for a file that does not fit.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return load_yaml(Path(name_or_path), Constitution)
    if name_or_path not in packaged():
        meant = get_close_matches(name_or_path, packaged(), n=1)
        raise SolonError(
            f"no constitution is called '{name_or_path}'{f' (did you mean {meant[0]!r}?)' if meant else ''}; "
            f"packaged are {', '.join(packaged())}, and a path that ends in .yaml reads a file"
        )
    file = resources.files("solon") / "constitutions" / f"{name_or_path}.yaml"
    with resources.as_file(file) as path:
        return load_yaml(path, Constitution)
