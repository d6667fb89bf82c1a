"""What each stage holds in a device's memory, as it is configured."""

from collections.abc import Mapping

from solon import feedback
from solon.config import Config, EngineSettings
from solon.inference.precision import FOUR_BITS
from solon.method import STAGES
from solon.planning import resources
from solon.planning.activations import FULL
from solon.planning.counting import SCORER
from solon.planning.machine import Device, Machine
from solon.planning.model_size import ModelSize
from solon.planning.resources import Memory, MicroBatch
from solon.planning.stage_work import StageWork

TRAINING = {stage.name: stage.training.section for stage in STAGES if stage.training}


def memory(work: StageWork, config: Config, sizes: Mapping[str, ModelSize], machine: Machine) -> Memory:
    """Of one GPU where several share a model, or of a machine whose processes have a copy each on its CPU."""
    if work.name in TRAINING:
        needs, processes = _training(work, config, sizes, machine), config.scale.training.processes
        return needs.times(processes, processes) if machine.training.is_cpu else needs
    engine, device = config.engine, machine.engine
    needs = max(
        (_inference(sizes[load.role], work, engine, device) for load in work.loads if load.role in sizes),
        key=lambda memory: memory.total,
    )  # one model is in memory at a time
    return _on_vllm(needs, config) if engine.kind == "vllm" and not device.is_cpu else needs


def room(stage: str, config: Config, machine: Machine) -> float:
    """Bytes that the stage may have of a device's memory: vLLM takes its share and no more."""
    device = machine.of(stage in TRAINING)
    if stage in TRAINING or config.engine.kind != "vllm" or device.is_cpu:
        return device.memory
    return device.memory * config.engine.vllm.gpu_memory_utilization


def _on_vllm(needs: Memory, config: Config) -> Memory:
    """Weights and keys are shared out over the GPUs, and nothing is kept of finished sequences."""
    share, kept = 1 / config.engine.vllm.tensor_parallel_size, dict(needs.varying)
    kept.pop("finished sequences")
    own = kept.pop("libraries")
    shared = Memory(needs.fixed, kept).times(share, share)
    return Memory(shared.fixed, shared.varying | {"libraries": own})


def _training(work: StageWork, config: Config, sizes: Mapping[str, ModelSize], machine: Machine) -> Memory:
    """Of one process of a training stage."""
    scale, policy = config.scale.training, sizes["policy"]
    device = machine.training.shared(scale.processes)
    share = 1 / scale.processes if scale.strategy == "fsdp" else 1.0
    if work.name == "reinforce":
        beside = _beside(config, policy, device)
        return _reinforce(work, config, policy, device, share, beside, _judges(config, sizes, device))
    settings = config.supervised if work.name == "supervised" else config.preference_model
    of_step = settings.batch_size // scale.processes
    sequences = min(settings.micro_batch_size, of_step)
    tokens, pairs = sequences * work.sequence, work.name == "preference-model"
    return resources.training(
        policy.scorer() if pairs else policy,
        MicroBatch(tokens, 0 if pairs else tokens, branches=pairs, accumulated=of_step > sequences),
        settings,
        device,
        share=share,
    )


def _reinforce(
    work: StageWork,
    config: Config,
    policy: ModelSize,
    device: Device,
    share: float,
    beside: Mapping[str, float],
    judges: Mapping[str, float],
) -> Memory:
    """The policy in training beside its reference and what rewards it, or while it samples.

    Keys and values of the sampler are in memory when nothing of an update is: the larger of the two counts.
    """
    rl, processes = config.reinforce, config.scale.training.processes
    of_step, micro_batch = rl.per_step
    own = of_step // processes
    sequences = min(micro_batch, own) * (2 if rl.learns_from == "pairs" else 1)
    batch = MicroBatch(
        sequences * work.sequence,
        sequences * min(rl.max_tokens, work.sequence),
        branches=True,
        accumulated=own > min(micro_batch, own),
    )
    update = resources.training(policy, batch, rl, device, beside, share)
    update.fixed.update(judges)
    if rl.learns_from == "pairs":
        return update
    on_vllm = config.engine.kind == "vllm" and not device.is_cpu
    answers = of_step if on_vllm else own  # one vLLM answers for all processes
    bytes_each = resources.held(rl, device) if rl.lora else resources.in_bfloat16(device)
    copy = policy.parameters * resources.in_bfloat16(device)
    prompts = answers / rl.samples_per_prompt * max(0, work.sequence - rl.max_tokens)
    sampler = resources.inference(policy, work, answers, copy, bytes_each, device, prompts)
    kept = {name: size for name, size in update.fixed.items() if name != "gradients"}
    if on_vllm:
        sampler = _on_vllm(sampler, config)
        taken = config.engine.vllm.gpu_memory_utilization * device.memory
        sampler.varying["vLLM's share"] = max(0.0, taken - sampler.total)
    if on_vllm or rl.lora is None or share < 1:  # else it runs on the policy's own weights
        kept["sampler"] = sampler.fixed["weights"]
    return max(update, Memory(kept, sampler.varying), key=lambda memory: memory.total)


def _judges(config: Config, sizes: Mapping[str, ModelSize], device: Device) -> dict[str, float]:
    """Bytes of the feedback models that reward the policy's samples themselves, where they are here."""
    asked = ("feedback", *feedback.further(config)) if config.reinforce.asks_feedback else ()
    return {
        f"the {part} model": _weights(sizes[part], config.engine, device)[0]
        for part in asked
        if part in sizes
    }


def _beside(config: Config, policy: ModelSize, device: Device) -> dict[str, float]:
    """What RL holds beside the policy, in bytes: its reference and the preference model.

    With adapters on one base these are adapters too, a copy of those that the policy began with among them.
    """
    rl, scorer = config.reinforce, policy.scorer()
    begun, judge = config.supervised.lora, config.preference_model.lora
    if rl.lora is None:
        copies = {"reference": float(policy.parameters * FULL), SCORER: float(scorer.parameters * FULL)}
    else:
        own = 0.0 if begun and judge else resources.frozen(scorer, rl, device)
        adapters = scorer.adapters(judge.rank) * FULL if judge else 0
        copies = {
            "reference": float(policy.adapters(begun.rank) * FULL) if begun else 0.0,
            SCORER: own + adapters + scorer.hidden * FULL,
        }
    return {
        name: size for name, size in copies.items() if size and (rl.needs_preference_model or name != SCORER)
    }


def _inference(size: ModelSize, work: StageWork, engine: EngineSettings, device: Device) -> Memory:
    weights, bytes_each = _weights(size, engine, device)
    asked = engine.batch_size * work.sequence
    return resources.inference(size, work, engine.batch_size, weights, bytes_each, device, asked)


def _weights(size: ModelSize, engine: EngineSettings, device: Device) -> tuple[float, int]:
    """An engine's weights in bytes, and those of a number that it computes.

    On a CPU "auto" is measured: the more is taken.
    """
    if engine.dtype == FOUR_BITS:
        return resources.in_4_bits(size, device), resources.in_bfloat16(device)
    much = engine.dtype == "float32" or (engine.dtype == "auto" and device.is_cpu)
    return size.parameters * (FULL if much else 2), FULL if much else 2
