"""vLLM's workers, as Solon starts them for a model: the engine's, and those that sample in RL."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from solon.engine_settings import EngineSettings
from solon.errors import SolonError, first_line
from solon.inference.precision import FOUR_BITS, choose_dtype
from solon.libraries import vllm as libraries
from solon.libraries.vllm import EngineArgs, LLMEngine, current_platform, start
from solon.models import load_config, resolve

CPU_BLOCK = 32  # tokens; prefixes are shared in whole blocks, and vLLM's own 128 on a CPU would lose much


def vllm_dtype(settings: EngineSettings) -> str:
    """What ``settings.dtype`` means for vLLM here.

    Raises SolonError where the vLLM installed runs on another device than ``settings.device``, or on one on
    which it packs no weights in 4 bits.
    """
    device = current_platform.device_type
    if settings.device not in {"auto", device}:
        raise SolonError(
            f"engine.device is {settings.device!r}, but the vLLM installed here runs on {device!r}: set "
            f"engine.device to {device} or auto, or install vLLM's build for {settings.device}"
        )
    if settings.dtype == FOUR_BITS and device == "cpu":
        raise SolonError(
            "engine.dtype is 4bit, which vLLM has on GPUs alone: set it to bfloat16, or engine.kind to "
            "transformers"
        )
    return str(choose_dtype(settings.dtype, torch.device(device))).removeprefix("torch.")


def open_workers(model: str, settings: EngineSettings, dtype: str, **changes: Any) -> LLMEngine:
    """vLLM with the model; ``changes`` are of its own arguments.

    Raises SolonError where it cannot run the model or has not the memory for it.
    """
    own = settings.vllm
    options: dict[str, Any] = {}
    if current_platform.device_type == "cpu":
        # A prompt computed in pieces draws a token after each, which vLLM on a CPU cannot take back from
        # a request's own generator: it fails.
        options |= {"block_size": CPU_BLOCK, "enable_chunked_prefill": False}
    if settings.dtype == FOUR_BITS:
        options["quantization"] = "bitsandbytes"
    options |= {"gpu_memory_utilization": own.gpu_memory_utilization} | changes
    try:
        arguments = EngineArgs(
            model=resolve(model),
            dtype=dtype,
            max_model_len=-1,  # the model's own, or what there is memory for
            max_num_seqs=settings.batch_size,
            enable_prefix_caching=True,
            tensor_parallel_size=own.tensor_parallel_size,
            enforce_eager=own.enforce_eager,
            # A worker of its own gives all its memory back when it ends.
            distributed_executor_backend="mp",
            **options,
        )
        return start(arguments)
    except SolonError:
        raise
    except Exception as error:  # vLLM's workers raise Exception itself
        raise SolonError(
            f"vLLM cannot run model {model!r}: {first_line(error)}; it says more above. Where memory is "
            "short, change engine.vllm.gpu_memory_utilization (on a CPU also the environment variable "
            "VLLM_CPU_KVCACHE_SPACE); a model that vLLM does not know runs with engine.kind transformers"
        ) from error


def hand_over(
    workers: LLMEngine, model: str, weights: Iterable[tuple[str, Tensor]], dtype: str, instead: str
) -> None:
    """Give the workers the model's weights, in a checkpoint's names, out of this process's memory.

    Raises SolonError, which says what to do ``instead``, where they have not got all of theirs.
    """
    if missing := libraries.hand_over(workers, weights, getattr(torch, dtype)):
        raise SolonError(
            f"vLLM knows weights of {model!r} by other names than transformers, and has not got "
            f"{min(missing)}: {instead}"
        )


def generation_config(model: str) -> GenerationConfig:
    """Where the model's turns end is written in it."""
    try:
        return GenerationConfig.from_pretrained(resolve(model))
    except OSError:  # an older folder without the file, or adapters that bring none
        return GenerationConfig.from_model_config(load_config(model))
