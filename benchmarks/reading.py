"""Prompt tokens that the engine reads a second, and answers sampled in RL, against what the device could do.

    python benchmarks/reading.py MODEL [--prompts 64] [--tokens 512] [--answers 64] > result.json

Reading: prompts that share nothing, one token of each is sampled; the limit is the rate of a large product in
the same type over the operations that the prompts need. Sampling: by RL's sampler, from a policy that trains
adapters, against the policy's own ``generate``, with the same prompts and as many tokens of every answer.
"""

import argparse
import time
from typing import Any

import memory
import side_by_side
import torch
from decode import NoEnd
from transformers import set_seed

from solon import config, models
from solon.config import EngineSettings
from solon.inference.engine import Request
from solon.inference.transformers_engine import TransformersEngine
from solon.planning import resources
from solon.planning.counting import Load, attended
from solon.planning.model_size import of_model
from solon.policy.rollouts import Sampler
from solon.prompts.dialogue import user
from solon.training import start


def reading(asked: argparse.Namespace) -> dict[str, Any]:
    tokenizer, size = models.load_tokenizer(asked.model), of_model(asked.model)
    settings = EngineSettings(dtype=asked.dtype, batch_size=asked.prompts)
    with TransformersEngine(asked.model, settings) as engine:
        rates = []
        for turn in range(3):
            texts = memory.texts(tokenizer, asked.tokens, asked.prompts)
            requests = [
                Request(str(number), [user(f"{number} {turn} {text}")], max_tokens=1)
                for number, text in enumerate(texts)
            ]
            before, started = engine.usage.tokens_computed, time.perf_counter()
            list(engine.generate(requests))
            side_by_side.finish()
            read = engine.usage.tokens_computed - before
            rates.append(read / (time.perf_counter() - started))
    rate, length = max(rates[1:]), read // asked.prompts
    load = Load("assistant", "prompt", read, read, asked.prompts * attended(0, length), asked.prompts)
    peak = side_by_side.matmul_peak(getattr(torch, asked.dtype))
    limit = read * peak / resources.operations(load, size).total
    return {
        "tokens_a_second": round(rate, 1),
        "limit": round(limit, 1),
        "share_of_limit": round(rate / limit, 3),
    }


def sampling(asked: argparse.Namespace) -> dict[str, Any]:
    settings = config.Reinforce(
        prompts_per_step=asked.prompts,
        samples_per_prompt=2,
        micro_batch_size=2,
        max_tokens=asked.answers,
        lora=config.Lora(),
    )
    set_seed(0)
    tokenizer = models.load_tokenizer(asked.model)
    policy = start.policy(asked.model, settings, {}).to(side_by_side.DEVICE)
    sampler = Sampler(asked.model, settings, 0, model=policy)
    ends, sampler._engine._dialogue.ends = sampler._engine._dialogue.ends, set()
    words = memory.texts(tokenizer, asked.tokens // 4, asked.prompts)
    asking = [[user(f"{number} {text}")] for number, text in enumerate(words) for _ in range(2)]
    template = {"add_generation_prompt": True, "return_dict": True}
    prompts = tokenizer.apply_chat_template(asking, **template)["input_ids"]
    inputs = tokenizer.apply_chat_template(
        asking, **template, padding=True, padding_side="left", return_tensors="pt"
    ).to(side_by_side.DEVICE)

    def ours() -> int:
        answers = sampler.sample(policy, prompts, 0, 0)
        return sum(len(answer.tokens) for answer in answers)

    def theirs() -> int:
        with torch.inference_mode():
            found = policy.generate(
                **inputs,
                max_new_tokens=asked.answers,
                do_sample=True,
                top_k=0,
                logits_processor=[NoEnd(sorted(ends))],
            )
        return int(len(prompts) * (found.shape[1] - inputs["input_ids"].shape[1]))

    ours(), theirs()
    return side_by_side.compare(lambda: None, ours, theirs, asked.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=512, help="of a prompt; in sampling a quarter of them")
    parser.add_argument("--answers", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    asked = parser.parse_args()
    side_by_side.show(
        benchmark="prompt tokens read, and answers sampled in RL",
        asked=vars(asked),
        peer="the limit by operations; generate of the policy with its adapters",
        reading=reading(asked),
        sampling=sampling(asked),
    )


if __name__ == "__main__":
    main()
