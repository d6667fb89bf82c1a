"""Tiny runs of the pipeline for the tests of the audit: every way of feedback and every way to the policy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from same_bytes import SMALL, merged
from solon import pipeline
from solon.config import Config
from solon.store.files import file_hash
from solon.store.record_file import RecordFile

BASE: dict[str, Any] = merged(
    SMALL,
    {
        "prompts": {
            "red_team": {"train": 6, "held_out": 3},
            "helpful": {"train": 6, "held_out": 3},
            "generate": 1,
        },
        "critique": {"max_tokens": 16},
        "reinforce": {"steps": 2, "checkpoints": 0},
    },
)
RUNS: dict[str, dict[str, Any]] = {
    "judged": {
        "feedback": {"chain_of_thought": True, "max_tokens": 8, "clamp": [0.49, 0.51]},
        "reinforce": {"checkpoints": 1},
    },
    "rated": {
        "feedback": {"method": "rating"},
        "reinforce": {"algorithm": "grpo", "length_control": True, "epochs_per_step": 2},
        "preference_model": {"helpfulness": "people.jsonl"},
    },
    "both": {
        "feedback": {"method": "comparing-and-rating", "prior_correction": True},
        "reinforce": {"lora": {"rank": 4}},
        "preference_model": {"lora": {"rank": 4}},
    },
    "contrasted": {"feedback": {"method": "contrast"}, "reinforce": {"algorithm": "ppo"}},
    "revised": {
        "feedback": {"method": "revision"},
        "critique": {"max_tokens": 24},
        "reinforce": {"algorithm": "ppo", "epochs_per_step": 2, "lora": {"rank": 4}},
        "preference_model": {"helpfulness": "people.jsonl"},  # of a tiny model's revisions few are sound
    },
    "all-principles": {
        "feedback": {"principles": "all", "few_shot": True},
        "critique": {"critique": False, "max_tokens": 32},
        "reinforce": {"steps": 1},
    },
    "one-order": {
        "feedback": {"both_orders": False, "prior_correction": True},
        "preference_model": {"helpfulness": None},
        "reinforce": {"steps": 1},
    },
    "rewarded": {  # as one-order up to the preference model
        "feedback": {"both_orders": False, "prior_correction": True},
        "preference_model": {"helpfulness": None},
        "reinforce": {
            "steps": 1,
            "reward": {"rating": 2, "comparison": 1},
        },
    },
    "another-critic": {
        "models": {"critic": "critic"},
        "critique": {"helpful_answers": 2},
        "reinforce": {"steps": 1, "generate": {"red_team": 2, "helpful": 2}},
    },
    "resumed": {"reinforce": {"save_steps": 1}},
}


class Runs:
    """The runs by name, each made when it is first asked for; what is alike is taken from those before it."""

    def __init__(self, model: Path, place: Path) -> None:
        self.model, self.place = model, place
        people = [
            {"prompt": f"Name {n} trees.", "chosen": f"Oak and {n}.", "rejected": "No."} for n in range(12)
        ]
        self.people = place / "people.jsonl"
        self.people.write_text("".join(json.dumps(row) + "\n" for row in people))

    def __call__(self, name: str) -> Path:
        folder = self.place / name
        if not (folder / "report.html").exists():
            donors = [self.place / other for other in RUNS if (self.place / other / "report.html").exists()]
            if name == "resumed":
                self._killed(folder)
                donors = []
            pipeline.run(self.settings(name), folder, donors=donors)
        return folder

    def settings(self, name: str) -> Config:
        settings = merged(BASE, {"models": {"assistant": str(self.model)}})
        settings = merged(settings, RUNS[name])
        settings["models"]["assistant"] = str(self.model)
        if settings["models"].get("critic"):
            critic = self.place / "critic"
            if not critic.exists():
                shutil.copytree(self.model, critic)
            settings["models"]["critic"] = str(critic)
        if settings["preference_model"]["helpfulness"] not in {"ai", None}:
            settings["preference_model"]["helpfulness"] = str(self.people)
        return Config.model_validate(settings)

    def _killed(self, folder: Path) -> None:
        """A run that a kill stopped amid a record."""
        pipeline.run(self.settings("resumed"), folder, until="comparison")
        file = folder / "04-comparison/pairs.jsonl"
        file.write_bytes(file.read_bytes()[:-40])
        entry = json.loads((folder / "manifest.json").read_text())
        entry["stages"]["comparison"]["status"] = "running"
        (folder / "manifest.json").write_text(json.dumps(entry))


def change(run: Path, file: str, how: Callable[[list[Any]], object]) -> None:
    """``how`` changes the records of a file in place."""
    path = run / file
    records = RecordFile(path).read()
    how(records)
    path.unlink()
    RecordFile(path).append(*records)


def change_json(run: Path, how: Callable[[Any], object], file: str = "manifest.json") -> None:
    facts = json.loads((run / file).read_text())
    how(facts)
    (run / file).write_text(json.dumps(facts))


def cover(run: Path) -> None:
    """What a careful forger does at last: the manifest's hashes are those of now, and the report is gone."""

    def of_now(manifest: Any) -> None:
        for entry in manifest["stages"].values():
            for name in entry.get("files", {}):
                if (run / name).exists():
                    entry["files"][name] = file_hash(run / name)

    change_json(run, of_now)
    (run / "report.html").unlink(missing_ok=True)
