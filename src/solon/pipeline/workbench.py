"""What every door to a stage works with: settings, constitutions, seeds, and one engine at a time.

The commands of single stages make one from a configuration; a run's workspace is one with a folder.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from solon import constitution, feedback, marks
from solon.config import Config, EngineSettings
from solon.constitution import Constitution
from solon.errors import SET_ASIDE, set_aside_note
from solon.feedback import guesses
from solon.feedback.sample_judges import Judges, asked
from solon.inference import blocks, open_engine, settled
from solon.inference.engine import Engine, Usage
from solon.method import trains
from solon.progress import Watcher
from solon.records import Aspect
from solon.role_settings import RoleName
from solon.seeds import derive_seed
from solon.store.record_file import RecordFile, complete


class Workbench:
    def __init__(self, config: Config, watcher: Watcher) -> None:
        """Raises SolonError for a model that learned people's labels of harm, in any of the roles.

        The policy may have where the configuration asks for such labels by name. What others write or judge
        would carry them on without a mark.
        """
        self.config = config
        self.watcher = watcher
        self.roles = config.models.by_role
        for role, name in self.roles.items():
            asked = role == "policy" and config.preference_model.human_harm
            marks.admit(name, f"models.{role}", asked)
        self.panel = feedback.further(config)
        for name in self.panel.values():
            marks.admit(name, "feedback.panel")
        self.date = date.today()  # what templates take for today
        self._engine: Engine | None = None
        self._used: Counter[str] = Counter()
        self._notes: list[str] = []

    def __enter__(self) -> "Workbench":
        return self

    def __exit__(self, *_: object) -> None:
        self.close_engine()

    # Constitutions

    @cached_property
    def constitution(self) -> Constitution:
        return constitution.load(self.config.constitution)

    @cached_property
    def helpful_labels(self) -> Constitution:
        """Whose principles label helpfulness."""
        return constitution.load(self.config.preference_model.helpfulness_constitution)

    @property
    def laws(self) -> dict[Aspect, Constitution]:
        """What each aspect is labelled by."""
        return {"harmlessness": self.constitution, "helpfulness": self.helpful_labels}

    # Records

    def complete(
        self,
        file: RecordFile,
        wanted: Sequence[Any],
        make: Callable[[list[Any]], Iterable[Mapping[str, Any]]],
        aside: RecordFile | None = None,
    ) -> list[Any]:
        """One record for each of ``wanted`` in the file, made where missing: ``record_file.complete``."""
        return complete(file, wanted, make, partial(self.watcher.advance, file.path.stem), aside=aside)

    def generate(
        self,
        file: RecordFile,
        wanted: Sequence[Any],
        role: RoleName,
        make: Callable[[Engine, list[Any]], Iterable[Mapping[str, Any]]],
        requests: int = 1,
        aside: RecordFile | None = None,
        model: str | None = None,
    ) -> list[Any]:
        """The same, made in blocks by the role's model, or another; see ``blocks.generate``.

        Records that were set aside are told of.
        """
        model = model or self.roles[role]
        records = blocks.generate(
            file,
            wanted,
            model,
            self.config.engine,
            lambda: self.engine(role, model),
            make,
            partial(self.watcher.advance, file.path.stem),
            requests,
            aside,
        )
        made = [*records, *(aside.read() if aside else ())]
        kept = f"; they are in {aside.path.name}" if aside else ""
        for note in set_aside_note(map(problem, made), len(made), file.path.stem, kept):
            self.note(note)
        for note in guesses.note(model, records):
            self.note(note)
        return records

    # Seeds and models

    def seed(self, *parts: str) -> int:
        """Of 31 bits, which every library takes."""
        return derive_seed(self.config.seed, *parts) % 2**31

    @cached_property
    def engine_settings(self) -> EngineSettings:
        """The configuration's, with what "auto" means here."""
        return settled(self.config.engine, {}, self.config.scale)

    def engine(self, role: RoleName, model: str | None = None) -> Engine:
        """The engine with the role's model loaded, or another in that role; one is in memory at a time."""
        model, settings = model or self.roles[role], self.config.role(role).on(self.date)
        if self._engine and self._engine.serves(model, settings):
            return self._engine
        self.close_engine()
        self._engine = open_engine(model, self.engine_settings, self.config.scale, settings)
        self._engine.say = self.note  # type: ignore[method-assign]
        return self._engine

    @property
    def judges(self) -> Judges | None:
        """Who rewards RL's samples, where the feedback model does."""
        if not self.config.reinforce.asks_feedback:
            return None
        return Judges(
            models=[self.roles["feedback"], *self.panel.values()],
            role=self.config.role("feedback").on(self.date),
            settings=self.config.feedback,
            laws=self.laws,
            engine=self.engine_settings,
            scale=self.config.scale,
        )

    def note(self, text: str) -> None:
        """Tell the user, and whoever asks for the notes, what they have not been told since."""
        if text not in self._notes:
            self.watcher.say(text)
            self._notes.append(text)

    def take_notes(self) -> list[str]:
        """What the engines had to say since the last call; the user has been told."""
        notes, self._notes = self._notes, []
        return notes

    def close_engine(self) -> None:
        if self._engine:
            self._count()
            self._engine.close()
            self._engine = None

    def take_usage(self) -> dict[str, float]:
        """The engines' token counts, and what servers cost, since the last call."""
        self._count()
        used, self._used = self._used, Counter()
        return {name: count for name, count in used.items() if count}

    def _count(self) -> None:
        if self._engine:
            self._used.update(dataclasses.asdict(self._engine.usage))
            if cut := self._engine.usage.thoughts_cut:
                self.note(
                    f"{cut} thoughts of {self._engine.model_name} came to {self._engine.role.thoughts} "
                    "tokens (thinking_tokens) and were closed there; the answers come after what there was."
                )
            self._engine.usage = Usage()

    def train(
        self, stage: str, records: Sequence[Any], models: Sequence[str | None], out: Path, seed: int
    ) -> dict[str, float]:
        """The stage's training of ``models`` on the records into ``out``; returns its last step's metrics.

        Records that were too long are told of.
        """
        from solon.pipeline import launch  # takes seconds to import

        self.close_engine()  # training needs its memory
        training = trains(stage)
        settings = getattr(self.config, training.section)
        progress, scale = partial(self.watcher.advance, "steps"), self.config.scale.training
        human_harm = self.config.preference_model.human_harm
        role, judges = self.config.role("policy").on(self.date), self.judges if stage == "reinforce" else None
        engine = self.config.engine
        metrics = launch.train(
            stage, records, models, out, settings, seed, progress, scale, human_harm, role, judges, engine
        )
        for note in training.too_long(metrics, getattr(settings, training.limit), len(records)):
            self.note(note)
        if judges:
            self._count_judges(out)
        return metrics

    def _count_judges(self, out: Path) -> None:
        """What rewarding samples took, and what the engines had to say, by all processes of the training."""
        for record in asked(out):
            self._used.update(record["usage"])
            for note in record["notes"]:
                self.note(note)


def problem(record: Mapping[str, Any]) -> str:
    """Why a record, or the first of its rounds, was set aside; "" where none was."""
    problems = [each.get("problem", "") for each in (record, *record.get("rounds", ()))]
    return next((problem for problem in problems if problem in SET_ASIDE), "")
