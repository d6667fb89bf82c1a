"""Peak memory of training, beside what 'solon plan' says: supervised finetuning, preference model, RL.

    python benchmarks/memory.py MODEL [--set supervised.lora={} ...] [--tokens 256] > result.json

Each stage runs for two optimiser steps, of two micro-batches each, in a process of its own. What it is
given are texts of --tokens tokens, half of them the answer; in RL the prompt has half of them too. The peak
is the most that the process has had, above what it had once the same stage had run on a model of next to no
size, with which all libraries are loaded: of the GPU's memory where there is one, else of its own. RL goes on
from what the two stages before it have made. Settings are those of a configuration; what they leave open is
made small.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import side_by_side
from transformers import AutoModelForCausalLM

from solon import config, models
from solon.cli.options import configuration
from solon.planning import machine, stage_memory
from solon.planning.counting import Load
from solon.planning.model_size import of_model
from solon.planning.resources import LIBRARIES
from solon.planning.stage_work import StageWork
from solon.prompts.dialogue import assistant, user
from solon.stages import preference, reinforce, supervised

STAGES = {"supervised": "03-sl-cai", "preference-model": "06-preference-model", "reinforce": "07-rl-cai"}
# What is freed goes back to the system: glibc else keeps up to 32 MB a tensor, which nothing needs.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
STEPS = 2  # the optimiser's state is there from the first on
SMALL = {"batch_size": 4, "micro_batch_size": 2}
SMALL_RL = {"steps": STEPS, "prompts_per_step": 2, "samples_per_prompt": 2, "micro_batch_size": 2}


def settings(asked: argparse.Namespace) -> config.Config:
    small = [
        f"{part}.{name}={value}"
        for part in ("supervised", "preference_model")
        for name, value in SMALL.items()
    ]
    small += [f"reinforce.{name}={value}" for name, value in SMALL_RL.items()]
    small += [f"reinforce.max_tokens={asked.tokens // 2}", f"models.assistant={asked.model}"]
    return configuration(None, [*small, *asked.set])


def texts(tokenizer: Any, tokens: int, count: int) -> list[str]:
    """Each of about so many tokens, and different from the first on."""
    written = []
    for number in range(count):
        words = " ".join(f"{word} {number}" for word in range(tokens))
        written.append(tokenizer.decode(tokenizer.encode(words, add_special_tokens=False)[:tokens]))
    return written


def warm(stage: str, asked: argparse.Namespace) -> None:
    """Run the stage on next to nothing, so that all that it loads is there."""
    with tempfile.TemporaryDirectory() as small:
        model = tiny(asked.model, Path(small) / "model")
        for needed in STAGES if stage == "reinforce" else (stage,):
            run(needed, argparse.Namespace(**vars(asked) | {"model": model, "tokens": 32}), Path(small))


def measured(stage: str, asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run the stage in this process. Returns its peak in bytes, and its longest sequence in tokens."""
    gc.collect()
    before = resting()
    if side_by_side.DEVICE.type == "cuda":
        return {"sequence": run(stage, asked, folder), "peak": 1000 * side_by_side.own_peak() - before}
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], resting())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        sequence = run(stage, asked, folder)
    finally:
        done.set()
        watching.join()
    return {"peak": peak[0] - before, "sequence": sequence}


def tiny(model: str, out: Path) -> str:
    """One layer of the model's family and vocabulary."""
    shape = models.load_config(model)
    shape.update({"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16})
    shape.update({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8})
    if kinds := getattr(shape, "layer_types", None):
        shape.layer_types = kinds[:1]
    AutoModelForCausalLM.from_config(shape).save_pretrained(out)
    models.load_tokenizer(model).save_pretrained(out)
    return str(out)


def resting() -> int:
    """Bytes that the process has now of its own; of a GPU's memory the peak is counted anew from here.

    Files that are mapped do not count: the system takes their pages back where it is short of memory.
    """
    if side_by_side.DEVICE.type == "cuda":
        return side_by_side.gpu_memory(anew=True)
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def run(stage: str, asked: argparse.Namespace, folder: Path) -> int:
    """Run the stage. Returns the tokens of its longest sequence."""
    wanted, tokenizer = settings(asked), models.load_tokenizer(asked.model)
    section = getattr(wanted, stage.replace("-", "_"))
    count = STEPS * (section.prompts_per_step if stage == "reinforce" else section.batch_size)
    rows = made_up(stage, tokenizer, asked.tokens, count)
    train(stage, rows, asked.model, folder, section)
    dialogues = [row["prompt"] + row.get("completion", row.get("chosen", [])) for row in rows]
    whole = max(
        len(tokenizer.apply_chat_template(dialogue, return_dict=True)["input_ids"]) for dialogue in dialogues
    )
    # In RL the answer is to come; of a pair the other one comes after what both begin with.
    return whole + (0 if stage == "supervised" else asked.tokens // 2)


def train(stage: str, rows: list[Any], model: str, folder: Path, section: Any, told: Any = None) -> None:
    """Run the stage's function; ``told`` is called at each step. RL goes on from what is in the folder."""
    out, arguments = folder / STAGES[stage], (section, 0, told or (lambda *_: None))
    if stage == "supervised":
        supervised.train(rows, model, out, *arguments)
    elif stage == "preference-model":
        preference.train(rows, model, out, *arguments)
    else:
        begun, judge = (folder / STAGES[name] for name in ("supervised", "preference-model"))
        reinforce.train(rows, str(begun) if begun.exists() else model, str(judge), out, *arguments)


def made_up(stage: str, tokenizer: Any, tokens: int, count: int) -> list[Any]:
    """So many records for the stage, of about so many tokens, half of them the answer's."""
    prompts, answers = (texts(tokenizer, tokens // 2, number * count) for number in (1, 2))
    rows: list[Any] = []
    for number, prompt in enumerate(prompts):
        row = {"id": str(number), "prompt": [user(f"{number} {prompt}")], "kind": "", "split": "train"}
        if stage == "reinforce":
            row |= {"set": "helpful", "source": "made up"}
        elif stage == "supervised":
            row |= {"completion": [assistant(answers[number])], "source": "helpful"}
        else:
            chosen, rejected = answers[2 * number], f"No: {answers[2 * number + 1]}"
            row |= {"chosen": [assistant(chosen)], "rejected": [assistant(rejected)], "probability": 0.8}
            row |= {"aspect": "helpfulness", "label_source": "ai", "labeller": "nobody", "votes": []}
        rows.append(row)
    return rows


def planned(stage: str, asked: argparse.Namespace, sequence: int) -> dict[str, float]:
    wanted = settings(asked)
    work = StageWork(stage, loads=[Load("policy", "train", 1)], sequence=sequence)
    size = of_model(asked.model)
    memory = stage_memory.memory(work, wanted, {"policy": size}, machine.here(wanted.engine))
    return {name: bytes_ for name, bytes_ in (memory.fixed | memory.varying).items() if name != "libraries"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--alone", choices=list(STAGES), help="one stage in this process, in --folder")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.alone:
        warm(asked.alone, asked)
        print(json.dumps(measured(asked.alone, asked, asked.folder)))
        return
    size = of_model(asked.model)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for stage in asked.stages:
            command = [sys.executable, __file__, *sys.argv[1:], f"--alone={stage}", f"--folder={folder}"]
            said = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | GIVES_BACK
            ).stdout
            figures = json.loads(said.splitlines()[-1])
            plan = planned(stage, asked, figures["sequence"])
            total = sum(plan.values())
            found[stage] = {
                "peak_gb": round(figures["peak"] / 1e9, 3),
                "planned_gb": round(total / 1e9, 3),
                "planned_to_peak": round(total / figures["peak"], 2),
                "bytes_a_parameter": round(figures["peak"] / size.parameters, 2),
                "plan_gb": {name: round(bytes_ / 1e9, 3) for name, bytes_ in plan.items()},
            }
            print(json.dumps({stage: found[stage]}), file=sys.stderr)
    side_by_side.show(
        benchmark="peak memory of training against the plan",
        asked={name: value for name, value in vars(asked).items() if name not in ("alone", "folder")},
        parameters=size.parameters,
        stages=found,
        libraries_planned_gb=LIBRARIES / 1e9,
    )


if __name__ == "__main__":
    main()
