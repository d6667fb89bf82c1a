"""The method's stages in order: the one table of them, which all that speaks of stages reads.

Nothing is imported here but for types, so that whoever wants their names or files loads no library for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKPOINT = "tokenizer_config.json"  # in every one, of a whole model or of adapters


def holds_model(folder: Path) -> bool:
    """Whether a whole model, or adapters, are in the folder."""
    return any((folder / name).exists() for name in ("config.json", "adapter_config.json"))


@dataclass(frozen=True)
class Training:
    """What a stage that trains a model has beside the others."""

    section: str  # of the configuration, with its settings
    function: str  # "module:name"; every process that trains calls it
    model: str  # what the trained model is called
    curves: Mapping[str, str]  # columns of its metrics.jsonl that the report draws, and their titles
    records: str = "examples"  # what it trains on
    limit: str = "max_length"  # the setting of how long these may be, in tokens
    samples: bool = False  # by the engine that the configuration names: its function takes ``engine``

    def too_long(self, metrics: Mapping[str, float], limit: int, count: int) -> list[str]:
        """What is told of records longer than ``limit``, by the metrics of a training on ``count``."""
        allowed = f"{self.section}.{self.limit} ({limit} tokens)"
        fates = {
            "left_out": f"{self.records} are longer than {allowed} and are not trained on",
            "cut_off": f"{self.records} are longer than {allowed} and are trained on without their ends",
            "pairs_left_out": f"pairs are longer than {allowed} with max_tokens and are not trained on",
        }
        return [
            f"{metrics[name]:.0f} of {count} {fate}: raise it to take them whole."
            for name, fate in fates.items()
            if metrics.get(name, 0) >= 0.5
        ]


@dataclass(frozen=True)
class Stage:
    """One stage. Its step, a module, has ``run(work)`` and ``inputs(work)``: what decides its result."""

    name: str
    title: str
    folder: str  # in the run folder
    step: str
    reads: tuple[str, ...] = ()  # what must be there before it, by path in the run folder
    records: tuple[str, ...] = ()  # the record files in its folder that the manifest counts
    also: tuple[str, ...] = ()  # more files of results that it may leave there, as patterns
    training: Training | None = None


STAGES = (
    Stage(
        "red-team",
        "Red-team prompts",
        "01-red-team",
        step="solon.pipeline.steps.red_team",
        records=("prompts.jsonl",),
        also=("generated.jsonl",),
    ),
    Stage(
        "critique",
        "Critique and revision",
        "02-critique",
        step="solon.pipeline.steps.critique",
        reads=("01-red-team/prompts.jsonl",),
        records=("revisions.jsonl", "helpful.jsonl"),
        also=("first-answers.jsonl",),
    ),
    Stage(
        "supervised",
        "Supervised finetuning (SL-CAI)",
        "03-sl-cai",
        step="solon.pipeline.steps.supervised",
        reads=("02-critique/revisions.jsonl",),
        records=("examples.jsonl",),
        training=Training("supervised", "solon.stages.supervised:train", "SL-CAI", {"loss": "Loss"}),
    ),
    Stage(
        "comparison",
        "Two answers a prompt",
        "04-comparison",
        step="solon.pipeline.steps.comparison",
        reads=("01-red-team/prompts.jsonl", f"03-sl-cai/{CHECKPOINT}"),
        records=("pairs.jsonl",),
    ),
    Stage(
        "feedback",
        "AI feedback",
        "05-feedback",
        step="solon.pipeline.steps.feedback",
        reads=("01-red-team/prompts.jsonl", "04-comparison/pairs.jsonl"),
        records=("preferences.jsonl",),
        also=("unlabelled.jsonl", "preferences-votes-*.jsonl"),
    ),
    Stage(
        "preference-model",
        "Preference model",
        "06-preference-model",
        step="solon.pipeline.steps.preference_model",
        reads=("05-feedback/preferences.jsonl",),
        training=Training(
            "preference_model",
            "solon.stages.preference:train",
            "Preference model",
            {"loss": "Loss", "accuracy": "Accuracy", "margin": "Margin, chosen less rejected"},
            records="comparisons",
        ),
    ),
    Stage(
        "reinforce",
        "Reinforcement learning (RL-CAI)",
        "07-rl-cai",
        step="solon.pipeline.steps.reinforce",
        reads=(
            "01-red-team/prompts.jsonl",
            f"03-sl-cai/{CHECKPOINT}",
            "05-feedback/preferences.jsonl",
            f"06-preference-model/{CHECKPOINT}",
        ),
        also=("generated.jsonl", "samples.jsonl"),
        training=Training(
            "reinforce",
            "solon.stages.reinforce:train",
            "RL-CAI",
            {
                "reward": "Reward",
                "kl": "KL to SL-CAI, nats a sequence",
                "entropy": "Entropy, nats a token",
                "length": "Length, tokens",
                "truncated": "Share cut off by max_tokens",
                "clip_fraction": "Clip fraction",
                "sampler_gap": "Distance between sampler and training, nats a token",
                "accuracy": "Accuracy on pairs",
                "margin": "Margin on pairs, chosen less rejected",
            },
            records="prompts",
            limit="max_prompt_length",
            samples=True,
        ),
    ),
    Stage(
        "evaluation",
        "Evaluation",
        "evaluation",
        step="solon.pipeline.steps.evaluation",
        reads=(
            "01-red-team/prompts.jsonl",
            "05-feedback/preferences.jsonl",
            f"06-preference-model/{CHECKPOINT}",
            f"07-rl-cai/{CHECKPOINT}",
        ),
        records=("answers.jsonl",),
        also=("judgements.jsonl", "unjudged.jsonl", "initial.jsonl", "*l-cai*.jsonl", "summary.json"),
    ),
)
NAMES = tuple(stage.name for stage in STAGES)

TRUST = Stage(
    "trust",
    "Trust in judge and labeller",
    "trust",
    step="solon.pipeline.steps.trust",
    records=("agreement.jsonl",),
    also=(
        "labeller-harmlessness.jsonl",
        "labeller-helpfulness.jsonl",
        "judge-harmlessness.jsonl",
        "judge-helpfulness.jsonl",
    ),
)
"""Done before the stages where ``evaluation.trust`` is set. No stage's result depends on it."""


MODELS: Mapping[str, Stage] = {
    stage.training.model.lower().replace(" ", "-"): stage for stage in STAGES if stage.training
}
"""The stages that leave a model, by what the model is called: sl-cai, preference-model, rl-cai."""


def stage(name: str) -> Stage:
    """The stage of that name."""
    return STAGES[NAMES.index(name)]


def trains(name: str) -> Training:
    """What the stage of that name trains with. Raises LookupError for one that trains nothing."""
    training = stage(name).training
    if training is None:
        raise LookupError(f"stage {name} trains nothing")
    return training
