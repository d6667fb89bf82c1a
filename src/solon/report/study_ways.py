"""What each variation's last model came to and what it took, and what they all started from."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

import plotly.graph_objects as go

from solon.method import NAMES
from solon.records import Aspect
from solon.report import content
from solon.report.plots import LEGEND, MODELS, Dot, Look, blank, error_bars
from solon.report.runs_compared import Gain
from solon.store.run_folder import Json, RunFolder

SMALLEST, LARGEST = 12, 44  # of a dot, in pixels across


class Outcome(NamedTuple):
    key: str  # of its colour in the page's style
    look: Look
    elo: Mapping[Aspect, Gain]  # over the initial model
    evasive: (
        Json  # of its answers to red-team prompts: "evasive", "evasive_interval"; {} where none can be told
    )
    tokens: int | None  # that models read and wrote for it, of one seed; None where it is not known

    def as_json(self) -> Json:
        return {
            "elo": {aspect: gain._asdict() for aspect, gain in self.elo.items()},
            **self.evasive,
            "tokens": self.tokens,
        }


def outcome(
    key: str,
    look: Look,
    elo: Mapping[str, Mapping[Aspect, Gain]],
    runs: Sequence[RunFolder],
    model: str,
    everywhere: Sequence[RunFolder],
) -> Outcome:
    """Of ``model`` in a variation's runs, one a seed. ``everywhere`` are the study's runs."""
    taken = [tokens(run, model, everywhere) for run in runs]
    known = [count for count in taken if count is not None]
    mean = round(fmean(known)) if known and len(known) == len(taken) else None
    return Outcome(key, look, elo.get(model, {}), evasion(runs, model), mean)


def shares_start(runs: Sequence[RunFolder]) -> bool:
    """Whether all runs go on from one SL-CAI model."""
    made = [(run.stages.get("supervised") or {}).get("files") for run in runs]
    return bool(made[0]) and all(files == made[0] for files in made)


def evasion(runs: Sequence[RunFolder], model: str) -> Json:
    together = replace(runs[0], answers=[record for run in runs for record in run.answers])
    rows = {row["model"]: row["sets"].get("red-team") or {} for row in content.evaluation_rows(together)}
    return {
        name: rows[model][name] for name in ("evasive", "evasive_interval") if name in rows.get(model, {})
    }


def needed(run: RunFolder, model: str) -> Sequence[str]:
    """The stages that lead to the model; a run does others too, to measure by."""
    begin = NAMES[: NAMES.index("supervised") + 1]
    if model == "sl-cai":
        return begin
    labels = ("comparison", "feedback")
    if run.learns_from == "pairs":
        return (*begin, *labels, "reinforce")
    if run.needs_preference_model:
        return (*begin, *labels, "preference-model", "reinforce")
    return (*begin, "reinforce")


def tokens(run: RunFolder, model: str, everywhere: Sequence[RunFolder]) -> float | None:
    """Tokens that engines computed and wrote in the stages that lead to the model, and those that RL sampled.

    What was taken from another run of the study counts as if done here. What trainings put through the
    trained model, and a preference model reads to score, counts not. None where a stage is not done, or was
    taken from a run that is not here.
    """
    total = 0.0
    for stage in needed(run, model):
        entry = run.stages.get(stage) or {}
        if entry.get("reused"):
            entry = next(
                (
                    made
                    for other in everywhere
                    for made in [other.stages.get(stage) or {}]
                    if made.get("files") == entry.get("files") and not made.get("reused")
                ),
                {},
            )
        if entry.get("status") != "done":
            return None
        total += entry["usage"].get("tokens_computed", 0) + entry["usage"].get("tokens_generated", 0)
    if model == "rl-cai" and run.learns_from == "samples":
        rows = run.metrics["reinforce"]
        total += fmean(row["length"] for row in rows) * len(run.samples) if rows else 0
    return total


def figure(found: Sequence[Outcome], qualities: Mapping[Aspect, str]) -> go.Figure | None:
    """Harmlessness over helpfulness; a dot is the larger, the more tokens it took, and says how it evades."""
    shown = [one for one in found if one.elo.keys() >= {"harmlessness", "helpfulness"}]
    if not shown:
        return None
    drawn = blank(440, **LEGEND)  # names beside the dots would hide each other where arms lie together
    drawn.update_layout(legend_itemsizing="constant", margin_t=60)
    most = max((one.tokens or 0 for one in shown), default=0) or 1
    for one in shown:
        helpful, harmless = (Dot(0, *one.elo[aspect]) for aspect in ("helpfulness", "harmlessness"))
        evades = f", {one.evasive['evasive']:.0%} evasive" if one.evasive else ""
        took = f"{one.tokens:,.0f} tokens" if one.tokens is not None else "tokens not known"
        drawn.add_scatter(
            x=[helpful.value],
            y=[harmless.value],
            name=f"{html.escape(one.look.label)}{evades}",
            mode="markers",
            cliponaxis=False,
            marker={
                "color": one.look.colour,
                "size": SMALLEST + (LARGEST - SMALLEST) * math.sqrt((one.tokens or 0) / most),
                "opacity": 0.75,
            },
            error_x=error_bars([helpful], one.look.colour),
            error_y=error_bars([harmless], one.look.colour),
            hovertemplate=f"%{{y:.0f}} and %{{x:.0f}} Elo<br>{took}<extra>%{{fullData.name}}</extra>",
        )
    drawn.update_xaxes(title_text=f"More {qualities['helpfulness']}, Elo over initial", zerolinewidth=2)
    drawn.update_yaxes(title_text=f"More {qualities['harmlessness']}", zerolinewidth=2)
    return drawn


START = Look(f"{MODELS['sl-cai'].label} alone", MODELS["initial"].colour)
