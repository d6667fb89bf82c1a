"""What another run has done with the same settings and inputs is taken from it, not done again."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solon.manifest import Manifest
from solon.run import RecordFile, as_line, write_atomically
from solon.stages.critique import first_rounds
from solon.steps import STAGES, Stage
from solon.workspace import Workspace

Inputs = Mapping[str, Mapping[str, Any]]  # of every stage, as the manifest records them

ROUNDS = "critique.rounds"


def engine(donors: Sequence[Path]) -> dict[str, str]:
    """What "auto" was decided to mean in the first of the runs, so that it means the same in one more."""
    return next((dict(found) for each in donors if (found := _manifest(each).facts.get("engine"))), {})


def take(stage: Stage, work: Workspace, manifest: Manifest, wanted: Inputs, donors: Sequence[Path]) -> bool:
    """Take a stage that is not begun from the first of the ``donors`` that has done the same, if one has.

    A stage's result is decided by its inputs and the stages before it, so all of these must be alike, and the
    engine, which rounds in its own way. Where a donor differs in having more rounds of critique and revision,
    the first of them are put in the stage's files, and nothing is left for it to make.
    """
    for donor in donors:
        theirs = _manifest(donor)
        if theirs.facts.get("engine") != manifest.facts.get("engine"):
            continue
        if _alike(theirs, stage, wanted):
            _copy(donor / stage.folder, work.folder / stage.folder)
            same = f"Taken from {donor.name}, which did this stage with the same settings and inputs."
            manifest.take(stage.name, theirs.stages[stage.name], same)
            work.watcher.say(f"{stage.title}: taken from {donor.name}.")
            return True
        if stage.name == "critique" and _more_rounds(theirs, stage, wanted):
            _take_rounds(donor / stage.folder, work.folder / stage.folder, wanted["critique"][ROUNDS])
            manifest.begin(stage.name, wanted[stage.name])
            manifest.stages[stage.name]["reused"] = (
                f"The first rounds are taken from {donor.name}, which has more."
            )
            work.watcher.say(f"{stage.title}: the first rounds are taken from {donor.name}.")
            return False
    return False


def _manifest(run: Path) -> Manifest:
    return Manifest(run / "manifest.json")


def _alike(theirs: Manifest, last: Stage, wanted: Inputs) -> bool:
    """Whether a run has done the stage, and all before it, from the ``wanted`` inputs."""
    upto = STAGES[: STAGES.index(last) + 1]
    entries = [theirs.stages.get(stage.name) or {} for stage in upto]
    return all(
        entry.get("status") == "done" and entry["inputs"] == wanted[stage.name]
        for entry, stage in zip(entries, upto, strict=True)
    )


def _more_rounds(theirs: Manifest, critique: Stage, wanted: Inputs) -> bool:
    have = (theirs.stages.get(critique.name) or {}).get("inputs", {}).get(ROUNDS, 0)
    with_theirs = {**wanted, critique.name: {**wanted[critique.name], ROUNDS: have}}
    return have > wanted[critique.name][ROUNDS] and _alike(theirs, critique, with_theirs)


def _take_rounds(source: Path, target: Path, count: int) -> None:
    shorter = (first_rounds(record, count) for record in RecordFile(source / "revisions.jsonl"))
    write_atomically(target / "revisions.jsonl", "".join(map(as_line, shorter)))
    write_atomically(target / "helpful.jsonl", "".join(map(as_line, RecordFile(source / "helpful.jsonl"))))


def _copy(source: Path, target: Path) -> None:
    """The folder appears in one step. What is there is of a copy that a kill stopped: no stage began it."""
    partial = target.with_name(f"{target.name}.partial")
    for each in (partial, target):
        if each.exists():
            shutil.rmtree(each)
    shutil.copytree(source, partial, copy_function=_copy_file)
    partial.rename(target)


def _copy_file(source: str, target: str) -> None:
    """Weights are linked: they are most of a run's size, and no stage ever changes a file of them."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copy2(source, target)
