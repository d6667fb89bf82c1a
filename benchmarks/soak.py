"""Memory over many records through the data stages: critique, comparison and feedback, as a run does them.

    python benchmarks/soak.py --records 10000 > result.json

The model is a random one of two layers, since memory is asked for and not sense. Resident memory is read
after every hundredth part of a stage. What it grows by in the second half of a stage, a record, is what a
longer run would go on to lose.
"""

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import side_by_side
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as byte_pairs
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from solon import config, constitution
from solon.feedback import METHODS
from solon.feedback.method import Material
from solon.inference import blocks, open_engine
from solon.inference.engine import Engine
from solon.prompts.dialogue import user
from solon.records import KINDS, PromptRecord
from solon.sources import data
from solon.stages import comparison, critique, feedback
from solon.store.record_file import RecordFile

PARTS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    asked = parser.parse_args()
    law = constitution.load("harmless")
    prompts = varied(asked.records)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = tiny(folder / "model")
        settings = config.EngineSettings(dtype="float32", device="cpu")
        short = config.Critique(rounds=1, few_shot=False, max_tokens=6, attempts=1)
        answers = config.Comparison(max_tokens=6)
        judging = config.Feedback(few_shot=False)
        found = {}
        with open_engine(model, settings) as engine:
            found["critique"], _ = watched(
                folder / "revisions.jsonl",
                engine,
                prompts,
                partial(critique.revise, constitution=law, settings=short, seed=0),
            )
            found["comparison"], pairs = watched(
                folder / "pairs.jsonl",
                engine,
                prompts,
                partial(
                    comparison.pairs,
                    method=METHODS[judging.method],
                    material=Material({}, 0, answers),
                    held_out=0.1,
                ),
            )
            found["feedback"], _ = watched(
                folder / "preferences.jsonl",
                engine,
                [pair for pair in pairs if not pair["problem"]],
                partial(feedback.label, constitution=law, aspect="harmlessness", settings=judging, seed=0),
                METHODS[judging.method].questions(judging, len(law.comparison)),
            )
    side_by_side.show(benchmark="memory over a long run", asked=vars(asked), stages=found)


def tiny(folder: Path) -> str:
    """A random Llama, two layers deep and 64 wide, whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(byte_pairs.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(alphabet) + 1,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=len(alphabet),
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return str(folder)


def varied(count: int) -> list[PromptRecord]:
    """So many prompts, no two of them alike."""
    packaged = data.prompts("packaged", "red-team")
    return [
        {
            **packaged[number % len(packaged)],
            "id": f"prompt-{number}",
            "prompt": [user(f"{packaged[number % len(packaged)]['prompt'][-1]['content']} ({number})")],
        }
        for number in range(count)
    ]


def watched(
    path: Path,
    engine: Engine,
    wanted: Sequence[Any],
    make: Callable[[Engine, list[Any]], Iterable[Any]],
    requests: int = 1,
) -> tuple[dict[str, Any], list[Any]]:
    """The stage's records, and resident memory in MB as they were made."""
    process, points = psutil.Process(), []

    def progress(done: int, total: int) -> None:
        if done % max(1, total // PARTS) == 0:
            gc.collect()
            points.append((done, process.memory_info().rss / 1e6))

    file, settings = RecordFile(path, KINDS[path.stem]), config.EngineSettings(device="cpu")
    records = blocks.generate(file, wanted, "tiny", settings, lambda: engine, make, progress, requests)
    points.append((len(records), process.memory_info().rss / 1e6))  # all read back
    return figures(points), records


def figures(points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """``points`` are records made and resident MB; the last is after reading all records back."""
    made = np.array(points[:-1])
    later = made[len(made) // 2 :]
    slope = np.polyfit(later[:, 0], later[:, 1], 1)[0]
    return {
        "records": int(points[-1][0]),
        "first_tenth_mb": round(float(made[len(made) // 10, 1]), 1),
        "half_mb": round(float(later[0, 1]), 1),
        "end_mb": round(float(made[-1, 1]), 1),
        "second_half_bytes_a_record": round(float(slope) * 1e6),
        "all_records_read_mb": round(points[-1][1], 1),
    }


if __name__ == "__main__":
    main()
