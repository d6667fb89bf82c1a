"""What a run's records prove: where its labels came from, and that all in it follows from what it kept."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from solon.audit import held_out, human_labels, labels, manifest, provenance, texts
from solon.audit.run import Check, Found, Run
from solon.errors import SolonError
from solon.store.run_folder import Json, read

SHOWN = 3  # faults named of each check; all are counted

# A further check is a function of a Run in the file of its kind, and a line here.
CHECKS: Mapping[str, Callable[[Run], Found]] = {
    "no harmlessness label is human": provenance.no_human_harm,
    "no model learned people's ratings of harm": provenance.no_harm_scorer,
    "human labels are helpfulness comparisons of the file": provenance.human_labels,
    "people's labels are not of harm": human_labels.not_of_harm,
    "AI labels are votes of the feedback model under the constitution": labels.ai_labels,
    "labels by a pair's making are those of pairs made so": labels.made_labels,
    "the answers compared are those of the pairs": labels.compared_answers,
    "supervised examples are sound revisions or helpful answers": texts.supervised_examples,
    "revisions, answers and pairs are of training prompts": texts.prompts_of_stages,
    "held-out prompts were not trained on": held_out.held_out_prompts,
    "held-out comparisons were not trained on": held_out.held_out_comparisons,
    "the manifest fits settings and records": manifest.manifest_fits,
    "files and models are those recorded": manifest.hashes,
}


def audit(path: Path, again: int = 0) -> tuple[list[Json], list[Check]]:
    """The labels by who gave them, and the checks. Raises SolonError where ``path`` is no run folder."""
    run = Run(path, read(path, kinds={}), again)  # what does not fit is for the checks to tell
    return provenance.labels(run), [checked(name, check, run) for name, check in CHECKS.items()]


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
    return any(check.status == "FAILED" for check in checks)


def as_json(found: Sequence[Json], checks: Sequence[Check]) -> str:
    return json.dumps(
        {
            "ok": not failed(checks),
            "labels": list(found),
            "checks": [{"name": check.name, "status": check.status, "says": check.says} for check in checks],
        },
        indent=2,
    )
