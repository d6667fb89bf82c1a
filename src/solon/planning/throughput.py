"""How fast operations are done: given, or measured here on the run's own model."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from solon import config as configs
from solon import models
from solon.inference import open_engine
from solon.inference.engine import Request
from solon.planning.counting import CountingEngine, Load, Way, attended
from solon.planning.model_size import ModelSize
from solon.planning.resources import Operations, operations
from solon.prompts.dialogue import user

STEPS = 16  # tokens decoded for each sequence of the batch


@dataclass(frozen=True)
class Throughput:
    """Operations a second that are reached, on all devices together."""

    prompt: float
    generate: float
    train: float
    source: str  # how it is known

    def hours(self, work: Mapping[Way, Operations]) -> float:
        return sum(needed.total / float(getattr(self, way)) for way, needed in work.items()) / 3600


def measure(config: configs.Config, size: ModelSize) -> Throughput:
    """Time the assistant on prompts and on decoding, in the run's batch, and a training step of its own.

    Loads the weights. Each part is timed once it is warm.
    """
    name, settings = config.models.assistant, config.engine
    tokenizer = models.load_tokenizer(name)
    with open_engine(name, settings, role=config.role("assistant")) as engine:
        rates = {}
        for turn in ("warm", "timed"):
            requests = [_request(f"{turn} {number}", 1) for number in range(settings.batch_size)]
            counted = CountingEngine("assistant", tokenizer, settings.batch_size, 1.0, ["word " * 8])
            for request in requests:
                counted.submit(request)
            [prompts, _] = counted.take()
            started = time.perf_counter()
            list(engine.generate(requests))
            rates["prompt"] = operations(prompts, size).total / (time.perf_counter() - started)
        length = prompts.naive / len(requests)
        before = engine.usage.tokens_generated
        started = time.perf_counter()  # the prompts are known from the pass before
        list(engine.generate(_request(f"timed {number}", STEPS) for number in range(settings.batch_size)))
        seconds = time.perf_counter() - started
        made = engine.usage.tokens_generated - before
        decoded = Load("assistant", "generate", made, made, made * (length + STEPS / 2), made)
        rates["generate"] = operations(decoded, size).total / seconds
    rates["train"] = _training_rate(config, size)
    return Throughput(**rates, source="measured here")


def _request(name: str, tokens: int) -> Request:
    """Requests whose prompts have nothing in common but the template's beginning."""
    return Request(name, [user(" ".join(f"{name} {number}" for number in range(24)))], max_tokens=tokens)


def _training_rate(config: configs.Config, size: ModelSize) -> float:
    settings: Any = config.supervised
    model = models.load_model(config.models.by_role["policy"]).to(models.best_device()).train()
    rows, length = settings.micro_batch_size, 128
    tokens = torch.randint(0, size.vocabulary, (rows, length), device=model.device)
    load = Load("policy", "train", rows * length, 0, rows * attended(0, length), rows * length)
    for _ in range(2):  # the first is slower
        started = time.perf_counter()
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        model.zero_grad()
        seconds = time.perf_counter() - started
    return operations(load, size).total / seconds
