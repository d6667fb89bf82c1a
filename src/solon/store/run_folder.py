"""Everything that a run folder holds, read. What a partial run does not have yet is empty."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from solon import constitution
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.method import STAGES
from solon.optimisers import OPTIMISERS
from solon.prompts.dialogue import turns
from solon.records import (
    KINDS,
    Agreement,
    AnswerRecord,
    Aspect,
    EvaluationRecord,
    Example,
    HarmAnswer,
    HarmScore,
    JudgementRecord,
    PairRecord,
    PreferenceRecord,
    PromptRecord,
    RevisionRecord,
    SampleJudgement,
    SampleRecord,
)
from solon.reward_settings import PREFERENCE_MODEL, weights
from solon.store.manifest import weights_of
from solon.store.record_file import RecordFile
from solon.training_settings import Reinforce
from solon.yaml_file import parse, text_of

Json = dict[str, Any]

CONSTITUTIONS: dict[Aspect, tuple[str, str]] = {  # the setting that names it, and its default
    "harmlessness": ("constitution", "harmless"),
    "helpfulness": ("preference_model.helpfulness_constitution", "helpful"),
}

RECORDS: Mapping[str, str] = {  # what stages wrote, by field of RunFolder
    Path(file).stem: f"{stage.folder}/{file}" for stage in STAGES for file in stage.records
}
TRANSCRIBED: Mapping[str, str] = {  # what transcripts are joined from
    **{name: path for name, path in RECORDS.items() if name != "examples"},
    "judgements": "evaluation/judgements.jsonl",
}


@dataclass(frozen=True)
class RunFolder:
    name: str
    manifest: Json
    config: str  # the text of config.yaml
    settings: Json  # the same, parsed
    prompts: list[PromptRecord]
    rl_prompts: list[PromptRecord]  # written for RL alone
    revisions: list[RevisionRecord]
    helpful: list[AnswerRecord]
    examples: list[Example]
    pairs: list[PairRecord]
    preferences: list[PreferenceRecord]
    metrics: dict[str, list[Json]]  # of each training, by its stage
    samples: list[SampleRecord]
    answers: list[EvaluationRecord]
    judgements: list[JudgementRecord]
    sample_judgements: list[SampleJudgement]
    harm_answers: list[HarmAnswer]
    harm_scores: list[HarmScore]
    trust: list[Agreement]  # of judge and labeller with people
    summary: Json

    @property
    def stages(self) -> Json:
        """The manifest's entry of every stage that was begun."""
        return self.manifest.get("stages") or {}

    @property
    def learns_from(self) -> Literal["samples", "pairs"]:
        """What the last stage's algorithm learns from."""
        algorithm = (self.settings.get("reinforce") or {}).get("algorithm", Reinforce().algorithm)
        return OPTIMISERS[algorithm].learns_from

    @property
    def needs_preference_model(self) -> bool:
        """Whether the last stage's policy learned from the preference model's scores."""
        reward = (self.settings.get("reinforce") or {}).get("reward", PREFERENCE_MODEL)
        return self.learns_from == "samples" and PREFERENCE_MODEL in weights(reward)

    def trained_on(self, stage: str) -> Sequence[Any]:
        """The records that a training stage is given; none where it trains no model."""
        entry = self.stages.get(stage) or {}
        if entry.get("status") == "done" and not entry.get("records"):
            return []
        pairs = [record for record in self.preferences if record["split"] == "train"]
        prompts = [*(prompt for prompt in self.prompts if prompt["split"] == "train"), *self.rl_prompts]
        of_stages: dict[str, Sequence[Any]] = {
            "supervised": self.examples,
            "preference-model": pairs,
            "reinforce": pairs if self.learns_from == "pairs" else prompts,
        }
        return of_stages[stage]

    @property
    def human_harm(self) -> str:
        """Where people's labels of harm come from, where the run asks for them by name; "" where it does not.

        The manifest's word stays where the configuration's is taken back.
        """
        settings = self.settings.get("preference_model") or {}
        named = str(settings.get("harmlessness") or "ai")
        return named if named != "ai" else str(self.manifest.get("human_harm_labels") or "")

    def law(self, aspect: Aspect) -> Constitution | None:
        """The constitution that the aspect is labelled by; None where it is gone or has changed since."""
        setting, default = CONSTITUTIONS[aspect]
        inputs: Json = {}
        for stage in ("critique", "feedback"):
            inputs |= (self.stages.get(stage) or {}).get("inputs") or {}
        *sections, name = setting.split(".")
        settings = self.settings
        for section in sections:
            settings = settings.get(section) or {}
        try:
            law = constitution.load(settings.get(name) or default)
        except SolonError:
            return None
        same = law.content_hash == inputs.get(f"{setting}.hash") and law.weights == weights_of(
            inputs, setting
        )
        return law if same else None


def read(folder: Path, kinds: Mapping[str, Any] = KINDS) -> RunFolder:
    """Read a run folder, finished or not. Records must be of their ``kinds``, by file name.

    Raises:
        SolonError: the folder is no run folder, or one of its files is not what it should be.
    """
    manifest = manifest_of(folder)

    def records(path: str) -> list[Any]:
        return RecordFile(folder / path, kinds.get(Path(path).stem)).read()

    config, settings = _config(folder / "config.yaml")
    of_stages = {name: records(path) for name, path in RECORDS.items()}
    return RunFolder(
        name=name_of(folder, manifest),
        manifest=manifest,
        config=config,
        settings=settings,
        **of_stages,
        judgements=records(TRANSCRIBED["judgements"]),
        metrics={stage.name: records(f"{stage.folder}/metrics.jsonl") for stage in STAGES if stage.training},
        rl_prompts=records("07-rl-cai/generated.jsonl"),
        samples=_with_prompt_ids(records("07-rl-cai/samples.jsonl"), of_stages["prompts"]),
        sample_judgements=records("evaluation/rl-judgements.jsonl"),
        harm_answers=records("evaluation/harm-answers.jsonl"),
        harm_scores=records("evaluation/harm-scores.jsonl"),
        trust=records("trust/agreement.jsonl"),
        summary=_json(folder / "evaluation" / "summary.json", "elo", "preference_model", "rl_steps"),
    )


def _with_prompt_ids(samples: list[SampleRecord], prompts: list[PromptRecord]) -> list[SampleRecord]:
    """Samples of runs that did not write ``prompt_id`` get that of the prompt with their text."""
    if all("prompt_id" in sample for sample in samples):
        return samples
    ids = {turns(prompt["prompt"]): prompt["id"] for prompt in prompts}
    return [
        {**sample, "prompt_id": ids[turns(sample["prompt"])]}
        if "prompt_id" not in sample and turns(sample["prompt"]) in ids
        else sample
        for sample in samples
    ]


def manifest_of(folder: Path) -> Json:
    """The run folder's manifest, empty before there is one. Raises SolonError for what is no run folder."""
    if not (folder / "config.yaml").exists() and not (folder / "manifest.json").exists():
        raise SolonError(f"{folder} is not a run folder: it has neither config.yaml nor manifest.json")
    return _json(folder / "manifest.json", "stages")


def name_of(folder: Path, manifest: Json) -> str:
    return str(manifest.get("name") or folder.resolve().name)


def _json(path: Path, *objects: str) -> Json:
    """The object in a file, where there is one. Those of its fields in ``objects`` are objects as well."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SolonError(f"{path}: not JSON ({error}); restore it or run its stage again") from None
    if not isinstance(value, dict):
        raise SolonError(f"{path}: expected a JSON object; restore it or run its stage again")
    for name in objects:
        if not isinstance(value.get(name) or {}, dict):
            raise SolonError(f"{path}: {name} is {value[name]!r:.60}; restore it or run its stage again")
    return value


def _config(path: Path) -> tuple[str, Json]:
    if not path.exists():
        return "", {}
    text = text_of(path)
    settings, _ = parse(text, str(path))
    return text, settings if isinstance(settings, dict) else {}
