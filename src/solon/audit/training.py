"""What trainings recorded: their steps, and RL's rewards against what it sampled."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from solon.audit.run import Found, Run, by_id
from solon.method import STAGES, trains
from solon.policy.length_control import LengthControl
from solon.records import SampleRecord
from solon.store.record_file import RecordFile

ROUNDED = 1e-4  # of a mean of float32 numbers, for each unit of its size


def steps(run: Run) -> Found:
    """Every training's metrics: one line a step, at the learning rate asked for, up to its end."""
    wrong, unknown, counts = [], [], []
    for stage in STAGES:
        rows = run.folder.metrics.get(stage.name) or []
        if not stage.training or not (rows or run.done(stage.name)):
            continue
        counts.append(f"{len(rows)} steps of {stage.training.model}")
        if [row["step"] for row in rows] != list(range(1, len(rows) + 1)):
            wrong.append(f"the steps of {stage.name} are not 1 to {len(rows)}")
        settings = getattr(run.config, stage.training.section)
        # The preference model's falls to zero.
        rates = {row["learning_rate"] for row in rows} if stage.name != "preference-model" else set()
        if any(not math.isclose(rate, settings.learning_rate, rel_tol=ROUNDED) for rate in rates):
            wrong.append(f"{stage.name} was at a learning rate of {max(rates)}, not {settings.learning_rate}")
        if run.done(stage.name) and len(rows) != (meant := planned(run, stage.name)):
            ended = stage.name == "reinforce" and rows and rows[-1].get("kl", 0) > settings.kl_limit
            if len(rows) > meant or not (ended or stage.name != "reinforce"):
                wrong.append(f"{stage.name} took {len(rows)} steps, not {meant}")
            elif not ended:
                unknown.append(
                    f"why {stage.name} took {len(rows)} of {meant} steps: rows left out as too long"
                )
    return Found(", ".join(counts) or "0 steps", wrong, unknown)


def planned(run: Run, stage: str) -> int:
    """How many steps a training takes that leaves nothing out."""
    settings = getattr(run.config, trains(stage).section)
    if stage == "reinforce":
        return int(settings.steps)
    rows = len(run.folder.trained_on(stage))
    return int(settings.epochs) * math.ceil(rows / int(settings.batch_size))


def rewards(run: Run) -> Found:
    """Every step's reward in ``metrics.jsonl`` is the mean of its samples', which are of training prompts."""
    if run.folder.learns_from == "pairs":
        return Found("0 samples: the policy learned from labelled pairs")
    settings, prompts = run.config.reinforce, by_id([*run.folder.prompts, *run.folder.rl_prompts])
    by_step: dict[int, list[SampleRecord]] = {}
    for sample in run.folder.samples:
        by_step.setdefault(sample["step"], []).append(sample)
    counted = f"{len(run.folder.samples)} samples, {len(by_step)} steps' rewards recomputed from them"
    wrong, size = [], settings.prompts_per_step * settings.samples_per_prompt
    length = LengthControl(RecordFile(run.path / "nothing earlier")) if settings.length_control else None
    rows: Mapping[int, Any] = {row["step"]: row for row in run.folder.metrics["reinforce"]}
    for step, samples in sorted(by_step.items()):
        if [sample["id"] for sample in samples] != [f"{step}/{number}" for number in range(size)]:
            wrong.append(f"step {step} has {len(samples)} samples, or other ones than {step}/0 to {size - 1}")
        wrong += [
            f"{sample['id']} answers no training prompt"
            for sample in samples
            if (prompt := prompts.get(sample.get("prompt_id", ""))) is None
            or prompt["split"] != "train"
            or prompt["prompt"] != sample["prompt"]
        ]
        wrong += groups(samples, settings.samples_per_prompt)
        given = [sample["reward"] for sample in samples]
        if length:
            asked = [sample.get("prompt_id", "") for sample in samples]
            given = length.controlled(step, asked, [sample["response"] for sample in samples], given)
        if settings.truncated == "penalty":
            given = [
                score - settings.truncation_penalty * sample.get("truncated", False)
                for score, sample in zip(given, samples, strict=True)
            ]
        if step in rows and not math.isclose(
            fmean(given), rows[step]["reward"], rel_tol=ROUNDED, abs_tol=ROUNDED
        ):
            wrong.append(
                f"step {step} has the reward {rows[step]['reward']:.4f}, its samples make {fmean(given):.4f}"
            )
    if run.done("reinforce"):
        wrong += [f"step {step} has no samples" for step in sorted(rows.keys() - by_step.keys())]
    return Found(counted, wrong)


def unkept(run: Run) -> Found:
    """What no audit can work out again, so that nobody takes it for proven."""
    rows = {stage: len(metrics) for stage, metrics in run.folder.metrics.items() if metrics}
    if not rows:
        return Found("nothing is trained yet")
    unknown = [f"losses, gradients and KL of {sum(rows.values())} steps, whose models were not kept"]
    if run.folder.samples:
        unknown.append(f"whether RL's policies wrote the {len(run.folder.samples)} samples")
    return Found("0 recomputed", (), unknown)


def groups(samples: Sequence[SampleRecord], size: int) -> list[str]:
    """What is wrong with the groups of ``size`` answers that one prompt has in a step."""
    asked = [sample.get("prompt_id") for sample in samples]
    mixed = [start for start in range(0, len(asked), size) if len(set(asked[start : start + size])) > 1]
    return [f"{samples[start]['id']} and those after it answer different prompts" for start in mixed]
