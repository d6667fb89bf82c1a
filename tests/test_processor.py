"""The processor that tests run on, or as which they run: ``make test-least`` proves that it is less."""

import os

import pytest
import torch

from solon.inference.precision import choose_dtype
from solon.libraries.torch import packs_bfloat16
from solon.policy.rollouts import number_type

pytestmark = pytest.mark.numeric
NO_BFLOAT16 = {"SSE41", "AVX", "AVX2"}


@pytest.mark.skipif("ATEN_CPU_CAPABILITY" not in os.environ, reason="PyTorch is not limited")
def test_pytorch_is_limited() -> None:
    assert torch.backends.cpu.get_cpu_capability().lower() == os.environ["ATEN_CPU_CAPABILITY"]


@pytest.mark.skipif(os.environ.get("ONEDNN_MAX_CPU_ISA") not in NO_BFLOAT16, reason="oneDNN is not limited")
def test_without_bfloat16_models_run_in_float32() -> None:
    assert not packs_bfloat16()
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    if not torch.cuda.is_available():
        assert number_type() == "float32"
