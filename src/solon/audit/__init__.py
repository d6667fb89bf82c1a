"""What a run's records prove: where its labels came from, and that all in it follows from what it kept."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from solon.audit import (
    again,
    evaluation,
    held_out,
    human_labels,
    labels,
    manifest,
    models,
    prompts,
    provenance,
    rewards,
    scores,
    texts,
    training,
    trust,
)
from solon.audit.run import Check, Found, Run
from solon.errors import SolonError
from solon.store.run_folder import Json, read

SHOWN = 3  # faults named of each check; all are counted

# A further check is a function of a Run in the file of its kind, and a line here.
CHECKS: Mapping[str, Callable[[Run], Found]] = {
    "human labels are those of the files named": provenance.human_labels,
    "people's helpfulness labels are not of harm": human_labels.not_of_harm,
    "AI labels are votes of the feedback model under the constitution": labels.ai_labels,
    "labels by a pair's making are those of pairs made so": labels.made_labels,
    "labels are of a labeller above chance, or asked for by name": trust.trusted,
    "the answers compared are those of the pairs": labels.compared_answers,
    "prompts are those drawn from their sources": prompts.drawn,
    "revisions, answers and pairs are of training prompts": prompts.of_stages,
    "revisions and answers are what their stage makes of their texts": texts.revisions,
    "supervised examples are sound revisions or helpful answers": texts.supervised_examples,
    "pairs are what their stage makes of their texts": texts.pairs,
    "trainings took their steps": training.steps,
    "RL's rewards are those of its samples": training.rewards,
    "what rewarded RL's samples": rewards.follow_from_votes,
    "scores are the preference model's": scores.rescored,
    "the preference model's figures are those of its scores": scores.agreement,
    "losses and RL's policies": training.unkept,
    "answers side by side are those of the models": evaluation.answers,
    "judgements follow from their orders": evaluation.judgements,
    "Elo scores follow from the judgements": evaluation.elo,
    "held-out prompts were not trained on": held_out.held_out_prompts,
    "held-out comparisons were not trained on": held_out.held_out_comparisons,
    "votes are what the feedback model says": again.votes,
    "votes on RL's samples are what it says": again.sample_votes,
    "judgements are what the judge says": again.judgements,
    "texts are what their models write": again.written,
    "the manifest fits settings and records": manifest.manifest_fits,
    "files and models are those recorded": manifest.hashes,
    "what stages left has not changed": manifest.files,
    "the report is as it was written": manifest.report,
}

# Of people's labels of harm: that there are none, or else that the run is called by them.
WITHOUT: Mapping[str, Callable[[Run], Found]] = {
    "no harmlessness label is human": provenance.no_human_harm,
    "no model learned people's labels of harm": models.marked,
}
ARM: Mapping[str, Callable[[Run], Found]] = {
    "human harm labels used, by the arm's name": provenance.human_harm_as_named,
    "what learned people's labels of harm is marked": models.marked,
}


def audit(path: Path, again: int = 0) -> tuple[list[Json], list[Check]]:
    """The labels by who gave them, and the checks. Raises SolonError where ``path`` is no run folder."""
    run = Run(path, read(path, kinds={}), again)  # what does not fit is for the checks to tell
    checks = {**(ARM if run.folder.human_harm else WITHOUT), **CHECKS}
    return provenance.labels(run), [checked(name, check, run) for name, check in checks.items()]


def checked(name: str, check: Callable[[Run], Found], run: Run) -> Check:
    try:
        found = check(run)
    except (SolonError, LookupError, TypeError, ValueError, AttributeError) as error:
        return Check(name, "FAILED", f"something cannot be read ({type(error).__name__}: {error})")
    says = [found.counted]
    if found.wrong:
        says.append(f"{len(found.wrong)} wrong: {some(found.wrong)}")
    if found.unknown:
        says.append(f"unknown: {some(found.unknown)}")
    return Check(name, "FAILED" if found.wrong else "unknown" if found.unknown else "ok", "; ".join(says))


def some(phrases: Sequence[str]) -> str:
    more = [f"and {len(phrases) - SHOWN} more"] if len(phrases) > SHOWN else []
    return "; ".join([*phrases[:SHOWN], *more])


def failed(checks: Sequence[Check]) -> bool:
    return not all(check.ok for check in checks)


def as_json(found: Sequence[Json], checks: Sequence[Check]) -> str:
    return json.dumps(
        {
            "ok": not failed(checks),
            "labels": list(found),
            "checks": [{"name": check.name, "status": check.status, "says": check.says} for check in checks],
        },
        indent=2,
    )
