"""Stage 7 in a run folder: RL-CAI, the SL-CAI model trained against the preference model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from solon import config
from solon.errors import set_aside_note
from solon.evaluation import trust
from solon.feedback import guesses, panel, samples
from solon.pipeline.steps import red_team
from solon.pipeline.steps.inputs import of_laws, of_model
from solon.pipeline.workbench import Workbench
from solon.pipeline.workspace import Done, Workspace
from solon.policy import own_rewards
from solon.records import SETS, PreferenceRecord, PromptRecord
from solon.reward_settings import OWN
from solon.store.files import file_hash
from solon.store.record_file import RecordFile


def train(
    bench: Workbench,
    records: Sequence[PromptRecord] | Sequence[PreferenceRecord],
    policy: str,
    preference_model: str | None,
    out: Path,
) -> tuple[dict[str, float], int]:
    """RL on the training prompts and what is written for it alone, or on labelled pairs of that split.

    Returns the last step's metrics, and how many records were given.
    """
    scored_by = bench.config.reinforce.scored_by(preference_model)
    wanted: list[Any] = [record for record in records if record["split"] == "train"]
    if bench.config.reinforce.learns_from == "samples":
        prompts = cast(Sequence[PromptRecord], records)
        wanted += red_team.write_for_rl(bench, prompts, RecordFile(out / "generated.jsonl", PromptRecord))
    models = [policy, scored_by.get("preference model")]
    figures = bench.train("reinforce", wanted, models, out, bench.seed("reinforce"))
    if judges := bench.judges:
        sampled = RecordFile(out / "samples.jsonl").read()
        problems = [record.get("problem", "") for record in sampled]
        for note in [
            *guesses.note(panel.labeller(judges.models), sampled),
            *set_aside_note(problems, len(sampled), "samples", " and not learned from"),
        ]:
            bench.note(note)
    return figures, len(wanted)


def check(work: Workspace) -> None:
    """Raises SolonError where what is to reward samples is not there."""
    settings = work.config.reinforce
    for name in own(settings):
        own_rewards.load(name)
    if settings.asks_feedback:
        samples.check(settings, work.config.feedback, work.laws)


def own(settings: config.Reinforce) -> list[str]:
    """The rewards that are the user's own functions."""
    return [name for name in settings.rewards if OWN.fullmatch(name)]


def run(work: Workspace) -> Done:
    settings = work.config.reinforce
    records: list[Any] = [
        prompt
        for split in ("train", "held-out")
        for prompt_set in SETS
        for prompt in work.prompts(prompt_set, split)
    ]
    if settings.learns_from == "pairs":
        records = work.file("05-feedback/preferences.jsonl").read()
    figures, count = train(work, records, work.sl_cai, work.preference_model, Path(work.rl_cai))
    notes = []
    if settings.sums_rewards:
        parts = " + ".join(f"{weight:g} × {name}" for name, weight in settings.rewards.items())
        notes.append(f"What rewards the policy is {parts}.")
    if settings.learns_from == "pairs":
        notes.append(
            f"No RL: by {settings.algorithm} the policy learned from the labels themselves, and from no "
            "preference model."
        )
    if settings.asks_feedback:
        notes += trust.asked_for(work.file("trust/agreement.jsonl"), "rewards")
    asked = settings.generate.red_team + settings.generate.helpful
    if asked:
        written = count - sum(record["split"] == "train" for record in records)
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
    return {
        "reinforce": settings.model_dump(),
        **(of_model(work, "assistant") if writes else {}),
        **(_of_feedback(work) if settings.asks_feedback else {}),
        **{f"code of {name}": _of_file(own_rewards.source(name)) for name in own(settings)},
    }


def _of_feedback(work: Workspace) -> dict[str, Any]:
    return {
        "feedback": work.config.feedback.model_dump(exclude={"untrusted"}),
        **of_laws(work),
        **of_model(work, "feedback", work.panel),
    }


def _of_file(file: Path | None) -> str:
    return file_hash(file) if file else ""
