"""The method from beginning to end in one run folder: every stage once, in order, resumed after a kill."""

import json
import shutil
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from solon import marks
from solon.config import Config
from solon.errors import SolonError
from solon.evaluation import trust
from solon.method import NAMES, STAGES, TRUST, Stage
from solon.pipeline import reuse, steps
from solon.pipeline.steps.red_team import check_data
from solon.pipeline.steps.reinforce import check as check_rewards
from solon.pipeline.workspace import Workspace
from solon.planning import estimate
from solon.progress import Watcher
from solon.sources.tables import source_name
from solon.store.files import file_hash, write_atomically
from solon.store.lock import alone_in
from solon.store.manifest import Manifest, changes, flat

# They change how a stage is run, or what is said of it, and not what comes of it.
NOT_INPUTS = (".save_steps", ".report_to", ".vouched_for", ".gradient_checkpointing")


def run(
    config: Config,
    folder: Path,
    watcher: Watcher | None = None,
    *,
    until: str = NAMES[-1],
    donors: Sequence[Path] = (),
) -> Path:
    """Take the method to its end, or to the stage ``until``, in ``folder`` and return the path of the report.

    Stages that are done are not done again. A stage whose settings have changed, and all after it, are: the
    watcher is told which and why, and their old results are moved aside into ``folder/stale``. What another
    run, one of the folders ``donors``, has done with the same settings and inputs is taken from it.
    Raises SolonError for anything that the user can mend, such as a machine with too little memory, and where
    another process works in the folder.
    """
    watcher = watcher or Watcher()
    reuse.check(donors)
    estimate.check(config, folder, watcher, NAMES[: NAMES.index(until) + 1])
    work = Workspace(config, folder, watcher)
    by_people = check_data(work)
    check_rewards(work)
    first = (TRUST,) if measures_trust(config, until) else ()
    wanted = {stage.name: inputs(stage, work) for stage in (*first, *STAGES)}
    human_harm = config.preference_model.harmlessness
    with alone_in(folder):
        manifest = Manifest(folder / "manifest.json")
        set_stale_aside(work, manifest, wanted)
        settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_atomically(folder / "config.yaml", settings)
        earlier = {name: manifest.facts.get(name) or reuse.fact(name, donors) for name in ("engine", "date")}
        if earlier["date"]:
            work.date = date.fromisoformat(earlier["date"])
        manifest.describe(
            name=folder.resolve().name,
            seed=config.seed,
            constitution={"name": work.constitution.name, "hash": work.constitution.content_hash},
            engine=work.settle_engine(earlier["engine"] or {}),
            date=work.date.isoformat(),
            models={
                role: {"name": name, "hash": work.hashes[name], **marks.told(name)}
                for role, name in (work.roles | work.panel).items()
            },
            **({"human_harm_labels": source_name(human_harm)} if human_harm != "ai" else {}),
            **({"human_labels": by_people} if by_people else {}),
        )
        for stage in (*first, *STAGES):
            entry = manifest.stages.get(stage.name)
            if entry is None and reuse.take(stage, work, manifest, wanted, donors):
                pass
            elif entry is None or entry["status"] != "done":
                run_stage(stage, work, manifest, wanted[stage.name])
            if stage == TRUST:  # said now, not after hours of work
                trust.refuse(work.file("trust/agreement.jsonl"), config.feedback.untrusted)
            if stage.name == until:
                break
        work.close_engine()
        from solon import report  # brings Plotly, which takes a second to import

        return report.write(folder)


def measures_trust(config: Config, until: str) -> bool:
    """Whether anybody's judgement is asked for, and there are people's labels to measure it by."""
    return config.evaluation.trust is not None and NAMES.index(until) >= NAMES.index("feedback")


def run_stage(stage: Stage, work: Workspace, manifest: Manifest, wanted: dict[str, Any]) -> None:
    require(stage, work.folder, manifest)
    manifest.begin(stage.name, wanted)
    started = time.monotonic()
    try:
        with work.watcher.stage(stage.title):
            done = steps.of(stage).run(work)
    finally:
        manifest.add(stage.name, time.monotonic() - started, work.take_usage())
    if stage.training and (work.folder / stage.folder).is_dir():
        manifest.stages[stage.name]["mark"] = marks.of_folder(work.folder / stage.folder)
    manifest.finish(
        stage.name, done.records, [*done.notes, *work.take_notes()], files_left(stage, work.folder)
    )
    for note in done.notes:
        work.watcher.say(note)


def files_left(stage: Stage, folder: Path) -> dict[str, str]:
    """The hash of each file that the stage has left, by its path in the run folder; of models all files."""
    patterns = ["**/*"] if stage.training else [*stage.records, *stage.also]
    left = {path for pattern in patterns for path in (folder / stage.folder).glob(pattern) if path.is_file()}
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(left)}


def require(stage: Stage, folder: Path, manifest: Manifest) -> None:
    """Raise SolonError where what the stage reads is gone: it would work on less and not say so."""
    untrained = [
        each.folder
        for each in STAGES
        if each.training and not (manifest.stages.get(each.name) or {"records": 1})["records"]
    ]
    for path in stage.reads:
        if not (folder / path).exists() and path.split("/")[0] not in untrained:
            raise SolonError(
                f"{folder / path}, which stage {stage.name} reads, is gone, though its own stage is done: "
                f"restore it, or delete {folder / 'manifest.json'} to have every stage done again"
            )


def inputs(stage: Stage, work: Workspace) -> dict[str, Any]:
    """What decides the stage's result, beside the stages before it, by dotted names."""
    everything = flat({"seed": work.config.seed, **steps.of(stage).inputs(work)})
    kept = {name: value for name, value in everything.items() if not name.endswith(NOT_INPUTS)}
    return dict(json.loads(json.dumps(kept)))  # as the manifest gives them back


def set_stale_aside(work: Workspace, manifest: Manifest, wanted: dict[str, dict[str, Any]]) -> None:
    """Move the results of the first stage whose inputs have changed, and of all after it, out of the way.

    Trust is measured apart from them, so that its results go alone.
    """
    changed = {
        name: changes(reuse.recorded(manifest.stages[name], of_stage), of_stage)
        for name, of_stage in wanted.items()
        if name in manifest.stages
    }
    if TRUST.name in manifest.stages and work.config.evaluation.trust is None:
        changed[TRUST.name] = ["evaluation.trust is no longer set"]
    first = next((number for number, stage in enumerate(STAGES) if changed.get(stage.name)), len(STAGES))
    stale = [stage for stage in STAGES[first:] if stage.name in manifest.stages]
    if changed.get(TRUST.name):
        stale.insert(0, TRUST)
    if not stale:
        return
    aside = work.folder / "stale" / time.strftime("%Y%m%d-%H%M%S")
    why = "; ".join(dict.fromkeys(change for of_stage in changed.values() for change in of_stage))
    again = ", ".join(stage.name for stage in stale if stage.name in wanted)
    so = f". So {again} must be done again" if again else ""
    work.watcher.say(f"{why}{so}; what was there is kept in {aside}.")
    aside.mkdir(parents=True)
    shutil.copy(manifest.path, aside)
    for stage in stale:
        if (work.folder / stage.folder).exists():
            (work.folder / stage.folder).rename(aside / stage.folder)
        del manifest.stages[stage.name]
    manifest.save()
