"""Every stage in a run folder, a file each: what it takes from there, and what decides its result.

Beside ``run`` and ``inputs`` a file has the stage's door: what the stage's own command calls as well.
"""

from importlib import import_module
from typing import Any, Protocol, cast

from solon.method import Stage
from solon.pipeline.workspace import Done, Workspace


class Step(Protocol):
    def run(self, work: Workspace) -> Done:
        """Do the stage, or what is missing of it."""

    def inputs(self, work: Workspace) -> dict[str, Any]:
        """What decides its result, beside the stages before it."""


def of(stage: Stage) -> Step:
    """The stage's step."""
    return cast(Step, import_module(stage.step))
