"""What a judge decides, apart from how sure it is.

A judge that says 0.52 of every pair decides as one that says 0.98 does: wins are decisions, and how far the
probabilities are from one half is told beside them. Every judgement is asked two ways round (the order of
the answers, the direction of the scale). One that turns between them is no decision, since what turned it is
larger than what the judge sees in the answers: it counts half for each.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import TypedDict

from solon.evaluation.elo import Rating
from solon.records import JudgementRecord

ROUNDING = 1e-3  # of a probability: more than a batch of another size changes in float32
BIAS = 0.05
"""A lean of every probability to one side that no verdict may rest on.

It is more than what rounding to bfloat16 makes of two letters' logits below 32 (a step of 0.125 nats, 0.03).
Of two ratings it is a twentieth of a step of the scale, at the default sharpness.
"""


class Decisions(TypedDict):
    judgements: int
    decided: int
    turned: int  # asked the other way round, the judge takes the other side
    sureness: float  # mean distance of the probabilities from one half, 0 to 0.5


class Standing(Decisions):
    """How the judge decided between a model and the one that its Elo is relative to, the anchor."""

    low: float  # of the interval of its Elo where ``BIAS`` for it is taken off every judgement
    high: float  # where as much against it is


def decision(judgement: JudgementRecord, lean: float = 0.0) -> float:
    """1 where the judge decides for ``model_a``, 0 where for ``model_b``, 0.5 where it does not decide.

    ``lean`` is taken off the probabilities first. Where only one way round is on record, that one decides.
    """
    return decided(_asked(judgement), lean)


def decided(asked: Sequence[float], lean: float = 0.0) -> float:
    """The same of the probabilities by the ways round in which a judge was asked."""
    sides = {side(probability - lean) for probability in asked}
    return 0.5 + 0.5 * sides.pop() if len(sides) == 1 else 0.5


def turns(asked: Sequence[float]) -> bool:
    """Whether the judge takes the other side when it is asked the other way round."""
    return {*map(side, asked)} >= {1, -1}


def count(judgements: Sequence[JudgementRecord]) -> Decisions:
    """Raises ValueError without judgements."""
    return Decisions(
        judgements=len(judgements),
        decided=sum(decision(judgement) != 0.5 for judgement in judgements),
        turned=sum(turns(_asked(judgement)) for judgement in judgements),
        sureness=fmean(abs(judgement["probability"] - 0.5) for judgement in judgements),
    )


def lean_to(model: str, judgement: JudgementRecord, anchor: str) -> float:
    """``BIAS`` for ``model`` and against ``anchor``, in the probability that ``model_a`` is better."""
    favour = {model: 1, anchor: -1}
    gap = favour.get(judgement["model_a"], 0) - favour.get(judgement["model_b"], 0)
    return BIAS * ((gap > 0) - (gap < 0))


def says(found: Decisions) -> str:
    """The counts, and beside them how sure the judge is."""
    return (
        f"The judge decided {found['decided']:,} of {found['judgements']:,} comparisons, and "
        f"{found['turned']:,} turned when it was asked the other way round; its probabilities are "
        f"{found['sureness']:.3f} from one half on average."
    )


def too_few(found: Decisions) -> bool:
    """Whether most judgements are undecided, so that nothing may rest on the others."""
    return 2 * found["decided"] < found["judgements"]


def withheld(model: str, rating: Rating, found: Standing) -> str:
    """Why the judgements allow no verdict on ``model``, to follow "There is no verdict:"; "" where they do.

    ``rating`` is relative to the anchor, the initial model.
    """
    if too_few(found):
        return (
            f"the judge decided only {found['decided']:,} of {found['judgements']:,} comparisons of "
            f"{model}'s answers with the initial model's, and {found['turned']:,} turned when it was asked "
            "the other way round"
        )
    if rating.low > 0 >= found["low"] or rating.high < 0 <= found["high"]:
        return (
            f"{model} is {'ahead' if rating.low > 0 else 'behind'}, but by leans of the judge that are so "
            f"slight ({BIAS:g} or less in its probabilities) that a bias may make them"
        )
    return ""


def _asked(judgement: JudgementRecord) -> list[float]:
    return judgement.get("orders") or [judgement["probability"]]


def side(probability: float) -> int:
    """1 above one half, -1 below, 0 where rounding decides."""
    gap = probability - 0.5
    return 0 if abs(gap) < ROUNDING else 1 if gap > 0 else -1
