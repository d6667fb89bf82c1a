"""The same pairs labelled anew under a constitution; what their run labelled so is taken as it is."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from solon.config import Config
from solon.constitution import Constitution
from solon.errors import SolonError, WeighedOut
from solon.inference import open_engine
from solon.progress import Watcher
from solon.records import Aspect, PairRecord, PreferenceRecord
from solon.seeds import derive_seed
from solon.stages import feedback
from solon.store.run_folder import read


@dataclass(frozen=True)
class Source:
    """Where the pairs come from, and how they are labelled there."""

    pairs: list[PairRecord]
    config: Config
    model: str
    seed: int
    labelled: list[PreferenceRecord] = dataclasses.field(default_factory=list)  # as asked now, under ``law``
    law: Constitution | None = None


def of_run(folder: Path, recorded: Config, asked: Config, model: str, aspect: Aspect) -> Source:
    """A run's pairs, and its labels where what is ``asked`` is what was ``recorded`` with it.

    ``model`` is the feedback model, the run's own where it is "". Raises SolonError where there are no pairs.
    """
    run = read(folder)
    if not run.pairs:
        raise SolonError(f"{folder} has no pairs yet; run its comparison stage first")
    # What "auto" meant in the run, so that the same question gets the same answer.
    settled = {
        name: value
        for name, value in (run.manifest.get("engine") or {}).items()
        if name in ("device", "dtype") and getattr(asked.engine, name) == "auto"
    }
    asked = asked.model_copy(update={"engine": asked.engine.model_copy(update=settled)})
    same = (asked.feedback, asked.seed) == (recorded.feedback, recorded.seed)
    same = same and model in ("", recorded.models.by_role["feedback"])
    return Source(
        run.pairs,
        asked,
        model or asked.models.by_role["feedback"],
        derive_seed(asked.seed, "feedback") % 2**31,
        [label for label in run.preferences if label["aspect"] == aspect] if same else [],
        run.law(aspect),
    )


def labels(
    source: Source,
    law: Constitution,
    wanted: Sequence[PairRecord],
    aspect: Aspect,
    watcher: Watcher | None = None,
) -> list[PreferenceRecord]:
    """The run's own labels where they are under ``law``, and those of the feedback model for the rest.

    Where ``law`` only weighs its principles otherwise, they are made anew from their votes; pairs that these
    weigh out are left out. Raises SolonError for a panel, and for a pair that the model gives no label.
    """
    if source.config.feedback.panel:
        raise SolonError(
            "feedback.panel names judges, but one model labels under both constitutions: set it to [] here"
        )
    watcher = watcher or Watcher()
    known: dict[str, PreferenceRecord | PairRecord] = {}
    if source.law and source.law.content_hash == law.content_hash:
        theirs = {label["id"]: label for label in source.labelled if label["label_source"] == "ai"}
        for pair in wanted:
            if label := theirs.get(pair["id"]):
                settings, by = source.config.feedback, label["labeller"]
                known[pair["id"]] = feedback.weighed_anew(label, pair, law, aspect, settings, by)
    labelled = [cast(PreferenceRecord, label) for label in known.values() if "chosen" in label]
    missing = [pair for pair in wanted if pair["id"] not in known]
    if not missing:
        return labelled
    with (
        watcher.stage(f"Labels under {law.name}"),
        open_engine(
            source.model, source.config.engine, role=source.config.role("feedback", source.model)
        ) as engine,
    ):
        settings = source.config.feedback
        for made in feedback.label(engine, missing, law, aspect, settings, source.seed):
            if (problem := made.get("problem")) == WeighedOut.problem:
                continue
            if problem:
                raise SolonError(
                    f"{source.model!r} gives pair {made['id']!r} no label ({problem}), so it "
                    "can't be compared: remove it, or use another model"
                )
            labelled.append(cast(PreferenceRecord, made))
            watcher.advance("labels", len(labelled), len(wanted))
    return labelled
