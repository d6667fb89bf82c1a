"""Which model fits which hardware, by 'solon plan': the page docs/hardware.md.

    python benchmarks/hardware_table.py [--write]

Sizes are shapes of open models, without weights. What a run puts through them is counted once for each
packaged configuration, on the packaged prompts and by the embedded model's tokenizer.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from solon import config
from solon.planning import estimate, fitting, stage_memory
from solon.planning.counting import SCORER
from solon.planning.estimate import Plan, StagePlan
from solon.planning.fitting import Change, Fit
from solon.planning.machine import Machine, gpus
from solon.planning.model_size import ModelSize, of_model
from solon.planning.stage_memory import TRAINING
from solon.planning.stage_work import Assumptions

PAGE = Path(__file__).parent.parent / "docs/hardware.md"

# As their makers publish them: transformers' family, layers, hidden width, feed-forward width, query and key
# heads, vocabulary, and whether the head is the embedding.
SHAPES: dict[str, tuple[str, str, int, int, int, int, int, int, bool]] = {
    "1.5B": ("Qwen2.5-1.5B", "qwen2", 28, 1536, 8960, 12, 2, 151936, True),
    "3B": ("Llama-3.2-3B", "llama", 28, 3072, 8192, 24, 8, 128256, True),
    "8B": ("Llama-3.1-8B", "llama", 32, 4096, 14336, 32, 8, 128256, False),
    "14B": ("Qwen3-14B", "qwen3", 40, 5120, 17408, 40, 8, 151936, False),
    "32B": ("Qwen3-32B", "qwen3", 64, 5120, 25600, 64, 8, 151936, False),
    "70B": ("Llama-3.1-70B", "llama", 80, 8192, 28672, 64, 8, 128256, False),
}
MACHINES = {f"{memory} GB": gpus(1, memory * 1e9) for memory in (16, 24, 48, 80, 141)}
NODE = {"8 × 80 GB": gpus(8, 80e9)}


def of_all(**settings: Any) -> Change:
    """The settings in every training."""
    return {f"{part}.{name}": value for part in TRAINING.values() for name, value in settings.items()}


# What is trained and how it is held, from what a packaged configuration can be changed to; first what changes
# what is learned least.
WAYS: dict[str, Change] = {
    "all weights": of_all(lora=None),
    "adapters": {},
    "4 bits": of_all(weights="4bit") | {"engine.dtype": "4bit"},
}
SHARED: Change = {
    "scale.training.strategy": "fsdp",
    **fitting.ON_VLLM,
    "engine.vllm.tensor_parallel_size": 8,
    "scale.replicas": 1,
}
WAYS_OF_A_NODE = {
    "all weights": of_all(lora=None) | SHARED,
    "adapters": {},
    "adapters, shared out": SHARED,
    "4 bits": WAYS["4 bits"],
}


def shape(size: str) -> dict[str, Any]:
    """A transformers configuration."""
    _, family, layers, hidden, inner, heads, keys, vocabulary, tied = SHAPES[size]
    return {
        "model_type": family,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "head_dim": 128,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


def sizes() -> dict[str, ModelSize]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SHAPES:
            (Path(folder) / "config.json").write_text(json.dumps(shape(size)))
            found[size] = of_model(folder)
    return found


class Preset:
    """A packaged configuration, and what a run of it puts through its models."""

    def __init__(self, name: str) -> None:
        with resources.as_file(resources.files("solon") / "configs" / name) as path:
            self.config = config.load(path, {"models": {"assistant": "8B"}})
        self.plan = estimate.plan(self.config, Assumptions(sample=2), machine=gpus(1, 1e12))

    def planned(self, size: ModelSize, machine: Machine) -> Plan:
        played = dict.fromkeys(self.plan.sizes, size) | {SCORER: size.scorer()}
        return replace(self.plan, machine=machine, sizes=played)

    def fits(self, size: ModelSize, machine: Machine, way: Change) -> Iterator[Fit]:
        """Of each stage, as the configuration is, changed in one ``way``."""
        changed = fitting.changed_by(self.config, way)
        assert changed
        plan = self.planned(size, machine)
        for stage in plan.stages:
            if stage.memory:
                needs = stage_memory.memory(stage.work, changed, plan.sizes, machine)
                has = stage_memory.room(stage.name, changed, machine)
                yield Fit(stage.name, needs.total, has, {} if needs.total <= has else None)

    def cell(self, size: ModelSize, machine: Machine, ways: dict[str, Change]) -> str:
        """The first of the ways that fits, and whether with smaller batches; else what the last one lacks."""
        plan, lacking = self.planned(size, machine), ""
        for name, way in ways.items():
            if changed := fitting.changed_by(self.config, way):
                stages = [stage for stage in plan.stages if stage.memory]
                changes = [self._batches(plan, stage, changed) for stage in stages]
                if None not in changes:
                    return f"{name}, smaller batches" if any(changes) else name
                lacking = stages[changes.index(None)].name
        return f"no: {lacking}"

    def _batches(self, plan: Plan, stage: StagePlan, changed: config.Config) -> Change | None:
        return fitting.first_that_fits(plan, stage, changed, fitting.batches(stage.name, changed))


def table(models: dict[str, ModelSize], one: Preset, eight: Preset) -> Iterator[str]:
    columns = [*MACHINES, *NODE]
    yield f"| model | {' | '.join(columns)} |"
    yield f"|{' --- |' * (len(columns) + 1)}"
    for name, size in models.items():
        cells = [one.cell(size, machine, WAYS) for machine in MACHINES.values()]
        cells += [eight.cell(size, machine, WAYS_OF_A_NODE) for machine in NODE.values()]
        yield f"| {name} ({SHAPES[name][0]}) | {' | '.join(cells)} |"


def page(models: dict[str, ModelSize], one: Preset, eight: Preset) -> str:
    """docs/hardware.md with its table made anew."""
    before, after = around_table(PAGE.read_text())
    return before + "\n".join(table(models, one, eight)) + "\n" + after


def around_table(text: str) -> tuple[str, str]:
    """What comes before the table of models, and what comes after it."""
    lines = text.splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.startswith("| model"))
    last = next(number for number in range(first, len(lines)) if not lines[number].startswith("|"))
    return "".join(lines[:first]), "".join(lines[last:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    asked = parser.parse_args()
    presets = sizes(), Preset("one-gpu.yaml"), Preset("eight-gpus.yaml")
    if asked.write:
        PAGE.write_text(page(*presets))
    else:
        print(*table(*presets), sep="\n")


if __name__ == "__main__":
    main()
