"""A panel's labels held against what each judge was recorded to vote."""

from collections.abc import Iterable, Mapping
from typing import Any

from solon.audit.run import Run, by_id
from solon.feedback.method import turned
from solon.feedback.panel import by_judge, named
from solon.pipeline.steps.feedback import votes_beside
from solon.records import Ballot, PairRecord, PreferenceRecord

Kept = Mapping[str, Mapping[str, Ballot]]  # by judge, then by pair


def judges(run: Run) -> list[str]:
    """The models that labelled, as the manifest has them; the feedback model is the first."""
    models: Mapping[str, Any] = run.folder.manifest.get("models") or {}
    panel = [role for role in models if role == "feedback" or role.startswith("feedback-")]
    return [str((models[role] or {}).get("name")) for role in panel]


def kept(run: Run) -> Kept:
    """What each judge of a panel said of every pair; {} where one model labelled."""
    names = judges(run)
    if len(names) < 2:
        return {}
    labels = run.path / "05-feedback/preferences.jsonl"
    return {name: by_id(votes_beside(labels, number)) for number, name in enumerate(names, 1)}


def faults(label: PreferenceRecord, pair: PairRecord | None, ballots: Kept) -> dict[str, bool]:
    """What could be wrong with whose votes a label has, and whether it is."""
    votes = by_judge(label["votes"])
    if not ballots:
        return {f"has votes of {name}, and there is no panel": True for name in votes if name}
    found = {f"has votes of {name or 'nobody'}, no judge of the panel": name not in ballots for name in votes}
    first = pair is not None and label["chosen"][-1]["content"] == pair["responses"][0]
    for name, of_judge in ballots.items():
        ballot = of_judge.get(label["id"])
        found[f"has no votes of {name}, and nothing says why"] = name not in votes and not (
            ballot and ballot["problem"]
        )
        if name in votes:
            given = named(ballot) if ballot else []
            given = given if first else [turned(vote) for vote in given]  # to the last bit as it was then
            found[f"has other votes than {name} gave"] = votes[name] != given
    return found


def judged_all_the_same(unlabelled: Iterable[str], ballots: Kept) -> list[str]:
    """Pairs that have no label although a judge of the panel judged them."""
    return [
        f"{pair} has no label, and {name} judged it"
        for pair in unlabelled
        for name, of_judge in ballots.items()
        if pair in of_judge and not of_judge[pair]["problem"]
    ]
