"""Every label worked out again from what it was made of: its votes, or the making of its pair."""

from collections.abc import Sequence
from typing import Any

from solon.audit import panel
from solon.audit.run import SETTING_OF, Found, Run, by_id, repeated
from solon.errors import WeighedOut
from solon.feedback import METHODS, MODELS_OWN, labelling, weights
from solon.feedback.made import ByMaking
from solon.feedback.method import Method
from solon.feedback.panel import by_judge, labeller, named
from solon.records import ASPECT_OF, KINDS
from solon.store.record_file import RecordFile


def ai_labels(run: Run) -> Found:
    judged = not_by_people(run)
    if isinstance(method_of(run), ByMaking):
        return Found("0 labels by votes")
    votes = [vote for record in judged for vote in record["votes"]]
    wrong, unknown = faults(run, judged)
    wrong += wrongly_weighed_out(run)
    if mute := sum(not {"letters", "readings"} & vote.keys() for vote in votes):
        unknown.append(
            f"which answer {mute} votes are for: they keep what the model said only as a probability"
        )
    return Found(
        f"{counted(judged, wrong)} recomputed from {len(votes)} votes by {feedback_model(run)}",
        wrong,
        unknown,
    )


def unlabelled(run: Run) -> list[Any]:
    return RecordFile(run.path / "05-feedback/unlabelled.jsonl", KINDS["unlabelled"]).read()


def wrongly_weighed_out(run: Run) -> list[str]:
    """What is wrong with pairs that are said to have no label since every vote on them weighs nothing."""
    wrong, of_panel = [], panel.kept(run)
    for pair in unlabelled(run):
        votes, aspect = pair.get("votes") or [], ASPECT_OF[pair["set"]]
        rules, ballots = run.law(SETTING_OF[aspect]), by_judge(votes)
        drawn = []
        if rules:
            method, settings = labelling(run.config.feedback, rules, aspect)
            drawn = method.drawn(pair["id"], rules, settings, run.seed("feedback"))
        went_by = [(each.name, each.instruction, each.weight) for each in drawn]
        said = {name: [of_pair[pair["id"]]] for name, of_pair in of_panel.items() if pair["id"] in of_pair}
        weighed = pair["problem"] == WeighedOut.problem
        holds = {
            "has votes, and a problem that is not theirs": bool(votes) and not weighed,
            "has no label, though its votes count": weighed and (not votes or weights.count(votes)),
            "has no label by votes that its constitution does not make so": weighed
            and rules is not None
            and any(
                went_by != [(vote["principle"], vote["instruction"], weights.weight(vote)) for vote in ballot]
                for ballot in ballots.values()
            ),
            "has no label by other votes than the panel gave": weighed
            and bool(of_panel)
            and votes != [vote for [ballot] in said.values() for vote in named(ballot)],
        }
        wrong += [f"{pair['id']} {fault}" for fault, is_so in holds.items() if is_so]
    return wrong


def made_labels(run: Run) -> Found:
    made = not_by_people(run)
    if not isinstance(method_of(run), ByMaking):
        return Found("0 labels by the pairs' making")
    wrong, unknown = faults(run, made)
    return Found(f"{counted(made, wrong)} recomputed from their pairs' making", wrong, unknown)


def counted(labels: Sequence[Any], wrong: Sequence[str]) -> str:
    faulty = {fault.split()[0] for fault in wrong}
    return f"{sum(record['id'] not in faulty for record in labels)} of {len(labels)} labels"


def faults(run: Run, labels: Sequence[Any]) -> tuple[list[str], list[str]]:
    """What is wrong with labels by the run's method, and what cannot be known of them."""
    pairs, wrong, seed = by_id(run.folder.pairs), [], run.seed("feedback")
    of_panel = panel.kept(run)
    laws = {aspect: run.law(setting) for aspect, setting in SETTING_OF.items()}
    for record in labels:
        source, rules = record["label_source"], laws[record["aspect"]]
        method, settings = method_of(run), run.config.feedback
        if rules:
            method, settings = labelling(settings, rules, record["aspect"])
        pair = pairs.get(record["id"])
        other_source = f"has the source {source}, and feedback.method is {method.name}"
        holds = {other_source: source != method.label_source}
        holds |= method.faults(record, pair, rules, settings, feedback_model(run), seed)
        holds |= panel.faults(record, pair, of_panel)
        wrong += [f"{record['id']} {fault}" for fault, is_so in holds.items() if is_so]
    gone = {record["aspect"] for record in labels if laws[record["aspect"]] is None}
    unknown = [f"principles of {aspect}: their constitution is no longer here" for aspect in sorted(gone)]
    return wrong, unknown


def compared_answers(run: Run) -> Found:
    pairs = by_id(run.folder.pairs)
    labelled = [record for record in run.folder.preferences if record["label_source"] in MODELS_OWN]
    wrong = repeated(run.folder.preferences)
    for record in labelled:
        pair = pairs.get(record["id"])
        answers = sorted(record[side][-1]["content"] for side in ("chosen", "rejected"))
        if pair is None or pair["problem"]:
            wrong.append(f"{record['id']} is no sound pair of 04-comparison")
            continue
        if answers != sorted(pair["responses"]) or not all(
            len(record[a]) == 1 for a in ("chosen", "rejected")
        ):
            wrong.append(f"{record['id']} has another text than in 04-comparison")
        if record["aspect"] != ASPECT_OF[pair["set"]]:
            wrong.append(f"{record['id']} is a label of {record['aspect']}, its prompt is {pair['set']}")
        if any(record[what] != pair[what] for what in ("prompt", "kind", "split")):
            wrong.append(f"{record['id']} has another prompt, kind or split than its pair")
    # Pairs that the feedback model could not read have no label.
    aside = unlabelled(run)
    unread = [pair["id"] for pair in aside if pair["problem"] != WeighedOut.problem]
    wrong += panel.judged_all_the_same(unread, panel.kept(run))
    sound = {pair["id"] for pair in run.folder.pairs if not pair["problem"]} - by_id(aside).keys()
    if run.done("feedback"):
        wrong += [f"{name} has no label" for name in sorted(sound - by_id(labelled).keys())]
    return Found(f"{len(labelled)} AI labels of {len(sound)} sound pairs", wrong)


def not_by_people(run: Run) -> list[Any]:
    return [record for record in run.folder.preferences if record["label_source"] != "human"]


def method_of(run: Run) -> Method:
    return METHODS[run.config.feedback.method]


def feedback_model(run: Run) -> str | None:
    """Who labelled, as labels call it."""
    return labeller(panel.judges(run)) or None
