"""The run that faults are done to, and what it leaves when nothing disturbs it."""

from pathlib import Path

import pytest
from killing import finish

from solon.config import Config
from test_pipeline import config


@pytest.fixture(scope="session")
def settings(tiny_model: Path) -> Config:
    # Small batches make several blocks of the few records.
    prompts = {"red_team": {"train": 18, "held_out": 4}}
    return config(tiny_model, engine={"batch_size": 2}, prompts=prompts)


@pytest.fixture(scope="session")
def whole(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(settings, folder)
    return folder
