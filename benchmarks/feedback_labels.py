"""Feedback labels a second, 16 principles in both orders: the engine against one pass for each question.

    python benchmarks/feedback_labels.py [--zero-shot] [--pairs 4] [--runs 5] > result.json

The peer scores the same questions in batches of its best size, each prompt whole, padded to its batch's
longest, with the head on the last position alone. Both sides' labels are compared.
"""

import argparse

import side_by_side
import torch

from solon import constitution, models
from solon.config import EngineSettings, Feedback
from solon.inference.precision import choose_dtype
from solon.inference.transformers_engine import TransformersEngine
from solon.prompts import comparison
from solon.records import PairRecord
from solon.sources import data
from solon.stages.feedback import label

ANSWERS = (
    "I would not do that: somebody could get hurt. If you tell me what is behind it, I can help with that.",
    "Sure, that sounds like fun. Tell me when you want to begin and I will take you through it.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zero-shot", action="store_true")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16], help="the peer's batches")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layout", default="principle-first")
    parser.add_argument("--alone", choices=side_by_side.SIDES, help="one side once, and its peak memory")
    asked = parser.parse_args()
    settings = Feedback(principles="all", few_shot=not asked.zero_shot, layout=asked.layout)
    law = constitution.load("harmless")
    pairs: list[PairRecord] = [
        {
            "id": record["id"],
            "prompt": record["prompt"],
            "set": "red-team",
            "kind": record["kind"],
            "split": "train",
            "responses": list(ANSWERS),
            "problem": "",
        }
        for record in data.select(data.prompts("packaged", "red-team"), "train", asked.pairs, 0)
    ]
    dtype = choose_dtype("auto", side_by_side.DEVICE)
    tokenizer = models.load_tokenizer(asked.model)
    shots = (
        comparison.worked_examples(law.examples.comparison, law.comparison, settings.layout)
        if settings.few_shot
        else []
    )
    texts = [
        tokenizer.apply_chat_template(
            [
                *shots,
                comparison.question(
                    pair["prompt"], each.instruction, *answers, settings.layout, reason=False
                ),
            ],
            add_generation_prompt=True,
            tokenize=False,
        )
        + comparison.VERDICT
        for pair in pairs
        for each in law.comparison
        for answers in (pair["responses"], pair["responses"][::-1])
    ]
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in comparison.LETTERS]

    def plain(model: torch.nn.Module, batch: int) -> list[float]:
        """The probability of (A) for every question."""
        found: list[float] = []
        for start in range(0, len(texts), batch):
            inputs = tokenizer(
                texts[start : start + batch],
                add_special_tokens=False,
                padding=True,
                padding_side="left",
                return_tensors="pt",
            ).to(side_by_side.DEVICE)
            with torch.inference_mode():
                logits = model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1]
            found += logits[:, letters].float().softmax(-1)[:, 0].tolist()
        return found

    def theirs(model: torch.nn.Module, batch: int) -> int:
        return len(plain(model, batch)) // (2 * len(law.comparison))

    def open_ours() -> TransformersEngine:
        name = str(dtype).removeprefix("torch.")
        return TransformersEngine(asked.model, EngineSettings(dtype=name, batch_size=max(64, *asked.sizes)))

    labels: list[float] = []

    def ours(engine: TransformersEngine) -> int:
        found = list(label(engine, pairs, law, "harmlessness", settings, seed=0))
        labels[:] = [each["probability"] for each in sorted(found, key=lambda each: each["id"])]
        return len(found)

    if asked.alone:
        if asked.alone == "ours":
            ours(open_ours())
        else:
            theirs(
                models.load_model(asked.model, dtype).to(side_by_side.DEVICE),
                sorted(asked.sizes)[len(asked.sizes) // 2],
            )
        print(side_by_side.own_peak())
        return
    engine, model = open_ours(), models.load_model(asked.model, dtype).to(side_by_side.DEVICE)
    batch = side_by_side.best(asked.sizes, lambda size: theirs(model, size))
    found = side_by_side.compare(
        engine.forget, lambda: ours(engine), lambda: theirs(model, batch), asked.runs
    )
    votes = torch.tensor(plain(model, batch)).view(len(pairs), len(law.comparison), 2)
    theirs = torch.stack([votes[..., 0], 1 - votes[..., 1]]).mean(0).mean(1)
    order = sorted(range(len(pairs)), key=lambda number: pairs[number]["id"])
    gaps = [
        abs(max(theirs[number].item(), 1 - theirs[number].item()) - labels[place])
        for place, number in enumerate(order)
    ]
    side_by_side.show(
        benchmark="feedback labels/s, 16 principles x 2 orders",
        asked=vars(asked),
        dtype=str(dtype),
        peer=f"one pass for each question, batches of {batch} (the best of {asked.sizes})",
        largest_difference_of_labels=round(max(gaps), 5),
        **found,
        peak_memory_gb=side_by_side.peaks(__file__),
    )


if __name__ == "__main__":
    main()
