"""Stage 6 in a run folder: the preference model, trained on the labels of the training split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solon.pipeline.steps.inputs import TRAINED, of_model
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import PreferenceRecord
from solon.sources.tables import source_name


def train(bench: Workbench, labelled: Sequence[PreferenceRecord], out: Path) -> dict[str, float]:
    """Train a scorer from the policy on the labels; returns the last step's metrics."""
    seed = bench.seed("preference model")
    return bench.train("preference-model", labelled, [bench.roles["policy"]], out, seed)


def run(work: Workspace) -> Done:
    if not work.config.trains_preference_model:
        return Done(
            0, ["No preference model was trained: the policy learns without one (preference_model.train)."]
        )
    records: list[PreferenceRecord] = work.file("05-feedback/preferences.jsonl").read()
    labelled = [record for record in records if record["split"] == "train"]
    train(work, labelled, Path(work.preference_model))
    return Done(len(labelled), [])


def inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.preference_model
    return {
        "preference_model": settings.model_dump(exclude={"train"}),
        TRAINED: work.config.trains_preference_model,
        "preference_model.helpfulness": source_name(settings.helpfulness),
        "preference_model.harmlessness": source_name(settings.harmlessness),
        **of_model(work, "policy"),
    }
