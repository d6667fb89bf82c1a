"""A run as its audit sees it, and what a check says of it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from solon import constitution
from solon.config import Config
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.records import Aspect
from solon.seeds import derive_seed
from solon.store.manifest import by_names_of_today, flat
from solon.store.run_folder import Json, RunFolder

# Settings whose value names a constitution: stages record its own name and its hash instead.
CONSTITUTIONS = {
    "constitution": "harmless",
    "preference_model.helpfulness_constitution": "helpful",
    "evaluation.helpfulness_constitution": "helpful",
}
# The constitution whose principles label an aspect.
SETTING_OF: Mapping[Aspect, str] = {
    "harmlessness": "constitution",
    "helpfulness": "preference_model.helpfulness_constitution",
}


class Found(NamedTuple):
    """What a check found."""

    counted: str  # what was looked at, and how much of it
    wrong: Sequence[str] = ()  # a phrase each
    unknown: Sequence[str] = ()  # what cannot be known from what is here, and why, a phrase each


Status = Literal["ok", "unknown", "FAILED"]


@dataclass(frozen=True)
class Check:
    name: str
    status: Status  # "unknown": nothing is wrong, but not all could be looked at
    says: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.status != "FAILED"


@dataclass(frozen=True)
class Run:
    """A run's records, and what they were made by."""

    path: Path
    folder: RunFolder
    again: int = 0  # how many questions of a kind are to be asked anew

    @property
    def stages(self) -> Json:
        return self.folder.stages

    def done(self, stage: str) -> bool:
        return bool((self.stages.get(stage) or {}).get("status") == "done")

    @cached_property
    def settings(self) -> Json:
        """Those of config.yaml, by dotted names."""
        return by_names_of_today(flat(self.folder.settings))

    @cached_property
    def config(self) -> Config:
        return Config.model_validate(self.folder.settings)

    def seed(self, *parts: str) -> int:
        """That of a stage, as ``pipeline.workbench`` derives it."""
        return derive_seed(self.config.seed, *parts) % 2**31

    @cached_property
    def _laws(self) -> dict[str, Constitution | None]:
        """Those that were read: many checks ask for the same."""
        return {}

    def law(self, setting: str) -> Constitution | None:
        """The constitution that the setting names; None where it is not here."""
        if setting not in self._laws:
            try:
                self._laws[setting] = constitution.load(self.settings.get(setting) or CONSTITUTIONS[setting])
            except SolonError:
                self._laws[setting] = None
        return self._laws[setting]


def by_id(records: Iterable[Any]) -> dict[str, Any]:
    return {record["id"]: record for record in records}


def repeated(records: Iterable[Mapping[str, Any]]) -> list[str]:
    counts = Counter(record["id"] for record in records)
    return [f"{name} is there {count} times" for name, count in counts.items() if count > 1]
