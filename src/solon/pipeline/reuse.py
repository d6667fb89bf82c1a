"""What another run has done with the same settings and inputs is taken from it, not done again."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solon.config import Config
from solon.method import STAGES, Stage
from solon.pipeline.steps.inputs import TRAINED
from solon.pipeline.weighing import weigh_anew
from solon.pipeline.workspace import Workspace
from solon.stages.critique import first_rounds
from solon.store.manifest import Manifest, flat, inputs_of
from solon.store.record_file import RecordFile, write
from solon.store.run_folder import manifest_of

Inputs = Mapping[str, Mapping[str, Any]]  # of every stage, as the manifest records them

ROUNDS = "critique.rounds"
WEIGHTS = "constitution.weights"  # ends of inputs' names: how much votes count, and not what is asked
OF_PROCESS = ("solon", "environment", "stages")  # facts of a manifest that tell how, and not what
DEFAULTS = flat(Config().model_dump(mode="json"))


def check(donors: Sequence[Path]) -> None:
    """Raises SolonError for a donor that is no run folder."""
    for donor in donors:
        manifest_of(donor)


def fact(name: str, donors: Sequence[Path]) -> Any:
    """What the first of the runs that has such a fact says, so that it is the same in one more; else None.

    That is what "auto" was decided to mean for the engine, and the date that templates write.
    """
    return next((known for donor in donors if (known := _manifest(donor).facts.get(name))), None)


def take(stage: Stage, work: Workspace, manifest: Manifest, wanted: Inputs, donors: Sequence[Path]) -> bool:
    """Take a stage that is not begun from the first of the ``donors`` that has done the same, if one has.

    A stage's result is decided by its inputs and the stages before it, so all of these must be alike, and the
    engine, which rounds in its own way. Where a donor has only a part of it, that part is put in the stage's
    files: the first rounds of critique and revision of one that has more, the answers of models that both
    evaluate. The stage then makes what is missing.
    """
    alike = {donor: _manifest(donor) for donor in donors}
    alike = {
        donor: theirs
        for donor, theirs in alike.items()
        if theirs.facts.get("engine") == manifest.facts["engine"]
    }
    for donor, theirs in alike.items():
        if _alike(theirs, stage, wanted):
            copy(donor / stage.folder, work.folder / stage.folder)
            same = f"Taken from {donor.name}, which did this stage with the same settings and inputs."
            manifest.take(stage.name, theirs.stages[stage.name], same)
            work.watcher.say(f"{stage.title}: taken from {donor.name}.")
            return True
    for donor, theirs in alike.items():
        if part := _take_part(stage, donor, theirs, work, wanted):
            manifest.begin(stage.name, wanted[stage.name])
            manifest.stages[stage.name]["reused"] = f"Taken from {donor.name}: {part}."
            work.watcher.say(f"{stage.title}: taken from {donor.name}: {part}.")
            return False
    return False


def _take_part(stage: Stage, donor: Path, theirs: Manifest, work: Workspace, wanted: Inputs) -> str:
    """What was taken, in words."""
    source, target = donor / stage.folder, work.folder / stage.folder
    if stage.name == "critique" and _more_rounds(theirs, stage, wanted):
        count = wanted["critique"][ROUNDS]
        revisions = (first_rounds(record, count) for record in RecordFile(source / "revisions.jsonl"))
        write(target / "revisions.jsonl", revisions)
        for name in ("first-answers.jsonl", "helpful.jsonl"):
            if (source / name).exists():
                write(target / name, RecordFile(source / name))
        return f"answers and revisions up to round {count}" if count else "answers"
    if stage.name == "feedback" and _other_weights(theirs, stage, wanted):
        weigh_anew(donor, work.folder, work.config, work.laws)
        return "votes, which are weighed otherwise here"
    if stage.name == "evaluation" and (same := _same_models(theirs, stage, wanted)):
        for model in same:
            write(target / f"{model}.jsonl", RecordFile(source / f"{model}.jsonl"))
        return f"answers of {' and '.join(same)}"
    return ""


def _manifest(run: Path) -> Manifest:
    return Manifest(run / "manifest.json")


def recorded(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a stage's entry. Settings that Solon has had only since had what is now their default."""
    defaults = {name: value for name, value in DEFAULTS.items() if name in wanted}
    known = defaults | inputs_of(entry)
    if TRAINED in wanted:  # runs of before always have one
        known[TRAINED] = known.get(TRAINED, True) and wanted[TRAINED]
    return known


def _alike(theirs: Manifest, last: Stage, wanted: Inputs) -> bool:
    """Whether a run has done the stage, and all before it, from the ``wanted`` inputs."""
    upto = STAGES[: STAGES.index(last) + 1] if last in STAGES else (last,)
    entries = [theirs.stages.get(stage.name) or {} for stage in upto]
    return all(
        entry.get("status") == "done" and recorded(entry, wanted[stage.name]) == wanted[stage.name]
        for entry, stage in zip(entries, upto, strict=True)
    )


def _more_rounds(theirs: Manifest, critique: Stage, wanted: Inputs) -> bool:
    have = (theirs.stages.get(critique.name) or {}).get("inputs", {}).get(ROUNDS, 0)
    with_theirs = {**wanted, critique.name: {**wanted[critique.name], ROUNDS: have}}
    return have > wanted[critique.name][ROUNDS] and _alike(theirs, critique, with_theirs)


def _other_weights(theirs: Manifest, feedback: Stage, wanted: Inputs) -> bool:
    """Whether a run was labelled from the same inputs but for how much its principles' votes count."""
    have = (theirs.stages.get(feedback.name) or {}).get("inputs", {})
    mine = {name: value for name, value in wanted[feedback.name].items() if not name.endswith(WEIGHTS)}
    with_theirs = mine | {name: value for name, value in have.items() if name.endswith(WEIGHTS)}
    return _alike(theirs, feedback, {**wanted, feedback.name: with_theirs})


def _same_models(theirs: Manifest, evaluation: Stage, wanted: Inputs) -> list[str]:
    """The models that a run evaluates, on the same prompts and in the same way, and that are wanted too."""
    entry = theirs.stages.get(evaluation.name) or {}
    red_team, _, supervised, *_ = STAGES
    of_evaluation = wanted[evaluation.name]
    if entry.get("status") != "done" or recorded(entry, of_evaluation) != of_evaluation:
        return []
    if not _alike(theirs, red_team, wanted):
        return []
    if _alike(theirs, supervised, wanted):
        return ["initial", "sl-cai"]
    return (
        ["initial"]
        if _policy(theirs.stages[supervised.name]["inputs"]) == _policy(wanted[supervised.name])
        else []
    )


def _policy(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The policy's model and its settings in that role."""
    return {
        name: value for name, value in inputs.items() if name.startswith(("models.policy", "roles.policy"))
    }


def copy(source: Path, target: Path) -> None:
    """A stage's folder, which appears in one step. What is there is of a copy that a kill stopped.

    A stage that trains no model has none.
    """
    partial = target.with_name(f"{target.name}.partial")
    for folder in (partial, target):
        if folder.exists():
            shutil.rmtree(folder)
    if source.exists():
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
