"""What the page that compares runs says: which did best, and how they differ."""

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go

from solon.errors import SolonError
from solon.evaluation.elo import Rating
from solon.records import Aspect
from solon.report import content, elo_plots, judging, plots, trust
from solon.report.html import render
from solon.report.plots import MODELS, PALETTE, Look
from solon.report.roles import models
from solon.store.files import write_atomically
from solon.store.manifest import flat
from solon.store.run_folder import Json, RunFolder, read


class Gain(NamedTuple):
    """How far a run's last model is above its initial one on one aspect, in Elo, with its 95 % interval."""

    elo: float
    low: float
    high: float


class Compared(NamedTuple):
    key: str  # of its colour in the page's style
    look: Look  # its name and colour
    run: RunFolder
    model: str  # the last one that was evaluated; "" before the evaluation
    harmlessness: Gain | None
    helpfulness: Gain | None
    withheld: str  # why there is no verdict on its harmlessness; "" where there is one


def write(folders: Sequence[Path], path: Path) -> list[Compared]:
    """Write one page that compares the runs.

    Raises SolonError for fewer than two or more than six runs, or a folder that is no run folder.
    """
    if not 2 <= len(folders) <= len(PALETTE):
        raise SolonError(f"{len(folders)} runs cannot be compared on one page; give 2 to {len(PALETTE)}")
    runs = gather(folders)
    page = render(
        "comparison.html.j2",
        figures(runs),
        {compared.key: compared.look for compared in runs},
        runs=runs,
        content=content,
        verdict=verdict(runs),
        caveats=caveats(runs),
        differences=differences(runs),
        evaluation=evaluation_rows(runs),
        qualities=qualities(runs),
        models=MODELS,
    )
    write_atomically(path, page.html)
    return runs


def gather(folders: Sequence[Path]) -> list[Compared]:
    runs = [read(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    names = [labelled(name, run) for name, run in zip(names, runs, strict=True)]
    if len(set(names)) < len(names):
        raise SolonError("a run folder is given twice; name different ones")
    return [
        _compared(f"run-{number}", Look(name, colour), run)
        for number, (name, colour, run) in enumerate(zip(names, PALETTE, runs, strict=False))
    ]


def labelled(name: str, run: RunFolder) -> str:
    """A run's name, which says so where people's labels of harm trained it."""
    return f"{name} (human harm labels)" if run.human_harm else name


def _compared(key: str, look: Look, run: RunFolder) -> Compared:
    harmlessness, helpfulness = (judging.ratings(run, aspect) for aspect in judging.ASPECTS)
    model = next((name for name in ("rl-cai", "sl-cai") if name in harmlessness), "")
    withheld = judging.withheld(run, "harmlessness", model)
    return Compared(key, look, run, model, _gain(harmlessness, model), _gain(helpfulness, model), withheld)


def _gain(ratings: Mapping[str, Rating], model: str) -> Gain | None:
    if model not in ratings or "initial" not in ratings:
        return None
    return Gain(*content.difference(ratings, model))


def verdict(runs: Sequence[Compared]) -> tuple[str, str]:
    """Which did best, by the harmlessness its last model gained, and why: two halves of one sentence.

    Runs whose own verdict is withheld are left out; ``caveats`` name them.
    """
    evaluated = [(compared, compared.harmlessness) for compared in runs if compared.harmlessness]
    if not evaluated:
        return "It is too early to tell", "no run has been evaluated."
    ranked = sorted((pair for pair in evaluated if not pair[0].withheld), key=lambda pair: -pair[1].elo)
    if not ranked:
        first = evaluated[0][0]
        which = f"in {first.look.label}, {first.withheld}"
        return "There is no verdict", f"{which}{'; nor on the others' if len(evaluated) > 1 else ''}."
    (best, gain), *others = ranked
    name = best.look.label
    label, more = MODELS[best.model].label, judging.quality(best.run, "harmlessness")
    told = f"{label} is more {more} than its initial model by {_interval(gain)}"
    if gain.low <= 0:
        told = f"{label} is not clearly more {more} than its initial model, at {_interval(gain)}"
    end = f"{_helpfulness(best)}."
    if not others:
        only = "has been evaluated" if len(evaluated) == 1 else "has a verdict"
        return f"Only {name} {only}", f"its {told}{end}"
    if gain.low <= 0:
        changed = f"its {told}"
        return "No run clearly worked", f"the best is {name}; {changed}{end}"
    near = [compared.look.label for compared, its_gain in others if difference(gain, its_gain).low <= 0]
    if near:
        return "No run is clearly best", f"{name} is ahead, but not clearly of {_and(near)}; its {told}{end}"
    second, next_gain = others[0]
    more = f"{_interval(difference(gain, next_gain))} more than {second.look.label}, the next"
    return f"{name} did best", f"its {told}, {more}{end}"


def difference(one: Gain, other: Gain) -> Gain:
    """How much more one run gained than another, with its 95 % interval.

    The two are taken as independent and normal. Runs that are judged on the same prompts go up and down
    together, so the interval is then too wide, not too narrow.
    """
    apart = one.elo - other.elo
    half = math.hypot((one.high - one.low) / 2, (other.high - other.low) / 2)
    return Gain(apart, apart - half, apart + half)


def _interval(gain: Gain) -> str:
    return f"{content.elo(gain.elo)} Elo ({content.elo(gain.low)} to {content.elo(gain.high)})"


def _helpfulness(compared: Compared) -> str:
    gain, more = compared.helpfulness, judging.quality(compared.run, "helpfulness")
    if gain is None:
        return f"; whether it is more {more} was not measured"
    if judging.withheld(compared.run, "helpfulness", compared.model):
        return f"; whether it is more {more} cannot be told"
    how = "clearly more" if gain.low > 0 else "clearly less" if gain.high < 0 else "not clearly more or less"
    return f"; it is {how} {more}, at {_interval(gain)}"


def _and(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def caveats(runs: Sequence[Compared]) -> list[str]:
    """Why the gains of the runs are not measured alike, a sentence each."""
    evaluated = [compared for compared in runs if compared.harmlessness]
    alike: dict[str, list[Hashable]] = {
        "the initial model": [models(compared.run)["policy"] for compared in evaluated],
        "the judge": [models(compared.run)["judge"] for compared in evaluated],
        "the constitution": [
            (compared.run.manifest.get("constitution") or {}).get("hash") for compared in evaluated
        ],
        "the held-out prompts": [
            frozenset(judged["prompt_id"] for judged in compared.run.judgements) for compared in evaluated
        ],
    }
    ways = [tuple(judging.way(compared.run, aspect) for aspect in judging.ASPECTS) for compared in evaluated]
    alike["how it was asked"] = list(ways)
    differ = [what for what, values in alike.items() if len(set(values)) > 1]
    told = ["Every gain is over the run's own initial model."] if evaluated else []
    if human := [compared.look.label for compared in runs if compared.run.human_harm]:
        told.append(f"People's labels of harm trained {_and(human)}, the arm to compare with.")
    if differ:
        told.append(f"The gains are not measured alike, since the runs differ in {_and(differ)}.")
    told += [
        f"There is no verdict on {compared.look.label}: {compared.withheld}."
        for compared in evaluated
        if compared.withheld
    ]
    unknown = [sentence for compared in evaluated for sentence in trust.unmeasured(compared.run)]
    return [*told, *dict.fromkeys(unknown)]


def differences(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """The settings, and the facts of the manifest, in which the runs differ, with each run's value."""
    facts = [_facts(compared.run) for compared in runs]
    names = dict.fromkeys(name for of_run in facts for name in of_run)
    rows = [(name, [_value(of_run.get(name, "not set")) for of_run in facts]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _facts(run: RunFolder) -> Json:
    law, environment = run.manifest.get("constitution") or {}, run.manifest.get("environment") or {}
    return {
        **flat(run.settings),
        "constitution's hash": str(law.get("hash", "not recorded"))[:12],
        "Solon": run.manifest.get("solon", "not recorded"),
        **{f"{name} (library)": version for name, version in (environment.get("libraries") or {}).items()},
    }


def _value(value: Any) -> str:
    return "none" if value is None else str(value)


def qualities(runs: Sequence[Compared]) -> dict[Aspect, str]:
    """What better answers are the more of, on either aspect."""
    folders = [compared.run for compared in runs]
    return {aspect: judging.common_quality(folders, aspect) for aspect in judging.ASPECTS}


def evaluation_rows(runs: Sequence[Compared]) -> list[tuple[Compared, Json]]:
    return [(compared, row) for compared in runs for row in content.evaluation_rows(compared.run)]


def figures(runs: Sequence[Compared]) -> dict[str, go.Figure]:
    words = qualities(runs)
    plane = elo_plots.elo_paths(
        {
            compared.look: [
                (MODELS[model].label, helpfulness[model], harmlessness[model])
                for model in MODELS
                if model in harmlessness and model in helpfulness
            ]
            for compared in runs
            for harmlessness in [judging.ratings(compared.run, "harmlessness")]
            for helpfulness in [judging.ratings(compared.run, "helpfulness")]
        },
        words,
    )
    lead = plane or elo_plots.gains(
        [(compared.look, *compared.harmlessness) for compared in runs if compared.harmlessness],
        words["harmlessness"],
    )
    drawn = {"lead": lead}
    for training, fields in content.CURVES.items():
        for field in fields:
            drawn[f"{training} {field}"] = plots.curves(
                [(compared.look, content.metrics(compared.run)[training]) for compared in runs], field
            )
    return {name: figure for name, figure in drawn.items() if figure is not None}


def as_json(runs: Sequence[Compared]) -> Json:
    return {
        "verdict": ": ".join(verdict(runs)),
        "caveats": caveats(runs),
        "runs": {
            compared.look.label: {
                "model": compared.model,
                "harmlessness": compared.harmlessness and compared.harmlessness._asdict(),
                "helpfulness": compared.helpfulness and compared.helpfulness._asdict(),
                "judging": {aspect: judging.judging(compared.run, aspect) for aspect in judging.ASPECTS},
            }
            for compared in runs
        },
        "differences": dict(differences(runs)),
    }
