"""``solon audit``: where a run's training labels came from."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from solon.cli.options import AsJson
from solon.feedback import MAKINGS

LABELLED = {"human": "people, from", **dict.fromkeys(MAKINGS, "nobody:")}


def audit(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: AsJson = False) -> None:
    """Prove from a run's records where every training label came from. Exit status 1 where a check fails."""
    from solon import audit as audits  # brings the report's libraries, which take a second to import

    labels, checks = audits.audit(run)
    if as_json:
        print(audits.as_json(labels, checks))
    else:
        for group in labels:
            by = LABELLED.get(group["label_source"], "AI feedback of")
            print(f"{group['aspect']}: {group['labels']} labels by {by} {group['labeller']}")
            for principle, votes in group["votes"].items():
                print(f"  {votes} votes under {principle!r}")
        for check in checks:
            print(f"{check.status}: {check.name}: {check.says}")
    if audits.failed(checks):
        sys.exit(1)
