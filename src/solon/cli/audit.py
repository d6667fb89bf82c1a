"""``solon audit``: where a run's training labels came from, and that all in it follows from its records."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from solon.cli.options import AsJson
from solon.cli.show import quiet_libraries
from solon.feedback import MAKINGS

LABELLED = {"human": "people, from", **dict.fromkeys(MAKINGS, "nobody:")}


def audit(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    again: Annotated[
        int, typer.Option(min=0, help="Ask the models this many questions of each kind anew, and compare.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Prove a run's labels, examples, rewards and figures from its records. Status 1 where a check fails.

    "unknown" is what cannot be proven from what is here; the models' own answers are proven by --again alone.
    """
    from solon import audit as audits  # brings the report's libraries, which take a second to import

    quiet_libraries()
    labels, checks = audits.audit(run, again)
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
