"""What a way to the policy is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solon import config
from solon.engine_settings import USUAL_ENGINE, EngineSettings
from solon.feedback.sample_judges import Judges
from solon.marks import Mark
from solon.progress import Progress
from solon.role_settings import POLICY, Role


@dataclass(frozen=True)
class Task:
    """A policy to train into a folder: on prompts, by rewards of its answers, or on pairs."""

    records: Sequence[Any]  # prompts, or labelled pairs
    policy: str
    preference_model: str | None
    out: Path
    settings: config.Reinforce
    seed: int
    progress: Progress
    left_out: int = 0  # prompts, for their length
    mark: Mark = field(default_factory=dict)  # that the policy will bear
    role: Role = POLICY  # the policy's
    judges: Judges | None = None  # whose feedback rewards samples
    engine: EngineSettings = USUAL_ENGINE  # samples its answers
