"""What a run's models say that they learned from, held against what its records show."""

from collections.abc import Mapping
from pathlib import Path

from solon import marks
from solon.audit.run import Found, Run
from solon.marks import HUMAN_HARM, Origin
from solon.method import STAGES, holds_model
from solon.store.run_folder import RunFolder

# The stages whose models each starts from or is rewarded by.
FROM = {
    "supervised": {},
    "preference-model": {},
    "reinforce": {"policy": "supervised", "preference model": "preference-model"},
}
UNSCORED = {"policy": "supervised"}  # of the last, where it needs no preference model


def marked(audited: Run) -> Found:
    """The models in the roles, and those that the run made; what others learned elsewhere nobody knows."""
    path, run = audited.path, audited.folder
    asked = bool(run.human_harm)
    wrong, unknown, count = [], set[str](), 0
    names = {str(model.get("name")): None for model in (run.manifest.get("models") or {}).values()}
    for name in names:
        found = marks.origin(name, verified=True)
        unknown |= set(found.unknown)
        wrong += [f"of {name}: {fault}" for fault in found.faults]
        if HUMAN_HARM in found.labels and not asked:
            wrong.append(f"{name} did ({found.why})")
    here = {
        stage.name: path / stage.folder
        for stage in STAGES
        if stage.training and holds_model(path / stage.folder)
    }
    for stage, folder in here.items():
        for each in [folder, *sorted(folder.glob("step-*"))]:
            faults, origin = of_checkpoint(run, stage, each, here)
            if HUMAN_HARM in origin.labels and not asked:
                faults.insert(0, f"did ({origin.why})")
            wrong += [f"{each.relative_to(path)} {fault}" for fault in faults]
            unknown |= set(origin.unknown)
            count += bool(marks.marks_in(each))
    said = f"{count} checkpoints of the run are marked"
    if asked:
        said += ", the preference model's and what it trained as having learned from people's labels of harm"
    of = ", ".join(sorted(unknown)) or "none of its models"
    return Found(f"{said}; nobody knows what is in {of}", wrong)


def of_checkpoint(
    run: RunFolder, stage: str, folder: Path, here: Mapping[str, Path]
) -> tuple[list[str], Origin]:
    """What is wrong with the mark of a checkpoint of the run, and what the model learned from."""
    found, origin = marks.marks_in(folder), marks.origin(str(folder), verified=True)
    recorded = (run.stages.get(stage) or {}).get("mark")
    if not found:  # a run of before marks has none anywhere
        lost = ["has lost its mark, which the manifest has"] if recorded else []
        return lost, origin
    mark, faults = found[0], list(origin.faults)
    made_from = UNSCORED if stage == "reinforce" and not run.needs_preference_model else FROM[stage]
    expected = marks.labels_of(run.trained_on(stage)).union(
        *(marks.origin(str(here[other])).labels for other in made_from.values() if other in here)
    )
    if missing := sorted(expected - origin.labels):
        faults.append(f"does not say that it learned from {' and '.join(missing)}")
    if mark.get("data") != marks.hash_of_records(run.trained_on(stage)):
        faults.append("is marked as trained on other records than the run's")
    for role, other in made_from.items():
        if other in here and (mark.get("forebears") or {}).get(role, {}).get(
            "weights"
        ) != marks.hash_of_weights(here[other]):
            faults.append(f"is marked as made from another {role} than the run's")
    if folder == here[stage] and recorded != mark:
        faults.append("has another mark than the manifest recorded")
    return faults, origin
