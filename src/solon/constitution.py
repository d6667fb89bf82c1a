"""The constitution: the principles that steer critique, revision and comparison.

Two kinds, as in the paper (Appendix C): a critique principle asks the model to find fault with an answer and
then to revise it; a comparison principle asks which of two answers is better.
"""

from pydantic import BaseModel, ConfigDict, Field

from solon.records import Message


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class CritiquePrinciple(Part):
    """Steers one round of critique and revision (paper, Appendix C.1)."""

    name: str = Field(min_length=1)
    critique_request: str = Field(min_length=1)
    revision_request: str = Field(min_length=1)


class ComparisonPrinciple(Part):
    """Steers one multiple-choice judgement (paper, Appendix C.2)."""

    name: str = Field(min_length=1)
    instruction: str = Field(min_length=1)


class CritiqueExample(Part):
    """A worked critique and revision, shown to the model before its own (paper, Appendix E)."""

    dialogue: list[Message] = Field(min_length=1)  # ends with the human's turn
    answer: str = Field(min_length=1)
    critique_request: str = Field(min_length=1)
    critique: str = Field(min_length=1)
    revision_request: str = Field(min_length=1)
    revision: str = Field(min_length=1)


class ComparisonExample(Part):
    """A worked judgement: the first response is the better one; which letter it gets is drawn when shown."""

    dialogue: list[Message] = Field(min_length=1)
    better: str = Field(min_length=1)
    worse: str = Field(min_length=1)


class ReasoningExample(Part):
    """A worked judgement with its reasoning, for chain of thought; the letters are fixed by the reasoning."""

    dialogue: list[Message] = Field(min_length=1)
    option_a: str = Field(min_length=1)
    option_b: str = Field(min_length=1)
    reasoning: str = Field(min_length=1)
    answer: str = Field(pattern="^[AB]$")


class Examples(Part):
    critique: list[CritiqueExample] = []
    comparison: list[ComparisonExample] = []
    reasoning: list[ReasoningExample] = []


class Constitution(Part):
    name: str = Field(min_length=1)
    description: str = ""
    critique: list[CritiquePrinciple] = []
    comparison: list[ComparisonPrinciple] = []
    examples: Examples = Examples()
