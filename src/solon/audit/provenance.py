"""Who gave the labels, and that no model knows what people say of harm."""

from collections import Counter
from pathlib import Path
from typing import Any

from solon.audit.run import Found, Run, by_id
from solon.config import UNSAFE
from solon.feedback import MODELS_OWN
from solon.measuring_only import is_measuring_only
from solon.sources import data
from solon.sources.tables import label
from solon.store.run_folder import Json


def labels(run: Run) -> list[Json]:
    """Labels by aspect, source and labeller: how many, and how many votes under each principle."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for record in run.folder.preferences:
        key = tuple(str(record.get(name)) for name in ("aspect", "label_source", "labeller"))
        groups.setdefault(key, []).append(record)  # type: ignore[arg-type]
    return [
        {
            "aspect": aspect,
            "label_source": source,
            "labeller": labeller,
            "labels": len(records),
            "trained_on": sum(record.get("split") == "train" for record in records),
            "votes": dict(
                Counter(
                    str(vote.get("principle")) for record in records for vote in record.get("votes") or []
                ).most_common()
            ),
        }
        for (aspect, source, labeller), records in groups.items()
    ]


def no_human_harm(run: Run) -> Found:
    harm = [record for record in run.folder.preferences if record["aspect"] != "helpfulness"]
    wrong = [
        f"{record['id']} is by {record['label_source']} ({record['labeller']})"
        for record in harm
        if record["label_source"] not in MODELS_OWN
    ]
    return Found(f"{len(harm) - len(wrong)} of {len(harm)} harmlessness labels are AI feedback", wrong)


def no_harm_scorer(run: Run) -> Found:
    """A harm scorer, and what is trained from one, bear a mark; see ``measuring_only``."""
    named = {str(model.get("name")) for model in (run.folder.manifest.get("models") or {}).values()}
    trained = {str(folder.parent) for folder in run.path.glob("0*/**/config.json")}
    folders = {name: Path(name.removeprefix(UNSAFE)) for name in sorted(named | trained)}
    wrong = [f"{name} did" for name, folder in folders.items() if is_measuring_only(folder)]
    here = sum((folder / "config.json").exists() for folder in folders.values())
    return Found(f"{here} models that the run uses or made bear no mark of a harm scorer", wrong)


def human_labels(run: Run) -> Found:
    human = [record for record in run.folder.preferences if record["label_source"] not in MODELS_OWN]
    if not human:
        return Found("0 human labels")
    source = str(run.settings.get("preference_model.helpfulness") or "")
    held_out = run.settings.get("preference_model.held_out", 0.1)
    given: dict[str, Any] | None = None
    if Path(source).is_file():
        given = by_id(data.looked_at(source, held_out)[0])
    wrong = []
    for record in human:
        faults = {
            f"is a label of {record['aspect']}": record["aspect"] != "helpfulness",
            f"is of {record['labeller']}, not {label(source)}": record["labeller"] != label(source),
            "is a human label with an AI's votes": bool(record["votes"]),
            # The file's split may be overruled by the prompts held out from everything, checked elsewhere.
            "is not in the file": given is not None
            and {**given.get(record["id"], {}), "split": record["split"]} != record,
        }
        wrong += [f"{record['id']} {fault}" for fault, is_so in faults.items() if is_so]
    where = "all looked up there" if given is not None else "which is not here to look them up"
    return Found(f"{len(human)} human labels from {label(source)}, {where}", wrong)
