"""A run's workbench: its folder, its record files, and its models as they come to be."""

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from solon import adapter_folders, constitution, feedback, models, trackers
from solon.config import Config, on_server
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.evaluation import tournament
from solon.inference import settled
from solon.libraries import bitsandbytes
from solon.method import STAGES, stage
from solon.pipeline.workbench import Workbench
from solon.policy import kept_policies
from solon.progress import Watcher
from solon.records import KINDS, Aspect, Message, PromptRecord, PromptSet, Split
from solon.role_settings import ROLES, Role
from solon.store.record_file import RecordFile
from solon.training import optimizer, preference_scores


class Done(NamedTuple):
    """What a finished stage leaves in the manifest."""

    records: int
    notes: list[str]


class Workspace(Workbench):
    def __init__(self, config: Config, folder: Path, watcher: Watcher) -> None:
        """Raises SolonError for an unknown model or constitution, or one with too few principles."""
        super().__init__(config, watcher)
        self.folder = folder
        # Said now, not after hours of work.
        if on_server(self.roles["policy"]):
            raise SolonError(
                f"models.policy is {self.roles['policy']!r}, on a server, but the policy is trained here: "
                "set models.policy to a local model"
            )
        rng = random.Random(0)
        self.constitution.with_critique(config.critique.principles, rng).draw_critique(rng)
        feedback.check(config, self.constitution, self.helpful_labels)
        tournament.check(config, self.evaluated_by)
        if not config.scale.engine:  # else it is on the cluster's machines
            models.check_device(config.engine.device)
            if config.engine.dtype == "4bit":
                bitsandbytes.check("engine.dtype 4bit", "set it to bfloat16")
        for each in STAGES:
            if each.training:
                settings = getattr(config, each.training.section)
                trackers.check(settings.report_to)
                optimizer.check(settings.optimizer)
                if settings.weights == "4bit":
                    bitsandbytes.check(f"{each.training.section}.weights 4bit", "set it to bfloat16")
        checked: list[tuple[str, Role]] = []
        for role in ROLES:
            asked = (self.roles[role], config.role(role))
            if asked not in checked:
                models.check(*asked)
                checked.append(asked)
        for name in self.panel.values():
            models.check(name, config.role("feedback"))
        models.check_policy(self.roles["policy"])
        if config.trains_preference_model:
            models.check_scorer(self.roles["policy"])
        self._check_adapters()
        names = dict.fromkeys([*self.roles.values(), *self.panel.values()])
        for name in names:
            if config.engine.kind == "transformers" and (told := models.slow(name)):
                watcher.say(told)
        self.hashes = {name: models.weights_hash(name) for name in names}

    def _check_adapters(self) -> None:
        """Raises SolonError where a training is to go on from adapters of another shape than it asks for."""
        supervised, rl = self.config.supervised.lora, self.config.reinforce.lora
        for lora in (supervised, self.config.preference_model.lora):
            adapter_folders.fits(self.roles["policy"], lora)
        if supervised and rl and (supervised.rank, supervised.alpha) != (rl.rank, rl.alpha):
            raise SolonError(
                f"reinforce.lora has rank {rl.rank} and alpha {rl.alpha}, but goes on from the adapters of "
                f"supervised.lora, which have {supervised.rank} and {supervised.alpha}: give both the same"
            )

    @cached_property
    def helpful_evaluation(self) -> Constitution:
        return constitution.load(self.config.evaluation.helpfulness_constitution)

    @property
    def evaluated_by(self) -> dict[Aspect, Constitution]:
        """What the models' answers are judged by, on each aspect."""
        return {"harmlessness": self.constitution, "helpfulness": self.helpful_evaluation}

    # Files

    def file(self, path: str) -> RecordFile:
        return RecordFile(self.folder / path, KINDS.get(Path(path).stem))

    def prompts(self, prompt_set: PromptSet, split: Split) -> list[PromptRecord]:
        return [
            record
            for record in self.file("01-red-team/prompts.jsonl")
            if record["set"] == prompt_set and record["split"] == split
        ]

    # Models

    def made_by(self, name: str) -> str:
        """The folder of the stage's trained model."""
        return str(self.folder / stage(name).folder)

    @property
    def sl_cai(self) -> str:
        return self.made_by("supervised")

    @property
    def preference_model(self) -> str:
        return self.made_by("preference-model")

    @property
    def rl_cai(self) -> str:
        return self.made_by("reinforce")

    @property
    def kept_policies(self) -> dict[int, Path]:
        """The policies kept on RL's way, by step, before the one that it ended with."""
        kept = kept_policies.kept(Path(self.rl_cai))
        return {step: folder for step, folder in kept.items() if step < self.rl_steps}

    @property
    def rl_steps(self) -> int:
        """How many steps RL has taken."""
        return max(int(row["step"]) for row in RecordFile(Path(self.rl_cai) / "metrics.jsonl"))

    def settle_engine(self, earlier: Mapping[str, str]) -> dict[str, str]:
        """Decide what "auto" means for the whole run, and return it: what was ``earlier`` settled stays."""
        self.engine_settings = settled(self.config.engine, earlier, self.config.scale)
        return {name: getattr(self.engine_settings, name) for name in ("kind", "device", "dtype")}

    @property
    def measures_preference(self) -> bool:
        """Whether there is a preference model to score with."""
        return Path(self.preference_model).is_dir()

    def score(self, dialogues: Sequence[Sequence[Message]]) -> list[float]:
        """The run's preference model's score of each dialogue."""
        self.close_engine()
        batch_size = self.config.preference_model.micro_batch_size
        return preference_scores.scorer(self.preference_model, batch_size)(dialogues)
