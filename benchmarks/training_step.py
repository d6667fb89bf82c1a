"""Training's throughput and the share of the device's peak that it reaches, against TRL as it is.

    python benchmarks/training_step.py supervised|preference-model|reinforce MODEL [--lora] > result.json

Both sides train the same model on the same made-up dialogues, with the same batches and settings, in the same
number type: with --lora adapters on weights in bfloat16, else all weights in float32 under bfloat16 autocast
(on a CPU in float32). The first steps are not counted. In RL a step samples answers, scores them and learns
from them; TRL samples by ``generate`` and is given its preference model as a model.

The utilisation is of operations that the model needs for its tokens, however they are computed (what is
computed a second time counts once), over the rate of a large product in bfloat16 (on a CPU in float32).
"""

import argparse
import gc
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import memory
import side_by_side
import torch
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from solon import config, models
from solon.libraries.trl import NoTelemetry
from solon.planning import resources
from solon.planning.counting import SCORER, Load, attended
from solon.planning.model_size import ModelSize, of_model
from solon.training import setup

UNCOUNTED = 2  # first steps, in which kernels and memory are made


class Peer(NoTelemetry):
    """Goes before TRL's trainers."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        pass


class SFTPeer(Peer, SFTTrainer):  # type: ignore[misc]
    pass


class RewardPeer(Peer, RewardTrainer):  # type: ignore[misc]
    pass


class GRPOPeer(Peer, GRPOTrainer):  # type: ignore[misc]
    pass


class Clock(TrainerCallback):  # type: ignore[misc]
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def now(self, *_: Any, **__: Any) -> None:
        side_by_side.finish()
        self.times.append(time.perf_counter())

    on_step_end = now

    @property
    def seconds(self) -> float:
        """Of a step."""
        ended = self.times[UNCOUNTED - 1 :]
        return statistics.median(later - earlier for earlier, later in pairwise(ended))


def section_of(asked: argparse.Namespace, stage: str) -> Any:
    rl = stage == "reinforce"
    common: dict[str, Any] = {"micro_batch_size": asked.micro_batch_size, "learning_rate": 1e-6}
    if asked.lora:
        common["lora"] = config.Lora()
    if rl:
        return config.Reinforce(
            algorithm="grpo",
            steps=asked.steps,
            prompts_per_step=asked.batch // 4,
            samples_per_prompt=4,
            max_tokens=asked.tokens // 2,
            max_prompt_length=4 * asked.tokens,
            **common,
        )
    kind = config.Supervised if stage == "supervised" else config.PreferenceModel
    held_out = {"held_out": 0.1} if stage == "preference-model" else {}
    return kind(batch_size=asked.batch, max_length=4 * asked.tokens, **held_out, **common)


def ours(asked: argparse.Namespace, rows: list[Any], folder: Path) -> Clock:
    clock = Clock()
    if asked.stage == "reinforce":  # a preference model of one step
        pairs = memory.made_up("preference-model", models.load_tokenizer(asked.model), 32, asked.batch)
        judge = section_of(asked, "preference-model")
        memory.train("preference-model", pairs, asked.model, folder, judge)
    memory.train(asked.stage, rows, asked.model, folder, section_of(asked, asked.stage), clock.now)
    return clock


def theirs(asked: argparse.Namespace, rows: list[Any], folder: Path) -> Clock:
    clock, tokenizer = Clock(), models.load_tokenizer(asked.model)
    stage, held = asked.stage, torch.bfloat16 if asked.lora and setup.use_bfloat16() else torch.float32
    arguments: dict[str, Any] = {
        "output_dir": str(folder / "theirs"),
        "per_device_train_batch_size": asked.micro_batch_size,
        "gradient_accumulation_steps": asked.batch // asked.micro_batch_size,
        "max_steps": asked.steps,
        "learning_rate": 1e-6,
        "bf16": setup.use_bfloat16(),
        "use_cpu": side_by_side.DEVICE.type == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "model_init_kwargs": None,
    }
    scorer = stage == "preference-model"
    load = models.load_preference_model if scorer else models.load_model
    options: dict[str, Any] = {
        "model": load(asked.model, held),
        "processing_class": tokenizer,
        "callbacks": [clock],
        "peft_config": LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS" if scorer else "CAUSAL_LM"
        )
        if asked.lora
        else None,
    }
    if stage == "reinforce":
        judge = AutoModelForSequenceClassification.from_pretrained(asked.model, num_labels=1, dtype=held)
        judge.config.pad_token_id = tokenizer.pad_token_id
        trainer: Any = GRPOPeer(
            args=GRPOConfig(
                **arguments, num_generations=4, max_completion_length=asked.tokens // 2, beta=0.05, top_k=0
            ),
            reward_funcs=judge.to(side_by_side.DEVICE),
            reward_processing_classes=tokenizer,
            train_dataset=setup.conversational(rows, tokenizer, "prompt"),
            **options,
        )
    else:
        columns = ("prompt", "chosen", "rejected") if scorer else ("prompt", "completion")
        kind, settings = (RewardPeer, RewardConfig) if scorer else (SFTPeer, SFTConfig)
        trainer = kind(
            args=settings(**arguments, max_length=4 * asked.tokens),
            train_dataset=setup.conversational(rows, tokenizer, *columns),
            **options,
        )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock


def needed(asked: argparse.Namespace, size: ModelSize) -> float:
    """Floating-point operations of a step."""
    half, count = asked.tokens // 2, asked.batch

    def of(role: str, way: Any, tokens: int, start: int = 0, logits: int = 0) -> float:
        load = Load(role, way, count * tokens, 0, count * attended(start, start + tokens), count * logits)
        used = size.scorer() if role == SCORER else size
        return resources.operations(load, used, adapters=asked.lora).total

    if asked.stage == "supervised":
        return of("policy", "train", 2 * half, logits=half)
    if asked.stage == "preference-model":
        return of(SCORER, "train", 2 * half) + of(SCORER, "train", half, start=half)
    once = of("policy", "prompt", half) / 4  # a prompt has four answers
    sampling = once + of("policy", "generate", half, start=half, logits=half)
    scoring = of(SCORER, "prompt", 2 * half) + of("policy", "prompt", 2 * half, logits=half)
    return sampling + scoring + of("policy", "train", 2 * half, logits=half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=list(memory.STAGES))
    parser.add_argument("model")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--batch", type=int, default=16, help="sequences or pairs a step")
    parser.add_argument("--micro-batch-size", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512, help="of a dialogue, half of them the answer")
    parser.add_argument("--steps", type=int, default=6)
    asked = parser.parse_args()
    setup.settle_libraries()
    tokenizer, size = models.load_tokenizer(asked.model), of_model(asked.model)
    count = asked.steps * (asked.batch // 4 if asked.stage == "reinforce" else asked.batch)
    rows = memory.made_up(asked.stage, tokenizer, asked.tokens, count)
    number = torch.bfloat16 if setup.use_bfloat16() else torch.float32
    peak, found = side_by_side.matmul_peak(number), {}
    for side, work in (("ours", ours), ("theirs", theirs)):
        with tempfile.TemporaryDirectory() as folder:
            side_by_side.gpu_memory(anew=True)
            seconds = work(asked, rows, Path(folder)).seconds
            found[side] = {
                "seconds_a_step": round(seconds, 4),
                "tokens_a_second": round(asked.batch * asked.tokens / seconds, 1),
                "model_flops_utilisation": round(needed(asked, size) / seconds / peak, 4),
                "peak_memory_gb": round(side_by_side.gpu_memory() / 1e9, 2),
            }
        gc.collect()
        if side_by_side.DEVICE.type == "cuda":
            torch.cuda.empty_cache()
    side_by_side.show(
        benchmark=f"training step, {asked.stage}",
        asked=vars(asked),
        parameters=size.parameters,
        peak_flops=round(peak),
        ratio=round(found["theirs"]["seconds_a_step"] / found["ours"]["seconds_a_step"], 2),
        peer="TRL's trainer as it is",
        **found,
    )


if __name__ == "__main__":
    main()
