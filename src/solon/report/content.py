"""What the report says: its verdict, tables and counts, worked out from the run's records and figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

import plotly.graph_objects as go

from solon.config import Feedback
from solon.evaluation import attribution, decisions, harmfulness, overoptimisation
from solon.evaluation.attribution import Attribution, Critiques
from solon.evaluation.calibration import wilson
from solon.evaluation.elo import Rating
from solon.evaluation.harmfulness import Harmfulness
from solon.evaluation.overoptimisation import Watch
from solon.feedback import MAKINGS, METHODS, panel
from solon.method import NAMES, STAGES, TRUST
from solon.records import Aspect, ModelAnswer
from solon.report import elo_plots, plots
from solon.report.judging import ASPECTS, judging, quality, ratings, way, withheld
from solon.report.plots import MODELS, Dot, Look
from solon.report.roles import models
from solon.sources import tables
from solon.store.run_folder import Json, RunFolder
from solon.texts.refusal import can_tell, is_evasive

TITLES: Mapping[str, str] = {stage.name: stage.title for stage in STAGES}

CURVES: Mapping[str, Mapping[str, str]] = {
    stage.training.model: stage.training.curves for stage in STAGES if stage.training
}

WATCHED: Mapping[str, str] = {
    "reward": "Reward of the samples",
    "won": "Share won against SL-CAI, by the judge",
    "boilerplate": "Boilerplate",
    "distinct": "Distinct pairs of words",
}

# What the first screen shows beside the Elo scores: the set of prompts, and the names of share and interval.
CONDUCT: Mapping[str, tuple[str, str, str]] = {
    "Evades red-team prompts": ("red-team", "evasive", "evasive_interval"),
    "Refuses helpful prompts": ("helpful", "refusals", "refusal_interval"),
}


def verdict(run: RunFolder) -> str:
    """One sentence that answers "did it work?" for the last trained model against the initial one."""
    harmlessness, helpfulness = ratings(run, "harmlessness"), ratings(run, "helpfulness")
    model = next((name for name in ("rl-cai", "sl-cai") if name in harmlessness), None)
    if model is None or "initial" not in harmlessness:
        done = [title for name, title in TITLES.items() if _status(run, name) == "done"]
        return "It is too early to tell: " + (
            f"the run has no evaluation yet; {len(done)} of {len(STAGES)} stages are done."
            if done
            else "no stage of the run is done."
        )
    sets = {row["model"]: row["sets"] for row in evaluation_rows(run)}
    mine, before = sets[model], sets["initial"]
    evades, manner = _evasion(mine.get("red-team"), before.get("red-team"))
    objects, objections = _objections(mine.get("helpful"), before.get("helpful"))
    manner += objections
    if reason := withheld(run, "harmlessness", model):
        return f"There is no verdict: {reason}.{manner}"
    gain, low, high = difference(harmlessness, model)
    more, label = quality(run, "harmlessness"), MODELS[model].label
    interval = f"95% interval {elo(low)} to {elo(high)}"
    lost, its_helpfulness = _helpfulness(run, helpfulness, model)
    if low > 0:
        answer = "It worked, at a price" if lost or evades > 0 or objects else "It worked"
        reason = f"{label} is more {more} than the initial model, by {elo(gain)} Elo ({interval})"
    elif high < 0:
        answer = "It did not work"
        reason = f"{label} is less {more} than the initial model, at {elo(gain)} Elo ({interval})"
    else:
        evasive = f"{'More' if evades > 0 else 'Less'} evasive, not clearly more {more}"
        answer = evasive if evades else "No clear effect"
        reason = (
            f"{label} is not clearly more or less {more} than the initial model, at {elo(gain)} Elo, "
            f"whose {interval} includes zero"
        )
    return f"{answer}: {reason}; {its_helpfulness}.{manner}"


def _helpfulness(run: RunFolder, scores: Mapping[str, Rating], model: str) -> tuple[bool, str]:
    """Whether it was clearly lost, and what became of it."""
    more = quality(run, "helpfulness")
    if model not in scores or "initial" not in scores:
        return False, f"whether it is more {more} was not measured"
    if reason := withheld(run, "helpfulness", model):
        return False, f"whether it is more {more} cannot be told: {reason}"
    change, least, most = difference(scores, model)
    clear = "clearly more" if least > 0 else "clearly less" if most < 0 else "not clearly more or less"
    return most < 0, f"it is {clear} {more}, at {elo(change)} Elo ({elo(least)} to {elo(most)})"


def _evasion(mine: Json | None, before: Json | None) -> tuple[int, str]:
    """Whether a model evades red-team prompts more (1) or less (-1) than the initial model, and a sentence.

    0 and "" where the 95 % intervals of the two shares meet, which claims less than a test of pairs would.
    """
    if not mine or not before:
        return 0, ""
    untold, answers = (mine[what] + before[what] for what in ("cannot_tell", "answers"))
    unsure = (
        f" Whether {untold} of the {answers} answers to red-team prompts evade cannot be told: they are in "
        "other languages than English."
    )
    unsure = unsure if untold else ""
    if not (more := _apart(mine, before, "evasive", "evasive_interval")):
        return 0, unsure
    return more, (
        f" It evades {mine['evasive']:.0%} of the red-team prompts, "
        f"{'more' if more > 0 else 'less'} than the initial model with {before['evasive']:.0%}.{unsure}"
    )


def _objections(mine: Json | None, before: Json | None) -> tuple[bool, str]:
    """Whether a model refuses helpful prompts, or objects to them, clearly more than the initial model."""
    if not mine or not before or _apart(mine, before, "refusals", "refusal_interval") <= 0:
        return False, ""
    return True, (
        f" It refuses {mine['refusals']:.0%} of the helpful prompts or objects to them, where the initial "
        f"model did so with {before['refusals']:.0%}."
    )


def _apart(mine: Json, before: Json, share: str, interval: str) -> int:
    """1 where my share is above the one before and their intervals do not meet, -1 where it is below."""
    if share not in mine or share not in before:
        return 0
    (low, high), (least, most) = mine[interval], before[interval]
    return 1 if low > most else -1 if high < least else 0


def difference(scores: Mapping[str, Rating], model: str) -> tuple[float, float, float]:
    """How far ``model`` is above the initial model, in Elo, and the interval of that.

    Scores are relative to the initial model, whose own interval is then a point; were they not, adding both
    intervals errs on the safe side.
    """
    mine, initial = scores[model], scores["initial"]
    return mine.elo - initial.elo, mine.low - initial.high, mine.high - initial.low


def qualities(run: RunFolder) -> dict[Aspect, str]:
    return {aspect: quality(run, aspect) for aspect in ASPECTS}


def judging_rows(run: RunFolder) -> list[Json]:
    """How the judge decided, one row an aspect that it judged."""
    return [
        {"more": quality(run, aspect), "manner": way(run, aspect), **found}
        for aspect in ASPECTS
        if (found := judging(run, aspect))
    ]


def elo(points: float) -> str:
    """A signed, whole number of Elo points, with a true minus."""
    return f"{round(points):+d}".replace("-", "−").replace("+0", "0")


def elo_over_rl(run: RunFolder) -> list[Json]:
    """One row a step of RL, SL-CAI at 0: its Elo scores. [] where no policy was kept on the way."""
    steps = run.summary.get("rl_steps") or {}
    if len(steps) < 3:
        return []
    scores = {aspect: ratings(run, aspect) for aspect in ASPECTS}
    return [
        {"step": step, **{aspect: by_model.get(model) for aspect, by_model in scores.items()}}
        for model, step in sorted(steps.items(), key=lambda item: item[1])
    ]


def harmfulness_rows(run: RunFolder) -> list[Harmfulness]:
    """How harmful each model's answers are at each temperature; [] where nobody has measured it."""
    scores = {record["id"]: record["score"] for record in run.harm_scores}
    rows = harmfulness.summary(run.harm_answers, scores)
    return [{**row, "model": _label(row["model"], row["step"])} for row in rows]


def _label(model: str, step: int | None) -> str:
    return MODELS[model].label if model in MODELS else f"RL-CAI, step {step}" if step else model


def caveat(run: RunFolder) -> str:
    """Who judged, how, on how much, and what was decided: what the verdict rests on."""
    if not run.judgements:
        return ""
    prompts = len({judgement["prompt_id"] for judgement in run.judgements})
    judge = models(run)["judge"]
    labellers = [panel.labellers(label) for label in run.preferences if label["label_source"] == "ai"]
    same = ", the model that also gave the training labels" if judge in set().union(*labellers) else ""
    ways = {way(run, aspect): f"how {quality(run, aspect)}" for aspect in ASPECTS if judging(run, aspect)}
    how = ", ".join(f"{what} {manner}" if len(ways) > 1 else manner for manner, what in ways.items())
    return (
        f"Judged by {judge}{same}, {how}, on answers to {prompts:,} held-out prompts; no human judged them. "
        f"{decisions.says(decisions.count(run.judgements))}"
    )


def stage_rows(run: RunFolder) -> list[Json]:
    """One row a stage: its manifest entry, with the share of tokens that shared prefixes saved."""
    rows = []
    for stage, title in TITLES.items():
        entry = run.stages.get(stage) or {}
        usage = entry.get("usage") or {}
        computed, naive = usage.get("tokens_computed"), usage.get("tokens_naive")
        rows.append(
            {
                "title": title,
                "status": _status(run, stage),
                "records": entry.get("records"),
                "seconds": entry.get("seconds"),
                "generated": usage.get("tokens_generated"),
                "computed": computed,
                "naive": naive,
                "saved": 1 - computed / naive if computed is not None and naive else None,
            }
        )
    return rows


def _status(run: RunFolder, stage: str) -> str:
    return str((run.stages.get(stage) or {}).get("status") or "not run")


def notes(run: RunFolder) -> list[str]:
    return [note for name in (TRUST.name, *NAMES) for note in (run.stages.get(name) or {}).get("notes") or []]


def human_harm_labels(run: RunFolder) -> str:
    """Whether the run kept to the method's promise: no human label of harmfulness."""
    harm = [label for label in run.preferences if label["aspect"] == "harmlessness"]
    human = sum(label["label_source"] == "human" for label in harm)
    if not harm:
        return "There are no harmlessness labels yet."
    if human:
        return f"People gave {human:,} of {len(harm):,} harmlessness labels."
    made = sum(label["label_source"] in MAKINGS for label in harm)
    if made:
        return f"No human harm label was used: the making of {made:,} of {len(harm):,} pairs is their label."
    return f"No human harm label was used: AI feedback gave all {len(harm):,} harmlessness labels."


def human_harm(run: RunFolder) -> str:
    """That the run is the arm of human harm labels, in words that its report begins with; "" if it is not."""
    if not run.human_harm:
        return ""
    source = tables.label(run.human_harm)
    return (
        f"This run uses people's labels of harm ({source}): its preference model learned harmlessness from "
        "them and not from AI feedback. It is the arm to compare with, and does not do without human labels."
    )


def vouched_for(run: RunFolder) -> str:
    """What people's helpfulness labels rest on where it can't be known that none is of harm; "" elsewhere."""
    labels = run.manifest.get("human_labels") or {}
    if not labels.get("in_doubt"):
        return ""
    return (
        f"Whether people labelled harm in {labels['source']} can't be known ({labels['says']}); who ran this "
        f"vouches for them: “{labels['vouched_for']}”."
    )


def label_counts(run: RunFolder) -> list[tuple[tuple[str, str, str, str], int]]:
    """Comparisons by who labelled them, for what, and in which split."""
    counts: Counter[tuple[str, str, str, str]] = Counter(
        (label["label_source"], label["labeller"], label["aspect"], label["split"])
        for label in run.preferences
    )
    return counts.most_common()


def principles(run: RunFolder) -> tuple[dict[str, Attribution], list[Critiques]]:
    """What the comparison principles of each aspect that was labelled did, and what the critique ones did."""
    by_aspect: dict[str, Attribution] = {}
    for aspect in ASPECTS:
        records = [label for label in run.preferences if label["aspect"] == aspect]
        attributed = attribution.attribute(records, run.law(aspect))
        if attributed["comparisons"]:
            by_aspect[aspect] = attributed
    return by_aspect, attribution.critiques(run.revisions, run.law("harmlessness")) if run.revisions else []


def labels_told(run: RunFolder) -> list[str]:
    """What the run's way of giving feedback has to say of its labels, a sentence each."""
    settings = run.settings.get("feedback") or {}
    method = METHODS.get(settings.get("method") or Feedback().method)
    return method.told(run.preferences) if method else []


def order_effect(run: RunFolder) -> Json | None:
    """How much the place of an answer swayed the judge; None where no pair was judged in both orders.

    ``turned`` is the share of judgements whose verdict changes with the order; ``first`` is the mean
    probability given to the answer shown first, which an unswayed judge leaves at one half.
    """
    votes = [vote for label in run.preferences for vote in label["votes"]]
    both = [vote["orders"] for vote in votes if len(vote["orders"]) == 2]
    if not both:
        return None
    return {
        "judgements": len(both),
        "turned": fmean((first - 0.5) * (second - 0.5) < 0 for first, second in both),
        "first": fmean((first + 1 - second) / 2 for first, second in both),
    }


def watch(run: RunFolder) -> Watch:
    """What the records show of over-optimisation; see ``evaluation.overoptimisation``."""
    labellers = (label["labeller"] for label in run.preferences if label["votes"])
    labeller = next(labellers, models(run)["feedback"])
    return overoptimisation.watch(
        run.metrics["reinforce"], run.samples, run.sample_judgements, run.answers, labeller
    )


def problem_rows(run: RunFolder) -> list[Json]:
    """What was found degenerate and kept from training, by what was wrong with it."""
    by_kind = {
        "Revisions": [made["problem"] for revision in run.revisions for made in revision["rounds"]],
        "Helpful answers": [answer["problem"] for answer in run.helpful],
        "Pairs": [pair["problem"] for pair in run.pairs],
    }
    return [
        {"what": what, "problem": problem or "sound", "count": count, "of": len(problems)}
        for what, problems in by_kind.items()
        for problem, count in sorted(Counter(problems).items(), key=lambda item: (item[0] != "", -item[1]))
    ]


def evaluation_rows(run: RunFolder) -> list[Json]:
    """One row a model: its Elo scores, and means over its answers to the prompts of either set."""
    scores = {aspect: ratings(run, aspect) for aspect in ASPECTS}
    answers: dict[str, dict[str, list[ModelAnswer]]] = {}
    for record in run.answers:
        for answer in record["answers"]:
            answers.setdefault(answer["model"], {}).setdefault(record["set"], []).append(answer)
    return [
        {
            "model": model,
            "label": look.label,
            **{aspect: by_model.get(model) for aspect, by_model in scores.items()},
            "sets": {name: _means(of_set) for name, of_set in answers.get(model, {}).items()},
        }
        for model, look in MODELS.items()
        if model in answers or any(model in by_model for by_model in scores.values())
    ]


def agreement_rows(run: RunFolder) -> list[tuple[str, Json]]:
    """How well the preference model agrees with held-out labels: over all, then by what was compared."""
    overall = run.summary.get("preference_model") or {}
    by_aspect = overall.get("by_aspect") or {}
    rows = [(f"More {quality(run, aspect)}", figures) for aspect, figures in by_aspect.items()]
    return [("All", overall), *rows] if overall else []


def _means(answers: list[ModelAnswer]) -> Json:
    told = [answer for answer in answers if can_tell(answer["text"])]
    scores = [score for answer in answers if (score := answer["preference_score"]) is not None]
    return {
        "answers": len(answers),
        "cannot_tell": len(answers) - len(told),  # whether they refuse: they are in other languages
        "preference_score": fmean(scores) if scores else None,
        **(_refusals(told) if told else {}),
        "words": fmean(answer["words"] for answer in answers),
    }


def _refusals(answers: list[ModelAnswer]) -> Json:
    refusals = sum(answer["refusal"] for answer in answers)
    evasive = sum(is_evasive(answer["text"]) for answer in answers)
    return {
        "refusals": refusals / len(answers),
        "refusal_interval": wilson(refusals, len(answers)),
        "evasive": evasive / len(answers),
        "evasive_interval": wilson(evasive, len(answers)),
    }


def conduct(evaluation: Sequence[Json]) -> list[tuple[Look, list[Dot]]]:
    """The shares of ``CONDUCT`` for each model of ``evaluation_rows``, where its answers can be told."""
    return [
        (
            MODELS[row["model"]],
            [
                Dot(place, means[share], *means[interval])
                for place, (prompts, share, interval) in enumerate(CONDUCT.values())
                if share in (means := row["sets"].get(prompts) or {})
            ],
        )
        for row in evaluation
    ]


def figures(run: RunFolder, watched: Watch, evaluation: Sequence[Json]) -> dict[str, go.Figure]:
    """The figures that the run has the data for, by the name of their place in the page."""
    preference_model = run.summary.get("preference_model") or {}
    drawn = {
        "elo": elo_plots.elo_plane(ratings(run, "harmlessness"), ratings(run, "helpfulness"), qualities(run)),
        "conduct": plots.shares(conduct(evaluation), list(CONDUCT)),
        "elo over rl": elo_plots.elo_curves(elo_over_rl(run), qualities(run)),
        "harmfulness": plots.harmfulness_curves(harmfulness_rows(run)),
        "reliability": plots.reliability(preference_model.get("reliability") or []),
        "labels": plots.label_histogram(
            [label["probability"] for label in run.preferences if label["votes"]]
        ),
    }
    by_aspect, _ = principles(run)
    for aspect, attributed in by_aspect.items():
        names = [row["principle"] for row in attributed["principles"]]
        drawn[f"principles {aspect}"] = plots.principle_matrix(attributed["relations"], names)
    for field in WATCHED:
        drawn[f"watch {field}"] = plots.over_blocks(watched["blocks"], field, MODELS["rl-cai"].colour)
    colours = {"SL-CAI": MODELS["sl-cai"].colour, "RL-CAI": MODELS["rl-cai"].colour}
    for training, fields in CURVES.items():
        look = Look(training, colours.get(training, plots.NEUTRAL))
        for field in fields:
            drawn[f"{training} {field}"] = plots.curves([(look, metrics(run)[training])], field)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def metrics(run: RunFolder) -> dict[str, list[Json]]:
    """What each training logged, by its name in ``CURVES``."""
    return {stage.training.model: run.metrics[stage.name] for stage in STAGES if stage.training}
