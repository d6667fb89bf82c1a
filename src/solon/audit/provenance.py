"""Who gave the labels, and that no model knows what people say of harm."""

from collections import Counter
from pathlib import Path
from typing import Any

from solon.audit.run import Found, Run, by_id
from solon.feedback import MODELS_OWN
from solon.sources import data
from solon.sources.tables import label, source_name
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


def human_harm_as_named(run: Run) -> Found:
    """In the arm that asks for people's labels of harm: that they are those of the file it names."""
    source = run.config.preference_model.harmlessness
    harm = [record for record in run.folder.preferences if record["aspect"] != "helpfulness"]
    wrong = [
        f"{record['id']} is by {record['label_source']} ({record['labeller']})"
        for record in harm
        if (record["label_source"], record["labeller"]) != ("human", label(source))
    ]
    named = source_name(source)
    if (told := run.folder.manifest.get("human_harm_labels")) != named:
        wrong.append(f"the manifest names {told} as their source, config.yaml {named}")
    return Found(
        f"PEOPLE'S LABELS OF HARM WERE USED: {len(harm)} harmlessness labels are from {label(source)} "
        "(preference_model.harmlessness)",
        wrong,
    )


def human_labels(run: Run) -> Found:
    human = [record for record in run.folder.preferences if record["label_source"] not in MODELS_OWN]
    if not human:
        return Found("0 human labels")
    settings = run.config.preference_model
    sources = settings.by_people
    given = {
        aspect: by_id(data.looked_at(source, settings.held_out, aspect)[0])
        for aspect, source in sources.items()
        if Path(source).is_file()
    }
    wrong = []
    for record in human:
        aspect = record["aspect"]
        source = label(sources.get(aspect, ""))
        faults = {
            f"is a label of {aspect}, which no file was named for": aspect not in sources,
            f"is of {record['labeller']}, not {source}": record["labeller"] != source,
            "is a human label with an AI's votes": bool(record["votes"]),
            # The file's split may be overruled by the prompts held out from everything, checked elsewhere.
            "is not in the file": aspect in given
            and {**given[aspect].get(record["id"], {}), "split": record["split"]} != record,
        }
        wrong += [f"{record['id']} {fault}" for fault, is_so in faults.items() if is_so]
    where = "all looked up there" if given.keys() == sources.keys() else "not all here to look them up"
    files = " and ".join(map(label, sources.values()))
    return Found(f"{len(human)} human labels from {files}, {where}", wrong)
