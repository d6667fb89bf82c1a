"""Critique-revision chains a second: the transformers engine against ``model.generate`` turn by turn.

    python benchmarks/critique_chains.py [--zero-shot] [--chains 16] [--tokens 32] [--runs 5] > result.json

Both sides run the same chains (answer, then two rounds of critique and revision) of the same prompts on the
same model, in the same number type, with the same sampling settings. The peer does what a plain script does:
each turn of all chains in batches of its best size, the whole prompt of every turn anew.
"""

import argparse
from collections.abc import Callable, Sequence

import side_by_side
import torch
from transformers import PreTrainedTokenizerBase

from solon import constitution, models
from solon.config import Critique, EngineSettings
from solon.inference.precision import choose_dtype
from solon.inference.transformers_engine import TransformersEngine
from solon.prompts.critique import worked_examples
from solon.prompts.dialogue import assistant, user
from solon.records import Message, PromptRecord
from solon.seeds import generator
from solon.sources import data
from solon.stages import critique

ROUNDS = 2


def plain(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[PromptRecord],
    law: constitution.Constitution,
    settings: Critique,
    batch: int,
) -> int:
    """Every turn of every chain with ``model.generate``."""
    shots = worked_examples(law.examples.critique, True) if settings.few_shot else []

    def turn(dialogues: list[list[Message]]) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(dialogues), batch):
            inputs = tokenizer.apply_chat_template(
                dialogues[start : start + batch],
                add_generation_prompt=True,
                padding=True,
                return_dict=True,
                return_tensors="pt",
            ).to(side_by_side.DEVICE)
            with torch.inference_mode():
                tokens = model.generate(
                    **inputs,
                    max_new_tokens=settings.max_tokens,
                    do_sample=True,
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    top_k=0,
                )
            texts += tokenizer.batch_decode(
                tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
        return texts

    asked = [record["prompt"] for record in prompts]
    current = turn(asked)
    for number in range(ROUNDS):
        drawn = [law.draw_critique(generator(0, record["id"], number)) for record in prompts]
        dialogues = [
            [*shots, *prompt, assistant(text), user(principle.critique_request)]
            for prompt, text, principle in zip(asked, current, drawn, strict=True)
        ]
        found = turn(dialogues)
        current = turn(
            [
                [*dialogue, assistant(text), user(principle.revision_request)]
                for dialogue, text, principle in zip(dialogues, found, drawn, strict=True)
            ]
        )
    return len(prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zero-shot", action="store_true")
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16, 32], help="the peer's batches")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--alone", choices=side_by_side.SIDES, help="one side once, and its peak memory")
    asked = parser.parse_args()
    settings = Critique(
        rounds=ROUNDS,
        few_shot=not asked.zero_shot,
        temperature=0.7,
        top_p=0.9,
        max_tokens=asked.tokens,
        attempts=1,
    )
    law = constitution.load("harmless")
    prompts = data.select(data.prompts("packaged", "red-team"), "train", asked.chains, 0)
    dtype = choose_dtype("auto", side_by_side.DEVICE)
    sizes = sorted({min(size, asked.chains) for size in asked.sizes})

    def open_ours() -> TransformersEngine:
        name = str(dtype).removeprefix("torch.")
        return TransformersEngine(asked.model, EngineSettings(dtype=name, batch_size=max(64, asked.chains)))

    def ours(engine: TransformersEngine) -> int:
        return len(list(critique.revise(engine, prompts, law, settings, seed=0)))

    def open_theirs() -> Callable[[int], int]:
        model = models.load_model(asked.model, dtype).to(side_by_side.DEVICE)
        tokenizer = models.load_tokenizer(asked.model)
        tokenizer.padding_side = "left"
        return lambda size: plain(model, tokenizer, prompts, law, settings, size)

    if asked.alone:
        if asked.alone == "ours":
            ours(open_ours())
        else:
            open_theirs()(sizes[-1] if side_by_side.DEVICE.type == "cuda" else min(sizes[-1], 8))
        print(side_by_side.own_peak())
        return
    engine, theirs = open_ours(), open_theirs()
    batch = side_by_side.best(sizes, theirs)
    found = side_by_side.compare(engine.forget, lambda: ours(engine), lambda: theirs(batch), asked.runs)
    side_by_side.show(
        benchmark="critique-revision chains/s",
        asked=vars(asked),
        dtype=str(dtype),
        peer=f"model.generate, batches of {batch} (the best of {sizes})",
        **found,
        peak_memory_gb=side_by_side.peaks(__file__),
    )


if __name__ == "__main__":
    main()
