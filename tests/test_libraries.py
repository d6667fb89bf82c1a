"""What Solon uses of libraries beyond what they promise to keep is still there, and still in use."""

import warnings
from pathlib import Path

import pytest
from trl import GRPOConfig, RewardConfig, RLOOConfig, SFTConfig

from solon.stages import training


@pytest.mark.parametrize("configuration", [SFTConfig, RewardConfig, RLOOConfig, GRPOConfig])
def test_no_trainer_computes_activations_twice(configuration: type, tmp_path: Path) -> None:
    several = {"num_generations": 2} if configuration in (RLOOConfig, GRPOConfig) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        arguments = configuration(**training.common_arguments(tmp_path, 0, 2, 2, []), **several)
    assert arguments.gradient_checkpointing is False
    assert getattr(arguments, "activation_checkpointing", False) is False
