"""The whole configuration of a run.

Defaults are the paper's where the paper states one and a run is large enough for it; each says where it comes
from. ``solon init`` writes a small configuration that overrides the sizes.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from solon.engine_settings import (  # noqa: F401 (all settings are to be had here)
    OPENAIS_KEY,
    Count,
    EngineSettings,
    OpenAISettings,
    Positive,
    Scale,
    Section,
    TrainingScale,
    VLLMSettings,
)
from solon.records import SETS, Aspect, PromptSet
from solon.role_settings import (  # noqa: F401
    LITELLM_MODEL,
    ROLES,
    SERVER_MODEL,
    SPEAK_AS,
    TAKEN_FROM,
    UNSAFE,
    ModelName,
    Models,
    Role,
    RoleName,
    Roles,
    on_server,
)
from solon.training_settings import (  # noqa: F401
    GeneratedPrompts,
    Lora,
    OnDevice,
    Probability,
    Reinforce,
    Training,
    fits_micro_batches,
    shares_out,
)
from solon.yaml_file import load_yaml


class PromptSettings(Section):
    """Prompts of one set: how many, and from where."""

    source: str = "packaged"  # "packaged", a .jsonl/.csv/.parquet/.jsonl.gz file, or "datasets:NAME"
    train: Count | None = None  # how many of the training split to use; all by default
    held_out: Count | None = None  # how many of the held-out split to evaluate on; all by default


class Prompts(Section):
    red_team: PromptSettings = PromptSettings()
    helpful: PromptSettings = PromptSettings()
    generate: Count = 0  # more red-team prompts, written by the assistant few-shot
    temperature: float = Field(default=1.0, ge=0)
    max_tokens: Positive = 64


class Critique(Section):
    rounds: Count = 4  # paper, section 3.2: four revisions; 0 keeps the answers (SL-CAI-0, section 3.5)
    # how many of the constitution's principles, drawn once for the run, rounds draw from (paper, Figure 6)
    principles: Positive | Literal["all"] = "all"
    critique: bool = True  # False revises directly (paper, section 3.5, Figure 7)
    few_shot: bool = True
    # keeps bare refusals among revisions, which should explain (paper, section 1.1), and helpful answers
    evasive: bool = False
    temperature: float = Field(default=1.0, ge=0)  # paper, section 3.2
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Positive = 256
    attempts: Positive = 2  # how often a degenerate revision is sampled before the round is given up
    helpful_answers: Positive = 1  # to each helpful prompt, mixed in (paper, section 3.2: two)


class Supervised(Training):
    revisions: Literal["all", "last"] = "all"  # paper, section 3.2: revisions of every round


class Comparison(Section):
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Positive = 256


def rising(clamp: tuple[float, float]) -> tuple[float, float]:
    if clamp[0] > clamp[1]:
        raise ValueError(f"is {list(clamp)}: the lower bound comes first; swap the two")
    return clamp


class Feedback(Section):
    # contrast: pairs are made under a principle and against it, and nobody judges (RLCD, arXiv:2307.12950)
    # revision: a pair is the assistant's answer and what critique and revision made of it; nobody judges
    # rating: each answer is rated by itself on the constitution's scale
    # comparing-and-rating: what multiple choice and rating say, summed
    method: Literal["multiple-choice", "contrast", "revision", "rating", "comparing-and-rating"] = (
        "multiple-choice"
    )
    principles: Positive | Literal["all"] = 1  # drawn for each pair and averaged; "all": the whole list
    both_orders: bool = True  # judge (A, B) and (B, A) and average: cancels position bias
    # takes off how much the judge likes a letter where nothing is asked (Zhao et al. 2021, arXiv:2102.09690)
    prior_correction: bool = False
    few_shot: bool = True
    layout: Literal["principle-first", "principle-last"] = (
        "principle-first"  # paper: first, before the options
    )
    chain_of_thought: bool = False
    # of chain-of-thought labels (paper, section 4.1)
    clamp: Annotated[tuple[Probability, Probability], AfterValidator(rising)] = (0.4, 0.6)
    temperature: float = Field(default=0.0, ge=0)  # of the reasoning; greedy by default
    max_tokens: Positive = 256  # of the reasoning
    # log-odds of a label for each point that two ratings differ by; fitted in the judgement study
    rating_sharpness: float = Field(default=4.0, gt=0)
    # of the log-odds that comparing-and-rating sums; fitted in the judgement study (results/table.json) with
    # the 1.5B model on the half of HHH's rows for tuning: 0.64, and 2.35 a point of the scale, 0.59 times 4
    comparing_weight: float = Field(default=0.64, gt=0)
    rating_weight: float = Field(default=0.59, gt=0)
    # names the feedback model whose labels are wanted although people's labels did not show it above chance
    untrusted: ModelName | None = None
    # judges beside models.feedback, asked as it is: a label is the mean of what each makes it
    panel: list[ModelName] = Field(default=[])

    @model_validator(mode="after")
    def prior_of_letters(self) -> "Feedback":
        if self.prior_correction and self.chain_of_thought:
            raise ValueError(
                "prior_correction is for letters named without reasoning; turn it or chain_of_thought off"
            )
        return self


class PreferenceModel(Training):
    # a policy that learns without its scores is measured by it only where that is asked for
    train: Literal["where-needed", "always"] = "where-needed"
    learning_rate: float = Field(default=2e-5, gt=0)
    held_out: float = Field(default=0.1, ge=0, lt=1)  # share of the prompts kept for accuracy and calibration
    # "ai", or a file of people's comparisons of harm: the arm that the paper compares with, marked for good
    harmlessness: str = "ai"
    helpfulness: str | None = None  # a file of human helpfulness comparisons, "ai", or none
    # a signature where it can't be known that nobody labelled harm there: what people were asked, who says so
    vouched_for: Annotated[str | None, Field(min_length=1)] = None
    helpfulness_constitution: str = "helpful"  # whose principles label helpfulness where "ai" is asked for
    labels: Literal["soft", "hard"] = "soft"  # hard: 1 for the likelier answer (paper, section 4)

    @property
    def human_harm(self) -> bool:
        """Whether people's labels of harm are asked for by name."""
        return self.harmlessness != "ai"

    @property
    def by_people(self) -> dict[Aspect, str]:
        """Where comparisons that people labelled come from."""
        sources: dict[Aspect, str | None] = {
            "harmlessness": self.harmlessness,
            "helpfulness": self.helpfulness,
        }
        return {aspect: source for aspect, source in sources.items() if source and source != "ai"}

    @property
    def by_models(self) -> list[PromptSet]:
        """The sets of prompts whose pairs models answer and label."""
        sources = {"red-team": self.harmlessness, "helpful": self.helpfulness}
        return [prompt_set for prompt_set in SETS if sources[prompt_set] == "ai"]


class Evaluation(Section):
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Positive = 256
    judged: Positive | None = None  # how many prompts of each set are judged; all by default
    # how answers are judged; as the run labels by default, and by rating where its labels take no judge
    judging: Literal["multiple-choice", "rating", "comparing-and-rating"] | None = None
    bootstrap: Positive = 1000  # resamples behind the intervals
    helpfulness_constitution: str = "helpful"
    # a file of pairs that people judged: how far do judge and feedback model agree with them?
    trust: Annotated[str | None, Field(min_length=1)] = None
    trust_pairs: Positive = 500  # how many of these pairs, drawn by the seed


class HarmScorer(Training):
    """Of ``solon train harm-scorer`` alone: it measures, and is no part of a run (paper, section 4.5)."""

    learning_rate: float = Field(default=2e-5, gt=0)
    held_out: float = Field(
        default=0.2, ge=0, lt=1
    )  # a fifth at least: those held out from a run are here too


class Config(Section):
    seed: int = 0
    constitution: str = "harmless"  # a packaged constitution's name or a YAML file
    models: Models = Models()
    roles: Roles = Roles()
    engine: EngineSettings = EngineSettings()
    scale: Scale = Scale()
    prompts: Annotated[Prompts, Field(validation_alias=AliasChoices("prompts", "red_team"))] = Prompts()
    critique: Critique = Critique()
    supervised: Supervised = Supervised()
    comparison: Comparison = Comparison()
    feedback: Feedback = Feedback()
    preference_model: PreferenceModel = PreferenceModel()
    reinforce: Reinforce = Reinforce()
    evaluation: Evaluation = Evaluation()
    harm_scorer: HarmScorer = HarmScorer()

    @property
    def trains_preference_model(self) -> bool:
        """Whether stage 6 trains one: for the policy to learn from, or to measure by."""
        return self.preference_model.train == "always" or self.reinforce.needs_preference_model

    def role(self, name: RoleName, model: str | None = None) -> Role:
        """The role's settings, with those of the role whose model it takes, unless ``model`` is another."""
        own: Role = getattr(self.roles, name)
        takes = getattr(self.models, name) is None and model in {None, self.models.by_role[name]}
        if not takes:
            return own
        other = self.role(TAKEN_FROM[name])
        return own.over(other if name in SPEAK_AS else other.model_copy(update={"system": None}))

    def apart(self, one: RoleName, other: RoleName) -> bool:
        """Whether the two roles differ in their models or their settings."""
        models = self.models.by_role
        return (models[one], self.role(one)) != (models[other], self.role(other))

    def with_models(self, **models: str | None) -> "Config":
        """The same with the models that are given in these roles."""
        given = {role: model for role, model in models.items() if model}
        return self.model_copy(update={"models": self.models.model_copy(update=given)})

    def server(self, name: RoleName) -> OpenAISettings:
        """How the role's model is reached where it is on a server."""
        return self.role(name).openai.over(self.engine.openai)

    @model_validator(mode="after")
    def priced(self) -> "Config":
        budget, on_servers = (
            self.engine.openai.budget,
            [
                role
                for role in ROLES
                if on_server(self.models.by_role[role])
                or (role == "feedback" and any(map(on_server, self.feedback.panel)))
            ],
        )
        for role in on_servers if budget else ():
            server = self.server(role)
            if not (server.input_price or server.output_price):
                raise ValueError(
                    f"has engine.openai.budget, but no price of the {role}'s model: set input_price and "
                    f"output_price under engine.openai or roles.{role}.openai"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def one_name(cls, given: Any) -> Any:
        """``red_team`` is what older configurations call ``prompts``."""
        if isinstance(given, dict) and {"prompts", "red_team"} <= given.keys():
            raise ValueError("has prompts and red_team, which is its old name; write prompts alone")
        return given

    @model_validator(mode="after")
    def fits_processes(self) -> "Config":
        """Raises ValueError for what several training processes cannot do, before any is begun."""
        scale, rl = self.scale.training, self.reinforce
        steps = [
            (section.batch_size, section.micro_batch_size)
            for section in (self.supervised, self.preference_model)
        ]
        for sequences, micro_batch in (
            *steps,
            rl.per_step,
        ):
            try:
                shares_out(sequences, micro_batch, scale.processes)
            except ValueError as error:
                raise ValueError(f"has {error}") from None
        trained: tuple[OnDevice, ...] = (self.supervised, self.preference_model, rl)
        for section in trained if scale.strategy == "fsdp" else ():
            try:
                section.check_shared_out()
            except ValueError as error:
                raise ValueError(f"has scale.training.strategy fsdp, but {error}") from None
        return self


def load(path: Path, overrides: dict[str, Any] | None = None) -> Config:
    """The configuration in a YAML file, with ``overrides`` (nested like the file) laid over it.

    Files and folders named in it are looked for beside the configuration first, then in the working folder.
    Raises SolonError naming file, line and field for what does not fit.
    """
    config = load_yaml(path, Config, overrides)
    return Config.model_validate(_beside(path.parent, config.model_dump()))


def _beside(folder: Path, value: Any) -> Any:
    """``value`` with every text that names something in ``folder`` replaced by the path to it."""
    if isinstance(value, dict):
        return {name: _beside(folder, setting) for name, setting in value.items()}
    if isinstance(value, list):
        return [_beside(folder, each) for each in value]
    if not isinstance(value, str):
        return value
    place = value.removeprefix(UNSAFE)
    prefix = value.removesuffix(place)
    try:
        there = ("/" in place or "." in place) and (folder / place).exists()
    except OSError:  # too long for any file's name
        there = False
    return f"{prefix}{folder / place}" if there else value
