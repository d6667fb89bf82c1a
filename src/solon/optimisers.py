"""What optimises the policy: the one table of the ways to it, by their names in ``reinforce.algorithm``.

Nobody else compares these names: what differs from one way to another is asked of its entry. A further way is
a file in ``solon.policy``, its entry here and its name in the configuration. As in ``solon.method``, nothing
of what trains is imported, so that configuring and planning load no trainer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal


@dataclass(frozen=True)
class Optimiser:
    """A way to the policy, and what it needs."""

    function: str  # trains: "module:name", of ``solon.policy.task.Task``
    learns_from: Literal["samples", "pairs"] = "samples"  # of the policy's, scored; or labelled ones
    samples: int = 1  # fewest answers to one prompt that it can learn from
    scores_samples: bool = True  # always: in a pass of its own, with the policy that drew them

    def train(self, task: object) -> dict[str, float]:
        """Train the task's policy and leave it in the task's folder. Returns the last step's metrics."""
        module, _, name = self.function.partition(":")
        function: Callable[[object], dict[str, float]] = getattr(import_module(module), name)
        return function(task)

    def passes(self, epochs: int) -> int:
        """Passes over a step's samples without gradient: the reference's, and one of the policy itself.

        The latter's figures are those of the first of its ``epochs`` too, which may be the only one.
        """
        return 1 + (self.scores_samples or epochs > 1)


OPTIMISERS = {
    "rloo": Optimiser("solon.policy.rloo:train", samples=2),
    "grpo": Optimiser("solon.policy.grpo:train", samples=2, scores_samples=False),
    "dr-grpo": Optimiser("solon.policy.dr_grpo:train", samples=2, scores_samples=False),
    "ppo": Optimiser("solon.policy.ppo:train"),
    "dpo": Optimiser("solon.policy.dpo:train", learns_from="pairs"),
    "ipo": Optimiser("solon.policy.ipo:train", learns_from="pairs"),
}
