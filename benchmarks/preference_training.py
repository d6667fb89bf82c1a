"""Preference model training, dialogue tokens a second: packed rows with shared beginnings against TRL.

    python benchmarks/preference_training.py [--pairs 6] [--micro-batch-size 2] [--runs 5] > result.json

Both train SmolLM2 on the same real comparisons: hh-rlhf's first of several turns, in the file's order. Each
run is one optimiser step over all pairs. The peer is TRL's RewardTrainer with its own collator and loss, at
our micro-batch size and at its own best. Tokens are those of both dialogues of every pair, without padding,
however few of them go through the model. At a learning rate of next to nothing the weights stay as they are,
so both sides' losses, which are the same for labels of 1, can be compared too. Memory is the peak of a
process that does one side's step and nothing else.
"""

import argparse
import gc
import tempfile
import time
from contextlib import nullcontext
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

import side_by_side
import torch
from transformers import PrinterCallback
from trl import RewardConfig, RewardTrainer

from solon import models
from solon.libraries.trl import NoTelemetry
from solon.prompts.dialogue import neutral_messages, reserved
from solon.sources import tables
from solon.sources.row_dialogues import comparison_of
from solon.stages import preference
from solon.training import packing, setup, trainers

FILE = Path(__file__).parent.parent.parent / "shared/data/hh-rlhf/harmless-base/test.even.jsonl.gz"
MESSAGES = 3  # in a prompt, at least: a question, an answer and another question
MAX_LENGTH = 1024


class Peer(trainers.Discreet, NoTelemetry, RewardTrainer):  # type: ignore[misc]
    """TRL's trainer, with its own loss and collator."""


class Step:
    """One optimiser step over the pairs, by either side, on one model."""

    def __init__(self, model: str, file: Path, pairs: int, folder: str) -> None:
        setup.settle_libraries()
        self.folder = Path(folder)
        self.tokenizer = models.load_tokenizer(model)
        self.model = setup.without_dropout(models.load_preference_model(model))
        forms = reserved(self.tokenizer)
        comparisons = (comparison_of(row) for row in tables.rows(str(file)))
        long = (each for each in comparisons if len(each[0]) >= MESSAGES and each[1] != each[2])
        self.pairs = [
            {
                "prompt": neutral_messages(prompt, forms),
                "chosen": neutral_messages(chosen, forms),
                "rejected": neutral_messages(rejected, forms),
                "probability": 1.0,
            }
            for prompt, chosen, rejected in islice(long, pairs)
        ]
        self.trainers: dict[str, RewardTrainer] = {}
        self.losses: dict[str, float] = {}
        self.processor_seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        gc.collect()
        gc.freeze()  # a trainer begins with a search for garbage, which took a second of each run

    def prepare(
        self,
        side: str,
        micro_batch_size: int,
        pairs: int | None = None,
        bf16: bool = setup.use_bfloat16(),
    ) -> None:
        """``pairs``: only as many of them."""
        rows = self.pairs[:pairs]
        arguments = setup.common_arguments(self.folder, 0, len(rows), micro_batch_size, [])
        options: dict[str, Any] = {
            "model": self.model,
            "args": RewardConfig(
                **{**arguments, "bf16": bf16, "save_strategy": "no"},
                max_steps=1,
                learning_rate=1e-30,
                max_length=MAX_LENGTH,
            ),
            "processing_class": self.tokenizer,
        }
        if side == "ours":
            columns = ("prompt", "chosen", "rejected", "probability")
            options["data_collator"] = preference.PackedCollator(pad_token_id=self.tokenizer.pad_token_id)
            kind = preference.SoftLabelTrainer
        else:
            columns = ("prompt", "chosen", "rejected")
            kind = Peer
        dataset = setup.conversational(rows, self.tokenizer, *columns)
        self.trainers[side] = kind(train_dataset=dataset, **options)
        self.trainers[side].remove_callback(PrinterCallback)
        gc.collect()

    def run(self, side: str) -> int:
        """The number of tokens trained on."""
        trainer = self.trainers[side]
        start = time.process_time()
        with packing.packed_scores(self.model) if side == "ours" else nullcontext():
            trainer.train()
        self.processor_seconds[side].append(time.process_time() - start)
        self.losses[side] = trainer.state.log_history[0]["loss"]
        return sum(len(row[name]) for row in trainer.train_dataset for name in ("chosen_ids", "rejected_ids"))

    def lengths(self) -> dict[str, float]:
        """Of the pairs last prepared, in tokens, averaged: what both answers begin with, and their rests."""
        rows = self.trainers["ours"].train_dataset
        masks = [
            packing.pack([(row["chosen_ids"], row["rejected_ids"])], None)["branches"][0] for row in rows
        ]
        return {
            "common": round(fmean(first.shape[3] - first.shape[2] for first, _ in masks), 1),
            "rest_of_chosen": round(fmean(first.shape[2] for first, _ in masks), 1),
            "rest_of_rejected": round(fmean(second.shape[2] for _, second in masks), 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--micro-batch-size", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4], help="the peer's micro-batches")
    parser.add_argument("--data", type=Path, default=FILE)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--alone", choices=side_by_side.SIDES, help="one step of one side, and its peak memory"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        step = Step(asked.model, asked.data, asked.pairs, folder)
        if asked.alone:
            step.prepare(asked.alone, asked.micro_batch_size)
            step.run(asked.alone)
            print(side_by_side.own_peak())
        else:
            measure(step, asked)


def measure(step: Step, asked: argparse.Namespace) -> None:
    size = asked.micro_batch_size

    @cache
    def peak_memory(side: str, micro_batch_size: int) -> float | None:
        options = f"--alone={side} --micro-batch-size={micro_batch_size} --pairs={asked.pairs}".split()
        return side_by_side.peak_memory(__file__, f"--model={asked.model}", f"--data={asked.data}", *options)

    def try_size(micro_batch_size: int) -> int:
        step.prepare("theirs", micro_batch_size, pairs=max(4, *asked.sizes))
        return step.run("theirs")

    def compare(their_size: int) -> dict[str, Any]:
        def prepare() -> None:
            step.prepare("ours", size)
            step.prepare("theirs", their_size)

        found = side_by_side.compare(
            prepare, lambda: step.run("ours"), lambda: step.run("theirs"), asked.runs
        )
        spent = {side: median(seconds) for side, seconds in step.processor_seconds.items()}
        apart = abs(step.losses["ours"] - step.losses["theirs"])
        return {
            "micro_batch_size": {"ours": size, "theirs": their_size},
            **found,
            "ratio_by_processor_time": round(spent["theirs"] / spent["ours"], 2),
            "difference_of_losses": apart,
            "peak_memory_gb": {
                "ours": peak_memory("ours", size),
                "theirs": peak_memory("theirs", their_size),
            },
        }

    try_size(1)  # a first run is slower than any after it
    best = side_by_side.best(asked.sizes, try_size)
    same = compare(size)
    at_best = compare(best) if best != size else same
    lengths = step.lengths()
    rounded: dict[str, float] = {}
    for name, bf16 in (("float32", False), ("bfloat16 autocast", True)):
        step.prepare("ours", size, bf16=bf16)
        start = time.perf_counter()
        made = step.run("ours")
        side_by_side.finish()
        rounded[name] = round(made / (time.perf_counter() - start), 1)
    through = sum(lengths.values()) / (lengths["common"] * 2 + sum(lengths.values()) - lengths["common"])
    operations = 6 * sum(weight.numel() for weight in step.model.parameters())  # a token, forward and back
    peak = side_by_side.matmul_peak(torch.bfloat16 if setup.use_bfloat16() else torch.float32)
    side_by_side.show(
        benchmark="preference model training, tokens/s",
        asked=vars(asked) | {"data": asked.data.name},
        dtype="bfloat16 autocast" if setup.use_bfloat16() else "float32",
        peer="TRL's RewardTrainer as it is",
        data=f"hh-rlhf harmless-base test, the first {asked.pairs} rows with {MESSAGES} messages or more",
        mean_lengths=lengths,
        # Of the tokens that go through the model; attention and the other kernels count as nothing done.
        model_flops_utilisation={
            "ours": round(same["median_rate"]["ours"] * through * operations / peak, 3),
            "theirs": round(at_best["median_rate"]["theirs"] * operations / peak, 3),
        },
        same_micro_batch_size=same,
        their_best_micro_batch_size=at_best,
        our_rate_by_precision_one_run=rounded,
    )


if __name__ == "__main__":
    main()
