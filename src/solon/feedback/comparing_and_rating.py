"""Comparing and rating together: what either says, in log-odds, is summed with weights.

A small judge knows helpfulness when it compares and harm when it rates (``docs/results.md``).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from statistics import fmean

import numpy as np
from scipy.special import expit, logit

from solon import config
from solon.constitution import ComparisonPrinciple, Constitution
from solon.errors import SetAside
from solon.feedback import weights
from solon.feedback.method import Candidates, Voted
from solon.feedback.multiple_choice import ByMultipleChoice
from solon.feedback.panel import by_judge
from solon.feedback.rating import ByRating
from solon.inference.engine import Engine
from solon.records import PairRecord, PreferenceRecord, Vote

SURE = 1e-12  # of probabilities that rounded to 0 or 1, so that log-odds are finite


class ByComparingAndRating(ByRating):
    """Votes by multiple choice, one a principle, and a last one by ratings."""

    name = "comparing-and-rating"
    manner = "by comparing, and by rating each answer by itself"

    def deciding(self, settings: config.Feedback) -> config.Feedback:
        summing = settings.model_dump(include={"rating_sharpness", "comparing_weight", "rating_weight"})
        return ByMultipleChoice().deciding(settings).model_copy(update=summing)

    def questions(self, settings: config.Feedback, principles: int) -> int:
        return super().questions(settings, principles) + ByMultipleChoice().questions(settings, principles)

    def judge(
        self,
        engine: Engine,
        pairs: Iterable[Candidates],
        law: Constitution,
        settings: config.Feedback,
        seed: int,
    ) -> Voted:
        waiting = iter(pairs)
        size = max(1, 4 * engine.concurrency // self.questions(settings, len(law.comparison)))
        while block := list(islice(waiting, size)):
            compared: dict[str, list[Vote]] = {}
            for pair, votes in ByMultipleChoice().judge(engine, block, law, settings, seed):
                if isinstance(votes, SetAside):
                    yield pair, votes
                else:
                    compared[pair.id] = votes
            whole = (pair for pair in block if pair.id in compared)
            for pair, rated in super().judge(engine, whole, law, settings, seed):
                yield pair, rated if isinstance(rated, SetAside) else [*compared[pair.id], *rated]

    def probability(self, votes: Sequence[Vote], settings: config.Feedback) -> float:
        """The logistic function of ``comparing_weight`` times the log-odds by comparing and ``rating_weight``
        times those by rating.

        By comparing they are the mean of the log-odds (nats) of every order under every principle, by the
        principles' weights and clamped as labels of chain of thought are, and 0 where none counts; by rating,
        ``rating_sharpness`` times how much lower on the scale the answer is.
        """
        orders = [(order, vote) for vote in votes for order in vote["orders"]]
        ratings = [vote["ratings"] for vote in votes if "ratings" in vote]
        if not orders or not ratings:  # helpfulness without a scale is compared alone
            return super().probability(votes, settings)
        low, high = settings.clamp if settings.chain_of_thought else (0.0, 1.0)
        said, by = zip(*orders, strict=True)
        odds = logit(np.clip(said, max(low, SURE), min(high, 1 - SURE)))
        comparing = weights.mean(odds.tolist(), by, none=0.0)
        rating = settings.rating_sharpness * fmean(other - mine for mine, other in ratings)
        return float(expit(settings.comparing_weight * comparing + settings.rating_weight * rating))

    def either_way(self, votes: Sequence[Vote], settings: config.Feedback) -> list[float]:
        """By the order with the chosen answer as (A) and the scale written up, then by the two others."""
        return [self.probability([_one_way(vote, way) for vote in votes], settings) for way in range(2)]

    def faults(
        self,
        label: PreferenceRecord,
        pair: PairRecord | None,
        law: Constitution | None,
        settings: config.Feedback,
        labeller: str | None,
        seed: int,
    ) -> dict[str, bool]:
        rated = [["ratings" in vote for vote in ballot] for ballot in by_judge(label["votes"]).values()]
        return {
            **super().faults(label, pair, law, settings, labeller, seed),
            # Without the constitution it is not known whether helpfulness had a scale.
            "was not both compared and rated": law is not None
            and not all(any(ballot) and not all(ballot) for ballot in rated),
        }

    def drawn(
        self, pair: str, law: Constitution, settings: config.Feedback, seed: int
    ) -> list[ComparisonPrinciple]:
        compared = ByMultipleChoice().drawn(pair, law, settings, seed)
        return [*compared, *super().drawn(pair, law, settings, seed)]

    def contradictions(
        self, vote: Vote, number: int, pair: str, settings: config.Feedback, seed: int
    ) -> Iterator[str]:
        if "ratings" in vote:
            return super().contradictions(vote, number, pair, settings, seed)
        return ByMultipleChoice().contradictions(vote, number, pair, settings, seed)

    def grounds(self, law: Constitution) -> set[tuple[str, str]]:
        return super().grounds(law) | ByMultipleChoice().grounds(law)


def _one_way(vote: Vote, way: int) -> Vote:
    one: Vote = {**vote, "orders": vote["orders"][way : way + 1]}
    if "readings" in vote:
        one["ratings"] = vote["readings"][way]
    return one
