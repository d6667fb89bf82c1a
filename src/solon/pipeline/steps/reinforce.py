"""Stage 7 in a run folder: RL-CAI, the SL-CAI model trained against the preference model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solon.pipeline.steps import red_team
from solon.pipeline.steps.inputs import of_model
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.records import SETS, PromptRecord
from solon.store.record_file import RecordFile


def train(
    bench: Workbench, prompts: Sequence[PromptRecord], policy: str, preference_model: str, out: Path
) -> tuple[dict[str, float], int]:
    """RL on the training prompts and what is written for it alone; the last step's metrics, and how many."""
    more = red_team.write_for_rl(bench, prompts, RecordFile(out / "generated.jsonl", PromptRecord))
    wanted = [*(record for record in prompts if record["split"] == "train"), *more]
    models = [policy, preference_model]
    return bench.train("reinforce", wanted, models, out, bench.seed("reinforce")), len(wanted)


def run(work: Workspace) -> Done:
    settings = work.config.reinforce
    prompts = [
        prompt
        for split in ("train", "held-out")
        for prompt_set in SETS
        for prompt in work.prompts(prompt_set, split)
    ]
    figures, count = train(work, prompts, work.sl_cai, work.preference_model, Path(work.rl_cai))
    notes = []
    asked = settings.generate.red_team + settings.generate.helpful
    if asked:
        written = count - sum(prompt["split"] == "train" for prompt in prompts)
        notes.append(f"{written} of {asked} prompts asked for were generated for RL alone.")
    if "stopped_at_kl" in figures:
        notes.append(
            f"RL stopped at step {figures['step']:.0f} of {settings.steps}: its KL of "
            f"{figures['stopped_at_kl']:.1f} nats passed the limit of {settings.kl_limit:g}."
        )
    return Done(count, notes)


def inputs(work: Workspace) -> dict[str, Any]:
    settings = work.config.reinforce
    writes = settings.generate.red_team or settings.generate.helpful
    return {"reinforce": settings.model_dump(), **(of_model(work, "assistant") if writes else {})}
