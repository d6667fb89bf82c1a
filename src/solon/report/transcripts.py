"""Transcripts: what every stage did with one prompt, joined for reading."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from solon.records import Message, PreferenceRecord, Vote
from solon.report.folder import Json, RunFolder

T = TypeVar("T")

BUDGET = 4_500_000  # bytes of transcripts in a page: with Plotly's 4.8 MB it stays below 10 MB


class Numbered(Generic[T]):
    """Distinct values, each stored once and named by its number: requests and instructions repeat a lot."""

    def __init__(self) -> None:
        self.numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


def gather(run: RunFolder, budget: int = BUDGET) -> Json:
    """All transcripts of the run as JSON, held-out prompts (which have the most to show) first.

    Stages give their records ids of their own, so records are joined by their dialogue. Transcripts past
    ``budget`` bytes are left out; ``total`` tells how many there are.
    """
    requests: Numbered[tuple[str, str, str]] = Numbered()
    instructions: Numbered[tuple[str, str]] = Numbered()
    transcripts: dict[str, Json] = {}

    def transcript(record: Mapping[str, Any]) -> Json:
        return transcripts.setdefault(
            _key(record["prompt"]),
            {
                "id": record["id"],
                "prompt": [{"role": turn["role"], "content": turn["content"]} for turn in record["prompt"]],
                "kind": record.get("kind", ""),
                "set": record.get("set", ""),
                "split": record.get("split", ""),
                "spread": None,
            },
        )

    for prompt in run.prompts:
        transcript(prompt)
    for revision in run.revisions:
        found = transcript(revision)
        found["set"] = found["set"] or "red-team"
        found["answer"] = revision["answer"]
        found["rounds"] = [
            {
                "request": requests.number(
                    (each["principle"], each["critique_request"], each["revision_request"])
                ),
                "critique": each["critique"],
                "revision": each["revision"],
                "problem": each["problem"],
                "attempts": each["attempts"],
            }
            for each in revision["rounds"]
        ]
    for answer in run.helpful:
        found = transcript(answer)
        found["set"] = found["set"] or "helpful"
        found["answer"], found["problem"] = answer["messages"][-1]["content"], answer["problem"]
    for pair in run.pairs:
        transcript(pair).setdefault("pairs", []).append(
            {"responses": pair["responses"], "problem": pair["problem"], "labels": []}
        )
    for preference in run.preferences:
        _add_label(transcripts, preference, instructions)
    evaluated: dict[str, Json] = {}
    for evaluation in run.answers:
        found = evaluated[evaluation["id"]] = transcript(evaluation)
        found["split"] = found["split"] or "held-out"
        found["answers"] = [
            {**answer, "preference_score": _finite(answer["preference_score"])}
            for answer in evaluation["answers"]
        ]
    for judgement in run.judgements:
        if judgement["prompt_id"] in evaluated:
            evaluated[judgement["prompt_id"]].setdefault("judgements", []).append(
                {
                    "aspect": judgement["aspect"],
                    "model_a": judgement["model_a"],
                    "model_b": judgement["model_b"],
                    "probability": _finite(judgement["probability"]),
                    "principle": judgement["principle"],
                }
            )
    ordered = sorted(transcripts.values(), key=lambda each: "answers" not in each)
    return {
        "requests": list(requests.numbers),
        "instructions": list(instructions.numbers),
        "total": len(ordered),
        "transcripts": _within(ordered, budget),
    }


def spread(votes: Iterable[Vote]) -> float | None:
    """How far the judgements of a pair disagree: the highest less the lowest probability, over every
    principle in every order. None where there is nothing to compare."""
    judgements = [each for vote in votes for each in (vote["orders"] or [vote["probability"]])]
    return max(judgements) - min(judgements) if len(judgements) > 1 else None


def _add_label(
    transcripts: dict[str, Json], preference: PreferenceRecord, instructions: Numbered[tuple[str, str]]
) -> None:
    """Put a label to the pair it judges. Labels of pairs from elsewhere (human files) have no transcript."""
    chosen, rejected = preference["chosen"][-1]["content"], preference["rejected"][-1]["content"]
    for pair in transcripts.get(_key(preference["prompt"]), {}).get("pairs", []):
        if pair["responses"] not in ([chosen, rejected], [rejected, chosen]):
            continue
        pair["labels"].append(
            {
                "chosen": pair["responses"].index(chosen),
                "probability": _finite(preference["probability"]),
                "aspect": preference["aspect"],
                "source": preference["label_source"],
                "labeller": preference["labeller"],
                "votes": [
                    {
                        "instruction": instructions.number((vote["principle"], vote["instruction"])),
                        "probability": _finite(vote["probability"]),
                        "orders": [_finite(each) for each in vote["orders"]],
                        "reasoning": vote["reasoning"],
                    }
                    for vote in preference["votes"]
                ],
            }
        )
        found = transcripts[_key(preference["prompt"])]
        known = [each for each in (found["spread"], spread(preference["votes"])) if each is not None]
        found["spread"] = max(known, default=None)
        return


def _key(prompt: list[Message]) -> str:
    return json.dumps([[turn["role"], turn["content"]] for turn in prompt])


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return round(value, 4) if math.isfinite(value) else None


def _within(transcripts: list[Json], budget: int) -> list[Json]:
    kept = []
    for each in transcripts:
        budget -= len(json.dumps(each, ensure_ascii=False).encode())
        if budget < 0:
            break
        kept.append(each)
    return kept
