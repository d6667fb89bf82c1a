"""What is set for each of the roles by itself, whichever model plays it."""

from datetime import date as date_type
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field

from solon.engine_settings import Count, Section

RoleName = Literal["assistant", "critic", "policy", "feedback", "judge"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

# Tokens that a model which thinks before it answers may think, where nothing else is said.
THINKING_TOKENS = 1024

# Whose model each takes where it has none of its own.
TAKEN_FROM: dict[RoleName, RoleName] = {
    "critic": "assistant",
    "policy": "assistant",
    "feedback": "assistant",
    "judge": "feedback",
}


# Those of them that do its work, too.
SPEAK_AS = {"critic", "judge"}

OPEN: tuple[Any, ...] = (None, {})  # what a setting is that is left open


class Role(Section):
    """A model's settings in one role. What is left open changes nothing."""

    system: str | None = None  # said before each of its dialogues
    # arguments of the model's chat template, such as enable_thinking; its own defaults by default
    chat_template_kwargs: dict[str, Any] = Field(default={})

    # most tokens that a model which thinks before it answers may think, beside those of its answer; then its
    # thought is closed. 0: it answers at once
    thinking_tokens: Count | None = None
    # what a template that writes today's date takes for today; the day on which the run began by default
    date: date_type | None = None

    @property
    def thoughts(self) -> int:
        return THINKING_TOKENS if self.thinking_tokens is None else self.thinking_tokens

    def on(self, day: date_type) -> Self:
        """The same on that day, where none is set."""
        return self if self.date else self.model_copy(update={"date": day})

    def over(self, other: Self) -> Self:
        """These settings, and ``other``'s for what they leave open."""
        open_ = {name: value for name, value in other if getattr(self, name) in OPEN}
        return self.model_copy(update=open_)

    def deciding(self) -> dict[str, Any]:
        """What decides the role's texts and labels; nothing where nothing is set."""
        return self.model_dump(mode="json", exclude_defaults=True)


class PolicyRole(Role):
    """The policy learns to answer, and so it answers at once, before and after its training."""

    thinking_tokens: Annotated[int, Field(ge=0, le=0)] = 0


DEFAULT, POLICY = Role(), PolicyRole()


class Roles(Section):
    """A role whose model is another's by default takes what it leaves open from that role, too.

    The system text is passed on to the critic and to the judge alone.
    """

    assistant: Role = Role()
    critic: Role = Role()
    policy: PolicyRole = PolicyRole()
    feedback: Role = Role()
    judge: Role = Role()
