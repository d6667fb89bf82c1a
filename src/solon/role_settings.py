"""What is set for each of the roles by itself, whichever model plays it."""

from typing import Any, Literal, Self, get_args

from pydantic import Field

from solon.engine_settings import Section

RoleName = Literal["assistant", "critic", "policy", "feedback", "judge"]
ROLES: tuple[RoleName, ...] = get_args(RoleName)

# Whose model each takes where it has none of its own.
TAKEN_FROM: dict[RoleName, RoleName] = {
    "critic": "assistant",
    "policy": "assistant",
    "feedback": "assistant",
    "judge": "feedback",
}


class Role(Section):
    """A model's settings in one role. What is left open changes nothing."""

    # arguments of the model's chat template, such as enable_thinking; its own defaults by default
    chat_template_kwargs: dict[str, Any] = Field(default={})

    def over(self, other: Self) -> Self:
        """These settings, and ``other``'s for what they leave open."""
        open_ = {name: getattr(other, name) for name in type(self).model_fields if not getattr(self, name)}
        return self.model_copy(update=open_)

    def deciding(self) -> dict[str, Any]:
        """What decides the role's texts and labels; nothing where nothing is set."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value}


DEFAULT = Role()


class Roles(Section):
    """A role whose model is another's by default takes what it leaves open from that role, too."""

    assistant: Role = Role()
    critic: Role = Role()
    policy: Role = Role()
    feedback: Role = Role()
    judge: Role = Role()
