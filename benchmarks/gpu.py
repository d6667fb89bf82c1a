"""All that is to be known of one GPU, in one command of 25 minutes at most.

    python benchmarks/gpu.py OUT [--minutes 25] [--only STEP ...] [--models FOLDER] [--tiny]

Models with random weights in the shapes of 1 and 8 billion parameters are made first, unless --models has
them (in 1b and 8b). Each step is a benchmark beside this file, in a process of its own that is ended when its
time is up. As soon as one ends its result is in OUT/gpu.json, beside what the plan or the peer says of the
same; all that it said is in OUT/STEP.log. Nothing is installed or downloaded: the tokenizer is the embedded
model's.

--tiny runs the same steps on models of next to no size, on whatever device there is, to see that they run.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "NO_PEAKS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
STAGES = ("supervised", "preference-model", "reinforce")
ADAPTERS = [f"--set={part}.lora={{}}" for part in ("supervised", "preference_model", "reinforce")]
IN_4_BITS = [f"--set={part}.weights=4bit" for part in ("supervised", "preference_model", "reinforce")]

# For random_llama.py.
SHAPES = {
    "1b": ["--hidden=2048", "--inner=8192", "--layers=16", "--heads=32", "--key-heads=8"],
    "8b": [
        *("--hidden=4096", "--inner=14336", "--layers=32", "--heads=32", "--key-heads=8"),
        *("--vocabulary=128256", "--untied"),
    ],
}
TINY = {
    "1b": ["--hidden=32", "--inner=64", "--layers=2", "--heads=4", "--key-heads=2"],
    "8b": ["--hidden=64", "--inner=96", "--layers=2", "--heads=4", "--key-heads=2"],
}


@dataclass(frozen=True)
class Step:
    name: str
    seconds: float  # that it may take
    script: str
    options: list[str]


def steps(models: Path, tiny: bool) -> Iterator[Step]:
    """In the order of how much depends on them."""
    small, large = str(models / "1b"), str(models / "8b")
    number = ["--dtype=float32"] if tiny else []
    for name, shape in (TINY if tiny else SHAPES).items():
        if not (models / name / "config.json").exists():
            yield Step(f"model-{name}", 120, "random_llama.py", [str(models / name), *shape])
    # What one-gpu.yaml trains with.
    preset = ["--tokens=64"] if tiny else ["--tokens=512", "--set=reinforce.prompts_per_step=8"]
    if not tiny:
        preset += ["--set=reinforce.samples_per_prompt=4", "--set=reinforce.micro_batch_size=4"]
    yield Step("memory-8b", 240, "memory.py", [large, *preset, *ADAPTERS])
    few = ["--batch=4", "--micro-batch-size=2", "--tokens=32", "--steps=3"]
    for stage in STAGES:
        options = [stage, large, "--lora", *(few if tiny else [])]
        yield Step(f"train-8b-{stage}", 120, "training_step.py", options)
    batch = ["--batch=4", "--tokens=4", "--runs=1"] if tiny else ["--batch=64", "--tokens=64", "--runs=2"]
    yield Step("decode-8b", 90, "decode.py", [f"--model={large}", *batch, *number])
    read = ["--prompts=4", "--tokens=32", "--answers=4"] if tiny else []
    yield Step("read-and-sample-8b", 120, "reading.py", [large, *read, *number])
    for stage in STAGES:
        options = [stage, small, *(few if tiny else ["--batch=32", "--micro-batch-size=8"])]
        yield Step(f"train-1b-{stage}", 90, "training_step.py", options)
    yield Step("decode-1b", 60, "decode.py", [f"--model={small}", *batch, *number])
    if find_spec("bitsandbytes"):
        yield Step("memory-8b-4bit", 180, "memory.py", [large, *preset, *ADAPTERS, *IN_4_BITS])


def run(step: Step, seconds: float, log: Path) -> dict[str, Any]:
    """The step's result, with what became of it and how long it took."""
    command = [sys.executable, str(HERE / step.script), *step.options]
    started = time.perf_counter()
    with log.open("w") as said, log.with_suffix(".out").open("w+") as result:
        process = subprocess.Popen(
            command, stdout=result, stderr=said, env=os.environ | OFFLINE, start_new_session=True
        )
        try:
            code: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # it, and what it has started
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        result.seek(0)
        text = result.read()
    found: dict[str, Any] = {
        "command": " ".join(command[1:]),
        "seconds": round(time.perf_counter() - started, 1),
    }
    if code is None:
        return found | {"ended": f"its {seconds:.0f} seconds were up"} | partly(log)
    if code:
        return found | {"ended": f"with status {code}", "last": log.read_text().strip().splitlines()[-1:]}
    return found | {"ended": "well", "result": read(text)}


def read(text: str) -> Any:
    """What a script printed: JSON, or a line that says what it made."""
    begins = text.find("{")
    return json.loads(text[begins:]) if begins >= 0 else text.strip()


def partly(log: Path) -> dict[str, Any]:
    """What a script that was ended had found until then, in lines of its log."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    return {"partly": [json.loads(line) for line in lines]} if lines else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=25, help="for all steps together")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="steps whose names begin so")
    parser.add_argument(
        "--models", type=Path, help="a folder with models 1b and 8b, or for them; OUT by default"
    )
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    file, ends = asked.out / "gpu.json", time.monotonic() + 60 * asked.minutes
    found: dict[str, Any] = {}
    for step in steps(asked.models or asked.out, asked.tiny):
        if asked.only and not step.name.startswith(tuple(asked.only)):
            continue
        left = ends - time.monotonic()
        if left < 5:
            found[step.name] = {"ended": "before it began: the time for all was up"}
        else:
            found[step.name] = run(step, min(step.seconds, left), asked.out / f"{step.name}.log")
        file.with_suffix(".partial").write_text(json.dumps(found, indent=2))
        file.with_suffix(".partial").replace(file)
        print(f"{step.name}: {found[step.name]['ended']}", flush=True)


if __name__ == "__main__":
    main()
