"""What a run's judge decided, and where that allows no verdict."""

from collections.abc import Callable, Iterable
from typing import Any

from solon import constitution
from solon.config import Evaluation
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.evaluation import decisions, tournament
from solon.evaluation.elo import Rating
from solon.feedback import METHODS
from solon.records import Aspect
from solon.report import trust
from solon.report.plots import MODELS
from solon.seeds import derive_seed
from solon.store.run_folder import RunFolder

ASPECTS: tuple[Aspect, Aspect] = ("harmlessness", "helpfulness")
NEUTRAL: str = Constitution.model_fields["quality"].default


def ratings(run: RunFolder, aspect: Aspect) -> dict[str, Rating]:
    """Each evaluated model's Elo score on one aspect; empty before the evaluation."""
    if _counted_otherwise(run):
        found = tournament.ratings(run.judgements, aspect, "initial", *_drawing(run))
        return {rating.model: rating for rating in found}
    return {row["model"]: Rating(**row) for row in (run.summary.get("elo") or {}).get(aspect) or []}


def judging(run: RunFolder, aspect: Aspect) -> tournament.Judging | None:
    """How the judge decided on one aspect; None before the evaluation."""
    if _counted_otherwise(run):
        return tournament.judging(run.judgements, aspect, "initial", *_drawing(run))
    found: tournament.Judging | None = (run.summary.get("judging") or {}).get(aspect)
    return found


def _counted_otherwise(run: RunFolder) -> bool:
    """Runs of before 2026-12 counted probabilities as parts of wins; their judgements are counted anew."""
    return bool(run.judgements) and "elo" in run.summary and "judging" not in run.summary


def _drawing(run: RunFolder) -> tuple[int, int]:
    """Resamples and seed, as the evaluation has them."""
    asked = run.settings.get("evaluation") or {}
    seed = derive_seed(run.settings.get("seed") or 0, "evaluation") % 2**31
    return asked.get("bootstrap") or Evaluation().bootstrap, seed


def withheld(run: RunFolder, aspect: Aspect, model: str) -> str:
    """Why there is no verdict on the model's aspect, to follow "There is no verdict:"; "" where there is one.

    The one place where a verdict is withheld: a further reason is a function in ``REASONS``.
    """
    return next((reason for why in REASONS if (reason := why(run, aspect, model))), "")


def _decides_too_little(run: RunFolder, aspect: Aspect, model: str) -> str:
    found, rating = judging(run, aspect), ratings(run, aspect).get(model)
    if not found or not rating or model not in found["standings"]:
        return ""
    return decisions.withheld(MODELS[model].label, rating, found["standings"][model])


Reason = Callable[[RunFolder, Aspect, str], str]
REASONS: tuple[Reason, ...] = (trust.at_chance, _decides_too_little, trust.called_untrusted)


def quality(run: RunFolder, aspect: Aspect) -> str:
    """What better answers are the more of: "harmless" under a constitution that says so."""
    if named := (run.summary.get("qualities") or {}).get(aspect):
        return str(named)
    settings: dict[str, Any] = run.settings.get("evaluation") or {}
    law = {
        "harmlessness": run.settings.get("constitution") or "harmless",
        "helpfulness": settings.get("helpfulness_constitution") or Evaluation().helpfulness_constitution,
    }[aspect]
    try:
        return constitution.load(law).quality
    except SolonError:  # it is gone
        return NEUTRAL


def common_quality(runs: Iterable[RunFolder], aspect: Aspect) -> str:
    """Of several runs: theirs, where they have the same."""
    named = {quality(run, aspect) for run in runs}
    return named.pop() if len(named) == 1 else NEUTRAL


def way(run: RunFolder, aspect: Aspect) -> str:
    """How the judge was asked, in words; "" before the evaluation."""
    found = judging(run, aspect)
    return " and ".join(METHODS[name].manner for name in found["way"].split(" and ")) if found else ""
