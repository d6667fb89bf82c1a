"""Labels that nobody judges: a pair is made so that its first answer is the better one."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from solon import config
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.feedback import multiple_choice
from solon.feedback.method import Candidates, Method, Voted
from solon.inference.engine import Engine
from solon.records import PairRecord, PreferenceRecord

MAKING = "the pair's making"  # the labeller of pairs that nobody judged


class ByMaking(Method):
    """For models too small to judge. The feedback model makes the pairs, and must do as it is asked."""

    pairs_by = "feedback"
    making: str  # what pairs say of how they were made, by its name in their records

    def questions(self, settings: config.Feedback, principles: int) -> int:
        return 0

    def judge(
        self,
        engine: Engine,
        pairs: Iterable[Candidates],
        law: Constitution,
        settings: config.Feedback,
        seed: int,
    ) -> Voted:
        """By multiple choice: labels take no judge, but evaluations do."""
        asked = (multiple_choice.under_drawn(pair, law, settings, seed) for pair in pairs)
        return multiple_choice.judge(engine, asked, law, settings, seed)

    def made(self, pair: PairRecord) -> Mapping[str, Any] | None:
        """How the pair was made so that its first answer is the better one; None where it was not."""
        making: Mapping[str, Any] | None = pair.get(self.making)  # type: ignore[assignment]
        return making

    def must_have_made(self, pair: PairRecord) -> None:
        """Raises SolonError for a pair whose making gives no label."""
        if self.made(pair) is None:
            raise SolonError(
                f"pair {pair['id']!r} was not made {self.manner}, so its making gives no label; make the "
                "pairs with the same feedback.method"
            )

    def faults(
        self,
        label: PreferenceRecord,
        pair: PairRecord | None,
        law: Constitution | None,
        settings: config.Feedback,
        labeller: str | None,
        seed: int,
    ) -> dict[str, bool]:
        making = (self.made(pair) if pair else None) or {}
        faults = {"was not made so": not making}
        if pair and making:
            faults = {
                **self.faults_of_making(making, pair, law),
                "prefers the worse answer by its making": label["chosen"][-1]["content"]
                != pair["responses"][0],
            }
        return {
            **faults,
            f"is by {label['labeller']}": label["labeller"] != MAKING,
            "is not certain": label["probability"] != 1,
            "has votes": bool(label["votes"]),
        }

    @abstractmethod
    def faults_of_making(
        self, making: Mapping[str, Any], pair: PairRecord, law: Constitution | None
    ) -> dict[str, bool]:
        """What could be wrong with how the pair says that it was made, and whether it is."""
