"""What a run's stages wrote, finished or not: how often texts refuse, and how sure labels are."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from solon.evaluation.calibration import wilson
from solon.records import PairRecord, PreferenceRecord, RevisionRecord
from solon.store.record_file import RecordFile
from solon.texts.refusal import classify


def of(run: Path) -> dict[str, Any]:
    """Figures of all texts by what they are, and of the labels by aspect."""
    texts: dict[str, list[str]] = defaultdict(list)
    revised: list[RevisionRecord] = records(run / "02-critique/revisions.jsonl")
    for each in revised:
        texts["assistant's answers"].append(each["answer"])
    for number in range(max((len(each["rounds"]) for each in revised), default=0)):
        rounds = [each["rounds"][number] for each in revised if number < len(each["rounds"])]
        texts[f"revision {number + 1}"] = [made["revision"] for made in rounds if not made["problem"]]
    pairs: list[PairRecord] = records(run / "04-comparison/pairs.jsonl")
    for pair in pairs:
        texts[f"SL-CAI's answers, {pair['set']} prompts"] += pair["responses"]
    strengths: dict[str, list[float]] = defaultdict(list)
    labelled: list[PreferenceRecord] = records(run / "05-feedback/preferences.jsonl")
    for label in labelled:
        strengths[label["aspect"]].append(label["probability"])
        for side in ("chosen", "rejected"):
            texts[f"{side} for {label['aspect']}"].append(label[side][-1]["content"])
    return {
        "texts": {name: wording(mine) for name, mine in texts.items() if mine},
        "labels": {name: {"pairs": len(each), "mean": fmean(each)} for name, each in strengths.items()},
    }


def wording(texts: list[str]) -> dict[str, Any]:
    refused = sum(classify(text) == "refusal" for text in texts)
    return {
        "texts": len(texts),
        "refuses": [refused / len(texts), *wilson(refused, len(texts))],
        "words": fmean(len(text.split()) for text in texts),
    }


def records(path: Path) -> list[Any]:
    return RecordFile(path).read() if path.exists() else []
