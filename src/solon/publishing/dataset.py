"""A run's records as a dataset: a configuration a kind of record, which ``load_dataset`` reads by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon.publishing.columns import declared, row
from solon.publishing.names import Names
from solon.publishing.parcel import File
from solon.records import (
    AnswerRecord,
    EvaluationRecord,
    Example,
    JudgementRecord,
    PairRecord,
    PreferenceRecord,
    PromptRecord,
    RevisionRecord,
    SampleRecord,
)
from solon.store.record_file import RecordFile

NAMING = ("source", "labeller", "judge", "scorer")  # fields that name models and files, on whatever machine


@dataclass(frozen=True)
class Configuration:
    name: str
    file: str  # of the run
    kind: Any  # the type of its records
    says: str
    split: str = "train"  # of records that do not say theirs


CONFIGURATIONS = (
    Configuration(
        "preferences",
        "05-feedback/preferences.jsonl",
        PreferenceRecord,
        "comparisons with their soft labels, in TRL's preference form, and every vote that made them",
    ),
    Configuration(
        "prompts", "01-red-team/prompts.jsonl", PromptRecord, "red-team and helpful prompts, by split"
    ),
    Configuration(
        "revisions",
        "02-critique/revisions.jsonl",
        RevisionRecord,
        "answers to red-team prompts with each round of critique and revision",
    ),
    Configuration("helpful", "02-critique/helpful.jsonl", AnswerRecord, "answers to helpful prompts"),
    Configuration("examples", "03-sl-cai/examples.jsonl", Example, "what supervised finetuning learned from"),
    Configuration(
        "pairs", "04-comparison/pairs.jsonl", PairRecord, "two answers a prompt, as they were to be compared"
    ),
    Configuration(
        "samples",
        "07-rl-cai/samples.jsonl",
        SampleRecord,
        "answers that RL sampled, with their rewards and the votes that these come from",
    ),
    Configuration(
        "answers",
        "evaluation/answers.jsonl",
        EvaluationRecord,
        "each model's answer to held-out prompts, side by side",
        "held-out",
    ),
    Configuration(
        "judgements",
        "evaluation/judgements.jsonl",
        JudgementRecord,
        "the judge's comparisons of these answers",
        "held-out",
    ),
)


@dataclass(frozen=True)
class Table:
    """A configuration as it was written: its files by split, and how many rows each has."""

    configuration: Configuration
    files: Mapping[str, File]

    def path(self, split: str) -> str:
        """In the repository."""
        return f"{self.configuration.name}/{split}.jsonl"

    @property
    def rows(self) -> dict[str, int]:
        return {split: len(file.lines) for split, file in self.files.items()}


def write(run: Path, names: Names, place: Path) -> list[Table]:
    """Write the run's records below ``place``, a file a configuration and split.

    Those that it has no records of are left out. Raises SolonError for a record that does not fit its type.
    """
    tables = []
    for configuration in CONFIGURATIONS:
        texts: dict[str, list[str]] = {}
        lines: dict[str, list[int]] = {}
        source = run / configuration.file
        for number, record in enumerate(RecordFile(source, configuration.kind), 1):
            # A hyphen cannot stand in a split's name.
            split = str(record.get("split") or configuration.split).replace("-", "_")
            fitted = _named(row(record, configuration.kind), names)
            texts.setdefault(split, []).append(json.dumps(fitted, ensure_ascii=False) + "\n")
            lines.setdefault(split, []).append(number)
        files = {}
        for split, rows in texts.items():
            path = place / configuration.name / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(rows), encoding="utf-8")
            files[split] = File(path, source, lines[split])
        if files:
            tables.append(Table(configuration, files))
    return tables


def _named(value: Any, names: Names) -> Any:
    """The row with models and files by their own names where it names them; its texts stay as they are."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: names.within(part) if name in NAMING and isinstance(part, str) else _named(part, names)
        for name, part in value.items()
    }


def head(tables: list[Table]) -> dict[str, Any]:
    """What the dataset's card declares at its head: configurations, their files and their columns."""
    return {
        "configs": [
            {
                "config_name": table.configuration.name,
                **({"default": True} if table is tables[0] else {}),
                "data_files": [{"split": split, "path": table.path(split)} for split in table.files],
            }
            for table in tables
        ],
        "dataset_info": [
            {
                "config_name": table.configuration.name,
                "features": declared(table.configuration.kind),
            }
            for table in tables
        ],
    }
