"""Training steps with adapters as they were at a commit and as they are now: time a step, and peak memory.

    python benchmarks/before_and_now.py COMMIT [--turns 3] [--steps 4] [--now float32] > result.json

Supervised finetuning, the preference model and RL (RLOO) train adapters from the same records, each side in
processes of its own, by turns: before, now with frozen weights in float32, now in bfloat16. A step's time is
the median over all turns but each training's first step, from one step's end to the next; a ratio above 1
says that now is faster. Memory is the peak of the process less that of one which loads the libraries alone.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LORA = {"rank": 16, "alpha": 32}
SIDES = {"before": {}, "float32": {"weights": "float32"}, "bfloat16": {"weights": "bfloat16"}}
NOW = [side for side in SIDES if side != "before"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--now", nargs="+", choices=NOW, default=NOW)
    parser.add_argument("--side", choices=SIDES, help="one side's trainings in this process")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(trainings(asked.model, asked.steps, SIDES[asked.side], asked.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "before"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", old, asked.commit], cwd=ROOT, check=True)
        try:
            found = [
                {
                    side: of_side(side, asked, old if side == "before" else ROOT)
                    for side in ["before", *asked.now]
                }
                for _ in range(asked.turns)
            ]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", old], cwd=ROOT, check=True)
    print(json.dumps(summary(found, vars(asked)), indent=1, default=str))


def of_side(side: str, asked: argparse.Namespace, tree: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, asked.commit, "--side", side, "--folder", folder]
        options = ["--model", asked.model, "--steps", str(asked.steps)]
        told = subprocess.run(
            [*command, *options],
            env={**os.environ, "PYTHONPATH": str(tree / "src")},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    print(side, json.dumps(found), file=sys.stderr, flush=True)  # as they come
    return found


def trainings(model: str, steps: int, weights: dict[str, str], folder: Path) -> dict[str, Any]:
    from solon import config
    from solon.sources import data
    from solon.stages import preference, reinforce, supervised

    loaded = peak()
    prompts = data.select(data.prompts("packaged", "red-team"), "train", None, 0)
    says = [{"role": "assistant", "content": f"No. {'I would rather help otherwise. ' * 8}"}]
    other = [{"role": "assistant", "content": f"Yes. {'Here is how one goes about it. ' * 8}"}]
    count = steps * 8
    rows = [prompts[place % len(prompts)] | {"id": str(place)} for place in range(count)]
    examples: Any = [row | {"completion": says} for row in rows]
    pairs: Any = [
        row | {"chosen": says, "rejected": other, "probability": 0.8, "label_source": "ai"}
        | {"aspect": "harmlessness", "votes": [{}]}
        for row in rows
    ]  # fmt: skip
    common = {"lora": LORA, "batch_size": 8, "micro_batch_size": 4, "save_steps": 10**6, **weights}
    rl = {"steps": steps, "prompts_per_step": 4, "samples_per_prompt": 4, "micro_batch_size": 8}
    rl |= {"max_tokens": 64, "lora": LORA, "save_steps": 10**6, **weights}
    times: dict[str, list[float]] = {}

    def timed(stage: str) -> Any:
        times[stage] = []
        return lambda *_: times[stage].append(time.perf_counter())

    sl_cai, judge = folder / "sl-cai", folder / "judge"
    supervised.train(examples, model, sl_cai, config.Supervised(**common), 0, timed("supervised"))
    preference.train(pairs, model, judge, config.PreferenceModel(**common), 0, timed("preference-model"))
    before_rl = peak()
    settings = config.Reinforce(**rl)
    reinforce.train(rows, str(sl_cai), str(judge), folder / "rl", settings, 0, timed("reinforce"))
    return {
        "seconds": {stage: [b - a for a, b in itertools.pairwise(at)] for stage, at in times.items()},
        "peak_gb": {"before RL": (before_rl - loaded) / 1e9, "with RL": (peak() - loaded) / 1e9},
    }


def peak() -> int:
    """Bytes, of this process so far."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024


def summary(turns: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
    stages = turns[0]["before"]["seconds"]
    seconds = {
        side: {
            stage: statistics.median(each for turn in turns for each in turn[side]["seconds"][stage])
            for stage in stages
        }
        for side in turns[0]
    }
    return {
        "benchmark": "training steps with adapters, before and now",
        "asked": {name: asked[name] for name in ("commit", "model", "turns", "steps")},
        "lora": LORA,
        "seconds_a_step": seconds,
        "ratio": {
            side: {stage: round(seconds["before"][stage] / seconds[side][stage], 2) for stage in stages}
            for side in asked["now"]
        },
        "peak_gb": {side: turns[0][side]["peak_gb"] for side in turns[0]},
    }


if __name__ == "__main__":
    main()
