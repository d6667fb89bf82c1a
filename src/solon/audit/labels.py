"""Every label from what it was made of: votes, or the making of its pair."""

from collections.abc import Sequence
from typing import Any

from solon.audit.run import SETTING_OF, Found, Run, by_id, repeated
from solon.feedback import METHODS, MODELS_OWN, labelling
from solon.feedback.made import ByMaking
from solon.feedback.method import Method


def ai_labels(run: Run) -> Found:
    judged, method = not_by_people(run), method_of(run)
    if isinstance(method, ByMaking):
        return Found("0 labels by votes")
    votes = sum(len(record["votes"]) for record in judged)
    return Found(f"{len(judged)} labels with {votes} votes by {feedback_model(run)}", *faults(run, judged))


def made_labels(run: Run) -> Found:
    made = not_by_people(run)
    if not isinstance(method_of(run), ByMaking):
        return Found("0 labels by the pairs' making")
    return Found(f"{len(made)} labels by the pairs' making", *faults(run, made))


def faults(run: Run, labels: Sequence[Any]) -> tuple[list[str], list[str]]:
    """What is wrong with labels by the run's method, and what cannot be known of them."""
    pairs, wrong, seed = by_id(run.folder.pairs), [], run.seed("feedback")
    laws = {aspect: run.law(setting) for aspect, setting in SETTING_OF.items()}
    for record in labels:
        source, rules = record["label_source"], laws[record["aspect"]]
        method, settings = method_of(run), run.config.feedback
        if rules:
            method, settings = labelling(settings, rules, record["aspect"])
        other_source = f"has the source {source}, and feedback.method is {method.name}"
        holds = {other_source: source != method.label_source}
        holds |= method.faults(record, pairs.get(record["id"]), rules, settings, feedback_model(run), seed)
        wrong += [f"{record['id']} {fault}" for fault, is_so in holds.items() if is_so]
    gone = {record["aspect"] for record in labels if laws[record["aspect"]] is None}
    return wrong, [f"principles of {aspect}: their constitution is no longer here" for aspect in sorted(gone)]


def not_by_people(run: Run) -> list[Any]:
    return [record for record in run.folder.preferences if record["label_source"] != "human"]


def method_of(run: Run) -> Method:
    return METHODS[run.config.feedback.method]


def feedback_model(run: Run) -> str | None:
    name: str | None = (run.folder.manifest.get("models", {}).get("feedback") or {}).get("name")
    return name


def compared_answers(run: Run) -> Found:
    pairs = by_id(run.folder.pairs)
    labelled = [record for record in run.folder.preferences if record["label_source"] in MODELS_OWN]
    wrong = repeated(run.folder.preferences)
    for record in labelled:
        pair = pairs.get(record["id"])
        answers = sorted(record[side][-1]["content"] for side in ("chosen", "rejected"))
        if pair is None or pair["problem"]:
            wrong.append(f"{record['id']} is no sound pair of 04-comparison")
        elif answers != sorted(pair["responses"]) or record["prompt"] != pair["prompt"]:
            wrong.append(f"{record['id']} has another text than in 04-comparison")
        elif record["split"] != pair["split"]:
            wrong.append(f"{record['id']} is in the {record['split']} split, its pair is not")
    sound = {pair["id"] for pair in run.folder.pairs if not pair["problem"]}
    if run.done("feedback"):
        wrong += [f"{name} has no label" for name in sorted(sound - {record["id"] for record in labelled})]
    return Found(f"{len(labelled)} AI labels of {len(sound)} sound pairs", wrong)
