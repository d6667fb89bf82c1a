"""The roles: the model in each, and what is set for each by itself, whichever model plays it."""

from datetime import date as date_type
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from solon.engine_settings import Count, Mode, OpenAISettings, Positive, Price, Section, Url, Variable

SERVER_MODEL = "openai:"
"""Begins the names of models that are on a server; the rest is the server's own name for the model."""
LITELLM_MODEL = "litellm:"
"""Begins the names of models that LiteLLM knows how to reach; the rest is its name, PROVIDER/MODEL."""
UNSAFE = "unsafe:"
"""Begins the names of models whose pickled weights may be loaded; the rest is a folder or a hub name."""


def on_server(model: str) -> bool:
    """Whether a name is that of a model on a server."""
    return model.startswith((SERVER_MODEL, LITELLM_MODEL))


def one(model: Any) -> Any:
    if isinstance(model, list):
        raise ValueError("names several models, and a role has one; several label as feedback.panel")
    return model


def named_on_server(model: str | None) -> str | None:
    if model in {SERVER_MODEL, LITELLM_MODEL}:
        raise ValueError(f"is {model!r} and names no model; write {model}NAME")
    return model


ModelName = Annotated[str, BeforeValidator(one), AfterValidator(named_on_server)]


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


class Models(Section):
    """The roles. All take an embedded model's name, a folder, a ``.gguf`` file or a hub name.

    All but the policy may also be on a server: ``openai:NAME``, or ``litellm:PROVIDER/NAME``.
    """

    assistant: ModelName = "smollm2"  # answers, critiques and revises (paper: the helpful-only RLHF model)
    # critiques and revises in the assistant's place, for an assistant too small to; the assistant by default
    critic: ModelName | None = None
    policy: ModelName | None = None  # is finetuned (paper: the pretrained model); the assistant by default
    feedback: ModelName | None = None  # labels (paper: a pretrained model); the assistant by default
    judge: ModelName | None = None  # judges the trained models' answers; the feedback model by default

    @property
    def by_role(self) -> dict[str, str]:
        """Every role's model, with the defaults."""
        models = {"assistant": self.assistant}
        for role, other in TAKEN_FROM.items():
            models[role] = getattr(self, role) or models[other]
        return models


# Those of them that do its work, too.
SPEAK_AS = {"critic", "judge"}

OPEN: tuple[Any, ...] = (None, {})  # what a setting is that is left open


Server = TypeVar("Server", "RoleServer", OpenAISettings)


class RoleServer(Section):
    """The server of one role's model: what is set stands in the place of the same under ``engine.openai``."""

    base_url: Url | None = None
    key_variable: Variable | None = None
    mode: Mode | None = None
    tokenizer: str | None = None
    continue_final_message: bool | None = None
    votes: Positive | None = None
    input_price: Price | None = None
    output_price: Price | None = None
    extra_body: dict[str, Any] | None = None

    def over(self, other: Server) -> Server:
        """The ``other`` settings with what is set here in their place."""
        return other.model_copy(update=self.model_dump(exclude_none=True))


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
    openai: RoleServer = RoleServer()  # of a model named openai:NAME

    @property
    def thoughts(self) -> int:
        return THINKING_TOKENS if self.thinking_tokens is None else self.thinking_tokens

    def on(self, day: date_type) -> Self:
        """The same on that day, where none is set."""
        return self if self.date else self.model_copy(update={"date": day})

    def over(self, other: Self) -> Self:
        """These settings, and ``other``'s for what they leave open."""
        open_ = {name: value for name, value in other if getattr(self, name) in OPEN}
        return self.model_copy(update={**open_, "openai": self.openai.over(other.openai)})

    def deciding(self) -> dict[str, Any]:
        """What decides the role's texts and labels; nothing where nothing is set."""
        reached = {"openai": {"key_variable", "input_price", "output_price"}}
        return self.model_dump(mode="json", exclude_defaults=True, exclude=reached)


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
