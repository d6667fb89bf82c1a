"""Stage 7 in a run folder: RL-CAI, the SL-CAI model trained against the preference model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import SETS, PromptRecord


def train(
    bench: Workbench, prompts: Sequence[PromptRecord], policy: str, preference_model: str, out: Path
) -> dict[str, float]:
    """RL on the prompts; returns the last step's metrics."""
    return bench.train("reinforce", prompts, [policy, preference_model], out, bench.seed("reinforce"))


def run(work: Workspace) -> Done:
    settings = work.config.reinforce
    prompts = [prompt for prompt_set in SETS for prompt in work.prompts(prompt_set, "train")]
    figures = train(work, prompts, work.sl_cai, work.preference_model, Path(work.rl_cai))
    notes = []
    if "stopped_at_kl" in figures:
        notes.append(
            f"RL stopped at step {figures['step']:.0f} of {settings.steps}: its KL of "
            f"{figures['stopped_at_kl']:.1f} nats passed the limit of {settings.kl_limit:g}."
        )
    return Done(len(prompts), notes)


def inputs(work: Workspace) -> dict[str, Any]:
    return {"reinforce": work.config.reinforce.model_dump()}
