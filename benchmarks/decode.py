"""Tokens a second in decoding, against the peak of a bfloat16 matmul and against ``model.generate``.

    python benchmarks/decode.py [--batch 128] [--tokens 64] [--runs 5] > result.json

The peak is the rate of a square product of 2048 x 2048, in the same run, over the FLOPs of the model's linear
layers for one token (two for each weight; attention is not counted). Both sides generate the same number of
tokens for the same prompts, sampled at temperature 1. Reading the prompts is not decoding: the time that each
side takes for one token a prompt is taken off the time that it takes for all.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import side_by_side
import torch
from transformers import LogitsProcessor

from solon import models
from solon.config import EngineSettings
from solon.inference.engine import Request
from solon.inference.transformers_engine import TransformersEngine
from solon.prompts.dialogue import user
from solon.records import Message


class NoEnd(LogitsProcessor):  # type: ignore[misc]
    """Takes the ends of a text out of the peer's choice, so that both sides work to the last token."""

    def __init__(self, ends: list[int]) -> None:
        self.ends = ends

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, self.ends] = -torch.inf
        return scores


def peak(dtype: torch.dtype) -> float:
    """FLOP/s, the best of twenty products."""
    left, right = torch.randn(2, 2048, 2048, dtype=dtype)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return float(2 * 2048**3 / min(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="smollm2")
    asked = parser.parse_args()
    engine = TransformersEngine(
        asked.model, EngineSettings(device="cpu", dtype="bfloat16", batch_size=asked.batch)
    )
    ends, engine._dialogue.ends = engine._dialogue.ends, set()  # every text goes on to its last token
    prompts: list[list[Message]] = [
        [user(f"Tell me a long story about the number {number}.")] for number in range(asked.batch)
    ]
    model, tokenizer = models.load_model(asked.model, torch.bfloat16), models.load_tokenizer(asked.model)
    inputs = tokenizer.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        padding=True,
        padding_side="left",
        return_dict=True,
        return_tensors="pt",
    )

    def ours(tokens: int) -> None:
        requests = (
            Request(str(number), prompt, max_tokens=tokens, seed=number)
            for number, prompt in enumerate(prompts)
        )
        made = sum(completion.tokens for completion in engine.generate(requests))
        assert made == tokens * len(prompts)

    def theirs(tokens: int) -> None:
        with torch.inference_mode():
            found = model.generate(
                **inputs,
                max_new_tokens=tokens,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                logits_processor=[NoEnd(sorted(ends))],
            )
        assert found.shape[1] - inputs["input_ids"].shape[1] == tokens

    def rate(side: Callable[[int], None]) -> float:
        """Decoded tokens a second."""
        seconds = []
        for tokens in (1, asked.tokens):
            engine.forget()
            start = time.perf_counter()
            side(tokens)
            seconds.append(time.perf_counter() - start)
        return len(prompts) * (asked.tokens - 1) / (seconds[1] - seconds[0])

    ours(2)  # both sides once, untimed: kernels are made at their first use
    theirs(2)
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    most = peak(torch.bfloat16) / (2 * weights)
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(asked.runs):
        for side, work in (("ours", ours), ("theirs", theirs)):
            rates[side].append(round(rate(work), 1))
    medians = {side: statistics.median(found) for side, found in rates.items()}
    side_by_side.show(
        benchmark=f"decoded tokens/s, batch {asked.batch}",
        asked=vars(asked),
        dtype="torch.bfloat16",
        peer="model.generate, one batch",
        tokens_per_second_at_matmul_peak=round(most),
        share_of_peak={side: round(found / most, 3) for side, found in medians.items()},
        ratio=round(medians["ours"] / medians["theirs"], 2),
        median_rate=medians,
        rates=rates,
    )


if __name__ == "__main__":
    main()
