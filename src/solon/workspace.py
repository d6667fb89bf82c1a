"""What the stages of one run share: settings, constitutions, record files, and one engine at a time."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from solon import constitution, feedback, models, trackers
from solon.config import SERVER_MODEL, Config
from solon.errors import SolonError
from solon.inference import blocks, open_engine, settled
from solon.inference.engine import Engine, Usage
from solon.progress import Watcher
from solon.records import KINDS, Message, PromptRecord, PromptSet, Split
from solon.seeds import derive_seed
from solon.stages import kept_policies, preference_scores, training
from solon.store.record_file import RecordFile, complete


class Workspace:
    def __init__(self, config: Config, folder: Path, watcher: Watcher) -> None:
        """Raises SolonError for an unknown model or constitution, or one with too few principles."""
        self.config = config
        self.folder = folder
        self.watcher = watcher
        self.constitution = constitution.load(config.constitution)
        self.helpful_labels = constitution.load(config.preference_model.helpfulness_constitution)
        self.helpful_evaluation = constitution.load(config.evaluation.helpfulness_constitution)
        self.roles = {
            "assistant": config.models.assistant,
            "critic": config.models.critic_or_default,
            "policy": config.models.policy_or_default,
            "feedback": config.models.feedback_or_default,
        }
        # Said now, not after hours of work.
        if self.roles["policy"].startswith(SERVER_MODEL):
            raise SolonError(
                f"models.policy is {self.roles['policy']!r}, on a server, but the policy is trained here: "
                "set models.policy to a local model"
            )
        rng = random.Random(0)
        self.constitution.with_critique(config.critique.principles, rng).draw_critique(rng)
        feedback.check(config, self.constitution, self.helpful_labels)
        self.helpful_evaluation.draw_comparison(random.Random(0))
        if not config.scale.engine:  # else it is on the cluster's machines
            models.check_device(config.engine.device)
        for stage in (config.supervised, config.preference_model, config.reinforce):
            trackers.check(stage.report_to)
        for name in set(self.roles.values()):
            models.check(name)
        self.hashes = {name: models.weights_hash(name) for name in set(self.roles.values())}
        self.engine_settings = config.engine
        self._engine: Engine | None = None
        self._used: Counter[str] = Counter()
        self._notes: list[str] = []

    # Files

    def file(self, path: str) -> RecordFile:
        return RecordFile(self.folder / path, KINDS.get(Path(path).stem))

    def complete(
        self, path: str, wanted: Sequence[Any], make: Callable[[list[Any]], Iterable[Mapping[str, Any]]]
    ) -> list[Any]:
        """One record for each of ``wanted`` in the file, made where missing: ``record_file.complete``."""
        return complete(self.file(path), wanted, make, partial(self.watcher.advance, Path(path).stem))

    def generate(
        self,
        path: str,
        wanted: Sequence[Any],
        model: str,
        make: Callable[[Engine, list[Any]], Iterable[Mapping[str, Any]]],
        requests: int = 1,
        aside: str | None = None,
    ) -> list[Any]:
        """The same, made by an engine with ``model`` in blocks; see ``blocks.generate``."""
        return blocks.generate(
            self.file(path),
            wanted,
            model,
            self.config.engine,
            lambda: self.engine(model),
            make,
            partial(self.watcher.advance, Path(path).stem),
            requests,
            self.file(aside) if aside else None,
        )

    def prompts(self, prompt_set: PromptSet, split: Split) -> list[PromptRecord]:
        return [
            record
            for record in self.file("01-red-team/prompts.jsonl")
            if record["set"] == prompt_set and record["split"] == split
        ]

    @property
    def sl_cai(self) -> str:
        return str(self.folder / "03-sl-cai")

    @property
    def preference_model(self) -> str:
        return str(self.folder / "06-preference-model")

    @property
    def rl_cai(self) -> str:
        return str(self.folder / "07-rl-cai")

    @property
    def kept_policies(self) -> dict[int, Path]:
        """The policies kept on RL's way, by step, before the one that it ended with."""
        kept = kept_policies.kept(Path(self.rl_cai))
        return {step: folder for step, folder in kept.items() if step < self.rl_steps}

    @property
    def rl_steps(self) -> int:
        """How many steps RL has taken."""
        return max(int(row["step"]) for row in RecordFile(Path(self.rl_cai) / "metrics.jsonl"))

    # Seeds and models

    def seed(self, *parts: str) -> int:
        """Of 31 bits, which every library takes."""
        return derive_seed(self.config.seed, *parts) % 2**31

    def engine(self, model: str) -> Engine:
        """The engine with the model loaded; one model is in memory at a time."""
        if self._engine and (self._engine.model_name == model or self._engine.load(model)):
            return self._engine
        self.close_engine()
        self._engine = open_engine(model, self.engine_settings, self.config.scale)
        self._engine.say = self._note  # type: ignore[method-assign]
        return self._engine

    def settle_engine(self, earlier: Mapping[str, str]) -> dict[str, str]:
        """Decide what "auto" means for the whole run, and return it: what was ``earlier`` settled stays."""
        self.engine_settings = settled(self.config.engine, earlier, self.config.scale)
        return {name: getattr(self.engine_settings, name) for name in ("kind", "device", "dtype")}

    def _note(self, text: str) -> None:
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
            self._engine.usage = Usage()

    def training_progress(self) -> training.Progress:
        """For the trainers, which need the memory that the engine has."""
        self.close_engine()
        return partial(self.watcher.advance, "steps")

    def score(self, dialogues: Sequence[Sequence[Message]]) -> list[float]:
        """The run's preference model's score of each dialogue."""
        self.close_engine()
        batch_size = self.config.preference_model.micro_batch_size
        return preference_scores.scorer(self.preference_model, batch_size)(dialogues)
