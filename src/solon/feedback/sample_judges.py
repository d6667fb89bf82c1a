"""Who rewards the policy's samples: plain, so that the process that trains can be told."""

from collections.abc import Iterable
from pathlib import Path

from solon import marks
from solon.config import EngineSettings, Feedback, Scale, Section, on_server
from solon.constitution import Constitution
from solon.inference import open_engine
from solon.inference.engine import Engine
from solon.inference.spent import SPENT
from solon.records import AskedRecord, Aspect
from solon.role_settings import Role
from solon.store.record_file import RecordFile

ASKED = "asked.jsonl"


class Judges(Section):
    """The feedback model, or a panel, and what it judges samples by: as it does the labels' pairs."""

    models: list[str]
    role: Role
    settings: Feedback
    laws: dict[Aspect, Constitution]  # what the samples of a prompt are judged by, by the aspect of its set
    engine: EngineSettings
    scale: Scale
    # on servers, by the command before it had other processes train: tokens, and what they cost
    spent: tuple[int, float] = (0, 0.0)

    def open(self, model: str) -> Engine:
        """The engine of one of them. Raises SolonError for a model that learned people's labels of harm."""
        marks.admit(model, "the feedback model")
        engine = open_engine(model, self.engine, self.scale, self.role)
        if on_server(model):
            tokens, cost = self.spent
            SPENT.tokens, SPENT.cost = max(SPENT.tokens, tokens), max(SPENT.cost, cost)
        return engine

    def having_spent(self) -> "Judges":
        """The same for another process, where budgets count what this one has spent."""
        return self.model_copy(update={"spent": (SPENT.tokens, SPENT.cost)})


def asked(out: Path) -> list[AskedRecord]:
    """What judges were asked by a training into the folder ``out``, in every process that it had."""
    return RecordFile(out / ASKED).read()


def count_spent(records: Iterable[AskedRecord]) -> None:
    """Have budgets count what another process spent."""
    for record in records:
        usage = record["usage"]
        SPENT.tokens += int(usage.get("tokens_naive", 0) + usage.get("tokens_generated", 0))
        SPENT.cost += usage.get("cost", 0.0)
