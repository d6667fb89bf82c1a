"""The manifest of a run: what was asked, with which versions, and how far every stage has come."""

import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from solon import __version__
from solon.errors import SolonError
from solon.store.files import write_atomically

LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft", "datasets")

Json = dict[str, Any]


class Manifest:
    """``manifest.json``; every change is on disk before the call that made it returns."""

    def __init__(self, path: Path) -> None:
        """Read the file, or start a new one. Raises SolonError where it is damaged."""
        self.path = path
        self.facts: Json = {"stages": {}}
        if path.exists():
            try:
                self.facts = json.loads(path.read_text(encoding="utf-8"))
                self.facts["stages"].items()
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise SolonError(
                    f"{path} is damaged; restore it, or delete it to have every stage done again"
                ) from None

    @property
    def stages(self) -> Json:
        """Every stage that was begun, with its inputs, status, time, records, token counts and notes."""
        stages: Json = self.facts["stages"]
        return stages

    def describe(self, **facts: Any) -> None:
        """Record facts about the whole run, and the environment of this process."""
        self.facts = {
            "solon": __version__,
            **facts,
            "environment": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
            },
            "stages": self.stages,
        }
        self.save()

    def begin(self, stage: str, inputs: Mapping[str, Any]) -> None:
        if stage not in self.stages:
            self.stages[stage] = {
                "status": "running",
                "started": now(),
                "seconds": 0.0,
                "records": 0,
                "usage": {},
                "notes": [],
                "inputs": dict(inputs),
            }
            self.save()

    def add(self, stage: str, seconds: float, usage: Mapping[str, float]) -> None:
        """Count work done on a stage, in this process or one before it."""
        entry = self.stages[stage]
        entry["seconds"] += seconds
        for name, count in usage.items():
            entry["usage"][name] = entry["usage"].get(name, 0) + count
        self.save()

    def finish(self, stage: str, records: int, notes: list[str], files: Mapping[str, str]) -> None:
        """``files`` are the hashes of what the stage has left, by paths in the run folder."""
        entry = self.stages[stage]
        notes = [*notes, *filter(None, [entry.get("reused")])]
        entry |= {
            "status": "done",
            "finished": now(),
            "records": records,
            "notes": notes,
            "files": dict(files),
        }
        self.save()

    def take(self, stage: str, entry: Mapping[str, Any], reused: str) -> None:
        """Record as done what another run has done, as its ``entry`` says: here nothing was computed."""
        notes = [note for note in entry["notes"] if note != entry.get("reused")]
        self.stages[stage] = {**entry, "started": now(), "seconds": 0.0, "usage": {}, "reused": reused}
        self.finish(stage, entry["records"], notes, entry.get("files") or {})

    def save(self) -> None:
        write_atomically(self.path, json.dumps(self.facts, indent=2, ensure_ascii=False) + "\n")


def inputs_of(entry: Mapping[str, Any]) -> Json:
    """What decided a stage, as its ``entry`` recorded it."""
    return by_names_of_today(entry.get("inputs") or {})


def weights_of(inputs: Mapping[str, Any], constitution: str) -> dict[str, float]:
    """The weights that a stage went by, of the constitution that this setting names: those that are not 1."""
    return dict(inputs.get(f"{constitution}.weights") or [])


def by_names_of_today(settings: Mapping[str, Any]) -> Json:
    """Settings by dotted names, as older versions wrote them."""
    return {re.sub(r"^red_team\b", "prompts", name): value for name, value in settings.items()}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def flat(value: Any, name: str = "") -> Json:
    """Nested settings as one level of dotted names, to be compared and told apart."""
    if isinstance(value, Mapping):
        return {
            key: setting for part in value for key, setting in flat(value[part], f"{name}.{part}").items()
        }
    return {name.removeprefix("."): list(value) if isinstance(value, tuple) else value}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is different, a phrase each: "feedback.principles was 1, is now 4"."""
    return [
        f"{name} was {before.get(name, 'not set')}, is now {after.get(name, 'not set')}"
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    ]
