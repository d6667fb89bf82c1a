"""Tokens a second in decoding, against the peak of a matmul in the same type and against ``model.generate``.

    python benchmarks/decode.py [--batch 128] [--tokens 64] [--runs 5] [--dtype bfloat16] > result.json

The peak is the rate of a square product of 2048 x 2048, in the same run, over the FLOPs of the model's linear
layers for one token (two for each weight; attention is not counted). On a GPU memory bounds decoding: a step
must read every weight, and the keys and values of all tokens so far, once; the share is of the bandwidth of
a copy in the same run, bytes read and written. Both sides generate the same number of
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


def bandwidth() -> float:
    """Bytes a second of a copy of 1 GB within the GPU."""
    source = torch.ones(2**30, dtype=torch.uint8, device=side_by_side.DEVICE)
    target = torch.empty_like(source)
    return 2 * len(source) / side_by_side.fastest(lambda: target.copy_(source))


def needed_bytes(model: torch.nn.Module, lengths: float, batch: int) -> float:
    """That a step must read, for sequences of ``lengths`` tokens on average."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * width
    return float(model.dtype.itemsize) * (linear_weights(model) + batch * lengths * each)


def linear_weights(model: torch.nn.Module) -> int:
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    asked = parser.parse_args()
    dtype: torch.dtype = getattr(torch, asked.dtype)
    engine = TransformersEngine(asked.model, EngineSettings(dtype=asked.dtype, batch_size=asked.batch))
    ends, engine._dialogue.ends = engine._dialogue.ends, set()  # every text goes on to its last token
    prompts: list[list[Message]] = [
        [user(f"Tell me a long story about the number {number}.")] for number in range(asked.batch)
    ]
    model = models.load_model(asked.model, dtype).to(side_by_side.DEVICE)
    tokenizer = models.load_tokenizer(asked.model)
    inputs = tokenizer.apply_chat_template(
        prompts,
        add_generation_prompt=True,
        padding=True,
        padding_side="left",
        return_dict=True,
        return_tensors="pt",
    ).to(side_by_side.DEVICE)

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
            side_by_side.finish()
            seconds.append(time.perf_counter() - start)
        return len(prompts) * (asked.tokens - 1) / (seconds[1] - seconds[0])

    ours(2)  # both sides once, untimed: kernels are made at their first use
    theirs(2)
    most = side_by_side.matmul_peak(dtype) / (2 * linear_weights(model))
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(asked.runs):
        for side, work in (("ours", ours), ("theirs", theirs)):
            rates[side].append(round(rate(work), 1))
    medians = {side: statistics.median(found) for side, found in rates.items()}
    shares = {}
    if side_by_side.DEVICE.type == "cuda":
        length = inputs["attention_mask"].sum(-1).float().mean().item() + asked.tokens / 2
        needed = needed_bytes(model, length, len(prompts)) / len(prompts) / bandwidth()  # seconds a token
        shares["share_of_memory_bandwidth"] = {
            side: round(found * needed, 3) for side, found in medians.items()
        }
    side_by_side.show(
        benchmark=f"decoded tokens/s, batch {asked.batch}",
        asked=vars(asked),
        dtype=str(dtype),
        peer="model.generate, one batch",
        tokens_per_second_at_matmul_peak=round(most),
        **shares,
        share_of_peak={side: round(found / most, 3) for side, found in medians.items()},
        ratio=round(medians["ours"] / medians["theirs"], 2),
        median_rate=medians,
        rates=rates,
    )


if __name__ == "__main__":
    main()
