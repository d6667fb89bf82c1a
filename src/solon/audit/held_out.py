"""What was held out, and that nothing learned from it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from solon.audit.run import Found, Run
from solon.held_out import opening


def held_out_prompts(run: Run) -> Found:
    kept = {opening(prompt["prompt"]) for prompt in run.folder.prompts if prompt["split"] != "train"}
    trained: dict[str, Iterable[Any]] = {
        "supervised examples": run.folder.examples,
        "revisions": run.folder.revisions,
        "helpful answers": run.folder.helpful,
        "pairs": run.folder.pairs,
        "labels trained on": (record for record in run.folder.preferences if record["split"] == "train"),
        "prompts": (prompt for prompt in run.folder.prompts if prompt["split"] == "train"),
        "prompts written for RL": run.folder.rl_prompts,
        "RL samples": run.folder.samples,
    }
    wrong = [
        f"{record['id']} of the {what} has a held-out prompt"
        for what, records in trained.items()
        for record in records
        if opening(record["prompt"]) in kept
    ]
    wrong += [
        f"{record['id']} is evaluated on, but its prompt is not held out"
        for record in run.folder.answers
        if opening(record["prompt"]) not in kept
    ]
    return Found(f"{len(kept)} prompts held out, {len(run.folder.answers)} evaluated on", wrong)


def held_out_comparisons(run: Run) -> Found:
    sides: dict[tuple[str, str], set[str]] = {}
    for record in run.folder.preferences:
        sides.setdefault((record["aspect"], opening(record["prompt"])), set()).add(record["split"])
    wrong = [f"{prompt!r:.60} is in both splits" for (_, prompt), splits in sides.items() if len(splits) > 1]
    splits = Counter(record["split"] for record in run.folder.preferences)
    wrong += [f"there is a split {split!r}" for split in splits if split not in {"train", "held-out"}]
    trained = (run.stages.get("preference-model") or {}).get("records")
    if trained and run.done("preference-model") and trained != splits["train"]:
        wrong.append(f"the preference model was trained on {trained} comparisons, not {splits['train']}")
    return Found(f"{splits['held-out']} comparisons held out, {splits['train']} to train on", wrong)
