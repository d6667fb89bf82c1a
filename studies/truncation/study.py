"""What RL makes of answers that max_tokens cuts off, for each value of ``reinforce.truncated``.

    python studies/truncation/study.py judge --data ../shared/data --work WORK
    python studies/truncation/study.py start --work WORK
    python studies/truncation/study.py ends --work WORK          # what a cut costs, to the preference model
    python studies/truncation/study.py rl --work WORK --truncated mask --seed 0      # each value, some seeds
    python studies/truncation/study.py table --work WORK

The embedded model learns by RLOO from a preference model that pairs of PandaLM's test set trained, people's
judgements of helpfulness. Questions ask for one sentence, and ``max_tokens`` cuts about half of the answers.
Each policy then answers questions that it never saw, with room for whole answers.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from solon import config, models
from solon.evaluation import paper_evals
from solon.inference import open_engine
from solon.inference.engine import Request
from solon.prompts.dialogue import assistant, user
from solon.records import PromptRecord
from solon.seeds import derive_seed
from solon.sources import data
from solon.stages import preference, reinforce
from solon.store.record_file import RecordFile
from solon.training import preference_scores

MODEL = "smollm2"
LIMIT, ROOM = 24, 96  # tokens: of RL's samples, and of the answers that are measured
WAYS = ("keep", "mask", "penalty")
JUDGE = config.PreferenceModel(
    learning_rate=5e-5, epochs=2, batch_size=8, micro_batch_size=8, max_length=192, save_steps=20
)
RL: dict[str, Any] = {
    "steps": 10,
    "prompts_per_step": 3,
    "samples_per_prompt": 4,
    "micro_batch_size": 12,
    "max_tokens": LIMIT,
    "learning_rate": 1e-3,
    "kl_coefficient": 0.05,
    "kl_limit": float("inf"),
    "lora": {"rank": 16, "alpha": 32},
}


def told(what: str) -> Any:
    return lambda step, steps, metrics: print(what, step, "of", steps, metrics, flush=True)


def judge(source: Path, work: Path) -> None:
    """A preference model of people's pairs whose answers are short enough for it."""
    pairs = paper_evals.read_pairs(str(source / "pandalm/testset-v1.json.gz"))
    decided = [pair for pair in pairs if pair.probability != 0.5 and max(map(len, pair.texts)) < 400]
    records: list[Any] = []
    for pair in paper_evals.drawn(decided, 240, seed=0):
        answers = [pair.first, pair.second] if pair.probability > 0.5 else [pair.second, pair.first]
        records.append(
            {
                "id": pair.id,
                "prompt": pair.dialogue,
                "chosen": answers[0],
                "rejected": answers[1],
                "probability": max(pair.probability, 1 - pair.probability),
            }
        )
    preference.train(records, MODEL, work / "judge", JUDGE, 0, told("judge"))


def questions(split: str) -> list[PromptRecord]:
    return [
        {**record, "prompt": [user(record["prompt"][-1]["content"] + " Answer in one sentence.")]}
        for record in data.prompts("packaged", "helpful")
        if record["split"] == split and len(record["prompt"]) == 1
    ]


def rl(work: Path, truncated: str, seed: int) -> None:
    out = work / f"{truncated}-{seed}"
    settings = config.Reinforce(**RL, truncated=truncated)
    reinforce.train(questions("train"), MODEL, str(work / "judge"), out, settings, seed, told(out.name))
    measure(work, str(out), out / "answers.jsonl", seed)


def measure(work: Path, policy: str, file: Path, seed: int) -> None:
    """The policy's answers to unseen questions, each with its length, its end and its score."""
    asked = questions("held-out")[:32]
    with open_engine(policy, config.EngineSettings(batch_size=16)) as engine:
        answers = {
            answer.id: answer
            for answer in engine.generate(
                Request(
                    record["id"],
                    tuple(record["prompt"]),
                    max_tokens=ROOM,
                    temperature=1.0,
                    seed=derive_seed(seed, record["id"]),
                )
                for record in asked
            )
        }
    score = preference_scores.scorer(str(work / "judge"), 16)
    dialogues = [[*record["prompt"], assistant(answers[record["id"]].text)] for record in asked]
    truncated = [answers[record["id"]].finish == "length" for record in asked]
    RecordFile(file).append(
        *(
            {
                "id": record["id"],
                "text": answers[record["id"]].text,
                "tokens": answers[record["id"]].tokens,
                "ended": answers[record["id"]].finish == "stop",
                "score": value,
            }
            for record, value in zip(asked, score(dialogues, truncated=truncated), strict=True)
        )
    )


def table(work: Path) -> str:
    """Before RL, and after it in each way: of the unseen answers, and of RL's own samples, early and late."""
    lines = [
        "| answers cut off | seed | share cut off, first half | second half | words | ended | score |",
        "|---|---|---|---|---|---|---|",
        row("before RL", "", [], RecordFile(work / "start.jsonl").read()),
    ]
    for way in WAYS:
        for out in sorted(work.glob(f"{way}-*")):
            if (out / "answers.jsonl").exists():
                metrics = RecordFile(out / "metrics.jsonl").read()
                answers = RecordFile(out / "answers.jsonl").read()
                lines.append(row(way, out.name.rpartition("-")[2], metrics, answers))
    return "\n".join(lines)


def row(way: str, seed: str, metrics: list[Any], answers: list[Any]) -> str:
    half = len(metrics) // 2
    cut = [
        f"{fmean(m['truncated'] for m in part):.2f}" if part else ""
        for part in (metrics[:half], metrics[half:])
    ]
    scores = [answer["score"] for answer in answers]
    error = stdev(scores) / len(scores) ** 0.5
    figures = [
        f"{fmean(len(answer['text'].split()) for answer in answers):.1f}",
        f"{fmean(answer['ended'] for answer in answers):.2f}",
        f"{fmean(scores):.2f} ± {error:.2f}",
    ]
    return f"| {' | '.join([way, seed, *cut, *figures])} |"


def ends(work: Path) -> str:
    """What being cut off costs, to the preference model, where an end is written after the cut and where not.

    Of the answers before RL that came to their own end, each cut at RL's limit.
    """
    answers = [answer for answer in RecordFile(work / "start.jsonl") if answer["ended"]]
    prompts = {record["id"]: record["prompt"] for record in questions("held-out")}
    tokenizer = models.load_tokenizer(MODEL)
    tokens = [tokenizer.encode(answer["text"]) for answer in answers]
    longer = [place for place, found in enumerate(tokens) if len(found) > LIMIT]
    texts = [tokenizer.decode(tokens[place][:LIMIT]) for place in longer]
    asked = [prompts[answers[place]["id"]] for place in longer]
    dialogues = [[*prompt, assistant(text)] for prompt, text in zip(asked, texts, strict=True)]
    score = preference_scores.scorer(str(work / "judge"), 16)
    whole = [answers[place]["score"] for place in longer]
    parts = {"no end": score(dialogues, truncated=[True] * len(texts)), "an end": score(dialogues)}
    lines = [f"{len(longer)} answers, whole: {fmean(whole):.2f}"]
    for name, scores in parts.items():
        lost = [before - after for before, after in zip(whole, scores, strict=True)]
        error = stdev(lost) / len(lost) ** 0.5
        loss = f"{fmean(lost):.2f} ± {error:.2f}"
        lines.append(f"cut at {LIMIT} tokens, {name} written: {fmean(scores):.2f}, lost {loss}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("judge", "start", "rl", "table", "ends"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--truncated", choices=WAYS, default="keep")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.part == "judge":
        judge(asked.data, asked.work)
    elif asked.part == "start":
        measure(asked.work, MODEL, asked.work / "start.jsonl", asked.seed)
    elif asked.part == "rl":
        rl(asked.work, asked.truncated, asked.seed)
    else:
        print({"table": table, "ends": ends}[asked.part](asked.work))


if __name__ == "__main__":
    main()
