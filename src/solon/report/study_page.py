"""The page and the figures of a study: what changes with what varies (paper, Figures 5, 6, 7 and 9)."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

import plotly.graph_objects as go

from solon.evaluation import revisions
from solon.evaluation.calibration import Bin, wilson
from solon.evaluation.revisions import Revised
from solon.records import Aspect
from solon.report import content, judging, plots, runs_compared, study_ways
from solon.report.html import render
from solon.report.plots import MODELS, PALETTE, Dot, Look
from solon.report.runs_compared import Compared, Gain
from solon.report.study_ways import Outcome
from solon.store.files import write_atomically
from solon.store.run_folder import Json, RunFolder
from solon.study import Study
from solon.texts import repetition

TRAINED = ("sl-cai", "rl-cai")


@dataclass(frozen=True)
class Variation:
    """The runs of one variation, one a seed, and what they come to together."""

    key: str  # of its colour in the page's style
    look: Look
    runs: Mapping[str, RunFolder]  # by the names of their folders
    together: RunFolder
    revised: Sequence[Revised]
    distinct: float | None  # of the pairs of words in the last revisions
    preference_model: Json  # on held-out comparisons

    @cached_property
    def elo(self) -> Mapping[str, Mapping[Aspect, Gain]]:
        """Over the initial model, by model and aspect."""
        return _elo(self.together)

    @cached_property
    def compared(self) -> Compared:
        model = next((name for name in reversed(TRAINED) if name in self.elo), "")
        of_model = self.elo.get(model, {})
        return Compared(
            self.key,
            self.look,
            self.together,
            model,
            of_model.get("harmlessness"),
            of_model.get("helpfulness"),
            judging.withheld(self.together, "harmlessness", model),
        )


def gather(runs: Mapping[str, Mapping[str, RunFolder]], scores: Mapping[str, float]) -> list[Variation]:
    """``runs`` are by variation, then by folder; ``scores`` are by ``revisions.text_id``."""
    last = {name: _last_revisions(folders.values()) for name, folders in runs.items()}
    least = min((repetition.sequences(texts) for texts in last.values() if texts), default=0)
    return [
        Variation(
            key=f"variation-{number}",
            look=Look(
                runs_compared.labelled(name, next(iter(folders.values()))), PALETTE[number % len(PALETTE)]
            ),
            runs=folders,
            together=_together(list(folders.values())),
            revised=_revised(folders.values(), scores),
            distinct=repetition.distinct(last[name], least) if least and last[name] else None,
            preference_model=_preference_model(folders.values()),
        )
        for number, (name, folders) in enumerate(runs.items())
    ]


def _last_revisions(runs: Iterable[RunFolder]) -> list[str]:
    return [record["messages"][-1]["content"] for run in runs for record in run.revisions]


def _together(runs: Sequence[RunFolder]) -> RunFolder:
    """The seeds' runs as one with all their judgements: each seed's SL-CAI counts as one and the same."""
    first, *others = runs
    if not others:
        return first
    summary = {
        name: value for name, value in first.summary.items() if name != "judging"
    }  # to be counted anew
    return replace(first, judgements=[each for run in runs for each in run.judgements], summary=summary)


def _elo(run: RunFolder) -> dict[str, dict[Aspect, Gain]]:
    gains: dict[str, dict[Aspect, Gain]] = {}
    for aspect in judging.ASPECTS:
        ratings = judging.ratings(run, aspect)
        for model in TRAINED:
            if model in ratings and "initial" in ratings:
                gains.setdefault(model, {})[aspect] = Gain(*content.difference(ratings, model))
    return gains


def _revised(runs: Iterable[RunFolder], scores: Mapping[str, float]) -> list[Revised]:
    of_prompt: dict[str, list[list[float]]] = {}
    for run in runs:
        for record in run.revisions:
            names = [revisions.text_id(record["prompt"], text) for text in revisions.texts(record)]
            if all(name in scores for name in names):
                of_prompt.setdefault(record["id"], []).append([scores[name] for name in names])
    # A prompt that several seeds have counts once, with their mean.
    rows = [[fmean(column) for column in zip(*rows, strict=True)] for rows in of_prompt.values()]
    return revisions.by_number(rows)


def _preference_model(runs: Iterable[RunFolder]) -> Json:
    """Accuracy and calibration over the held-out comparisons of all seeds."""
    summaries = [run.summary["preference_model"] for run in runs if run.summary.get("preference_model")]
    if not summaries:
        return {}
    count = sum(summary["comparisons"] for summary in summaries)
    accuracy, brier = (
        sum(summary[name] * summary["comparisons"] for summary in summaries) / count
        for name in ("accuracy", "brier")
    )
    curve = _one_curve([bin for summary in summaries for bin in summary["reliability"]])
    return {
        "comparisons": count,
        "accuracy": accuracy,
        "accuracy_interval": wilson(min(count, accuracy * count), count),
        "brier": brier,
        "ece": sum(bin["count"] * abs(bin["predicted"] - bin["observed"]) for bin in curve) / count,
        "reliability": curve,
    }


def _one_curve(bins: Sequence[Bin]) -> list[Bin]:
    """Bins of several curves, which are the same tenths of [0, 1], as one curve."""
    tenths: dict[int, list[Bin]] = {}
    for point in bins:
        tenths.setdefault(min(9, math.floor(10 * point["predicted"])), []).append(point)
    curve = []
    for _, same in sorted(tenths.items()):
        count = sum(point["count"] for point in same)
        predicted, observed = (
            sum(point[name] * point["count"] for point in same) / count for name in ("predicted", "observed")
        )
        curve.append(Bin(predicted=predicted, observed=observed, count=count))
    return curve


def write(
    study: Study,
    folder: Path,
    runs: Mapping[str, Mapping[str, RunFolder]],
    scores: Mapping[str, float],
    scorer: str,
) -> Path:
    """Write the study's page and ``sweep.json``; see ``gather``. ``scorer`` says whose the scores are."""
    variations = gather(runs, scores)
    said = verdict(variations), caveats(variations, scorer)
    page = render(
        "sweep.html.j2",
        figures(variations),
        {
            **{variation.key: variation.look for variation in variations},
            **{one.key: one.look for one in outcomes(variations)},
        },
        study=study,
        outcomes=outcomes(variations),
        variations=variations,
        aspects=judging.ASPECTS,
        qualities=qualities(variations),
        models={model: MODELS[model] for model in TRAINED},
        verdict=said[0],
        caveats=said[1],
        differences=runs_compared.differences([variation.compared for variation in variations]),
        work={name: work_done(run) for variation in variations for name, run in variation.runs.items()},
    )
    path = folder / "sweep.html"
    write_atomically(path, page.html)
    write_atomically(folder / "sweep.json", json.dumps(as_json(study, variations, *said), indent=2) + "\n")
    return path


def outcomes(found: Sequence[Variation]) -> list[Outcome]:
    """Each variation's, and before them that of the SL-CAI model which all go on from, where it is one."""
    everywhere = [run for variation in found for run in variation.runs.values()]
    ends = [
        study_ways.outcome(
            variation.key,
            variation.look,
            variation.elo,
            list(variation.runs.values()),
            variation.compared.model,
            everywhere,
        )
        for variation in found
        if variation.compared.model
    ]
    if len(ends) < len(found) or not study_ways.shares_start(everywhere):
        return ends
    first = found[0]
    start = study_ways.outcome(
        "start", study_ways.START, first.elo, list(first.runs.values()), "sl-cai", everywhere
    )
    return [start, *ends]


def verdict(found: Sequence[Variation]) -> tuple[str, str]:
    """Which variation did best by harmlessness, or else by the scores of its last revisions: two halves."""
    compared = [variation.compared for variation in found]
    scored = [variation for variation in found if variation.revised]
    if any(run.harmlessness for run in compared) or not scored:
        return runs_compared.verdict(compared)
    best = max(scored, key=lambda variation: variation.revised[-1]["gain"])
    last = best.revised[-1]
    alike = len(scored) > 1 and all(variation.revised[-1]["gain"] == last["gain"] for variation in scored)
    which = (
        "The revisions of all variations score alike"
        if alike
        else f"The revisions of {best.look.label} score highest"
    )
    interval = last["gain_interval"]
    within = f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
    return which, f"the last are {last['gain']:+.2f}{within} from the first answers."


def caveats(found: Sequence[Variation], scorer: str) -> list[str]:
    told = runs_compared.caveats([variation.compared for variation in found])
    seeds = max(len(variation.runs) for variation in found)
    if seeds > 1:
        told.append(
            f"Every variation was run with {seeds} seeds, whose judgements are taken together. The intervals "
            "are over prompts; how far the seeds are apart is in the table of runs."
        )
    return [*told, scorer]


def qualities(found: Sequence[Variation]) -> dict[Aspect, str]:
    return runs_compared.qualities([variation.compared for variation in found])


def figures(found: Sequence[Variation]) -> dict[str, go.Figure]:
    ticks, words = [variation.look.label for variation in found], qualities(found)
    drawn: dict[str, go.Figure | None] = {
        f"elo {model}": plots.dots(
            [
                (
                    look,
                    [
                        Dot(place, *variation.elo[model][aspect])
                        for place, variation in enumerate(found)
                        if aspect in variation.elo.get(model, {})
                    ],
                )
                for aspect, colour in zip(judging.ASPECTS, PALETTE, strict=False)
                for look in [Look(f"More {words[aspect]}", colour)]
            ],
            ticks,
            "",
            "Elo over the initial model",
        )
        for model in TRAINED
    }
    most = max((len(variation.revised) for variation in found), default=0)
    drawn["revisions"] = plots.dots(
        [
            (
                variation.look,
                [_dot(row["revisions"], row["score"], row["score_interval"]) for row in variation.revised],
            )
            for variation in found
        ],
        [str(number) for number in range(most)],
        "Number of revisions",
        "Score of the preference model",
    )
    drawn["outcomes"] = study_ways.figure(outcomes(found), words)
    drawn["reliability"] = plots.reliabilities(
        [(variation.look, variation.preference_model.get("reliability", [])) for variation in found]
    )
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _dot(place: float, value: float, interval: tuple[float, float] | None) -> Dot:
    return Dot(place, value, *(interval or (value, value)))


def work_done(run: RunFolder) -> Json:
    """What a run took itself, and which of its stages came from another one."""
    done = [entry for entry in run.stages.values() if entry["status"] == "done"]
    used: Counter[str] = Counter()
    for entry in run.stages.values():
        used.update(entry["usage"])
    reused = {name: entry["reused"] for name, entry in run.stages.items() if entry.get("reused")}
    own = {model: _elo(run).get(model, {}) for model in TRAINED}
    return {
        "stages": len(done),
        "reused": reused,
        "seconds": sum(entry["seconds"] for entry in run.stages.values()),
        "tokens": used["tokens_computed"] + used["tokens_generated"],
        "elo": {
            model: {aspect: gain._asdict() for aspect, gain in gains.items()}
            for model, gains in own.items()
            if gains
        },
    }


def as_json(study: Study, found: Sequence[Variation], told: tuple[str, str], warned: list[str]) -> Json:
    return {
        "study": study.title,
        "verdict": ": ".join(told),
        "caveats": warned,
        "qualities": qualities(found),
        "variations": {
            variation.look.label: {
                "elo": {
                    model: {aspect: gain._asdict() for aspect, gain in gains.items()}
                    for model, gains in variation.elo.items()
                },
                "revisions": list(variation.revised),
                "distinct": variation.distinct,
                "preference_model": variation.preference_model,
                "runs": {name: work_done(run) for name, run in variation.runs.items()},
            }
            for variation in found
        },
        "outcomes": {one.look.label: one.as_json() for one in outcomes(found)},
        "differences": dict(runs_compared.differences([variation.compared for variation in found])),
    }
