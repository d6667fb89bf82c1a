"""Transcripts: what every stage did with one prompt, joined for reading."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from solon.prompts.dialogue import turns
from solon.records import PreferenceRecord, Round, Vote
from solon.report.plots import MODELS
from solon.store.run_folder import TRANSCRIBED, Json, RunFolder

T = TypeVar("T")
Key = tuple[tuple[str, str], ...]

BUDGET = 4_500_000  # bytes of transcripts in a page: with Plotly's 4.8 MB it stays below 10 MB


class Numbered(Generic[T]):
    """Distinct values, each stored once and named by its number: requests and instructions repeat a lot."""

    def __init__(self) -> None:
        self.numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


class Transcripts:
    """Joins records into transcripts. They refer to ``requests`` and ``instructions`` by number."""

    def __init__(self) -> None:
        self._requests: Numbered[tuple[str, ...]] = Numbered()
        self._instructions: Numbered[tuple[str, str]] = Numbered()

    def as_json(self, transcripts: list[Json]) -> Json:
        """Joined transcripts with the texts that they refer to."""
        return {
            "requests": list(self._requests.numbers),
            "instructions": list(self._instructions.numbers),
            "transcripts": transcripts,
        }

    def join(self, records: Mapping[str, Iterable[Any]]) -> list[Json]:
        """A transcript for each dialogue of the records, which are called as in ``TRANSCRIBED``.

        Stages give their records ids of their own, so records are joined by their dialogue.
        """
        transcripts: dict[Key, Json] = {}

        def transcript(record: Mapping[str, Any]) -> Json:
            return transcripts.setdefault(
                turns(record["prompt"]),
                {
                    "id": record["id"],
                    "prompt": [
                        {"role": turn["role"], "content": turn["content"]} for turn in record["prompt"]
                    ],
                    "kind": record.get("kind", ""),
                    "set": record.get("set", ""),
                    "split": record.get("split", ""),
                    "spread": None,
                },
            )

        for prompt in records["prompts"]:
            transcript(prompt)
        for revision in records["revisions"]:
            joined = transcript(revision)
            joined["set"] = joined["set"] or SET_OF["revisions"]
            joined["answer"] = revision["answer"]
            joined |= thoughts(revision)
            joined["rounds"] = [self._round(made) for made in revision["rounds"]]
        for answer in records["helpful"]:
            joined = transcript(answer)
            joined["set"] = joined["set"] or SET_OF["helpful"]
            joined["answer"], joined["problem"] = answer["messages"][-1]["content"], answer["problem"]
            joined |= thoughts(answer)
        for pair in records["pairs"]:
            told = {"responses": pair["responses"], "problem": pair["problem"], **thoughts(pair)}
            transcript(pair).setdefault("pairs", []).append({**told, "labels": []})
        for preference in records["preferences"]:
            self._add_label(transcripts, preference)
        evaluated: dict[str, Json] = {}
        for evaluation in records["answers"]:
            joined = evaluated[evaluation["id"]] = transcript(evaluation)
            joined["split"] = joined["split"] or "held-out"
            joined["answers"] = [
                {**answer, "preference_score": _finite(answer["preference_score"])}
                for answer in evaluation["answers"]
            ]
        for judgement in records["judgements"]:
            shown = {judgement["model_a"], judgement["model_b"]} <= MODELS.keys()  # none kept on RL's way
            if judgement["prompt_id"] in evaluated and shown:
                judged = {name: judgement[name] for name in ("aspect", "model_a", "model_b", "principle")}
                judged["probability"] = _finite(judgement["probability"])
                evaluated[judgement["prompt_id"]].setdefault("judgements", []).append(judged)
        return list(transcripts.values())

    def _round(self, made: Round) -> Json:
        return {
            "request": self._requests.number(
                (
                    made["principle"],
                    made["critique_request"],
                    made["revision_request"],
                    made.get("critique_start", ""),
                    made.get("revision_start", ""),
                )
            ),
            **{name: made[name] for name in ("critique", "revision", "problem", "attempts")},
            **thoughts(made),
        }

    def _add_label(self, transcripts: dict[Key, Json], preference: PreferenceRecord) -> None:
        """Put a label to the pair it judges. Labels of pairs from elsewhere have no transcript."""
        chosen, rejected = preference["chosen"][-1]["content"], preference["rejected"][-1]["content"]
        joined = transcripts.get(turns(preference["prompt"]), {})
        for pair in joined.get("pairs", []):
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
                            "instruction": self._instructions.number(
                                (vote["principle"], vote["instruction"])
                            ),
                            "probability": _finite(vote["probability"]),
                            "orders": [_finite(probability) for probability in vote["orders"]],
                            "reasoning": vote["reasoning"],
                            **thoughts(vote),
                            "ratings": [_finite(rating) for rating in vote.get("ratings", [])],
                            **{name: vote[name] for name in ("judge", "weight") if name in vote},
                        }
                        for vote in preference["votes"]
                    ],
                }
            )
            known = [value for value in (joined["spread"], spread(preference["votes"])) if value is not None]
            joined["spread"] = max(known, default=None)
            return


SET_OF: Mapping[str, str] = {
    "revisions": "red-team",
    "helpful": "helpful",
}  # of records that do not say theirs


def gather(run: RunFolder, budget: int = BUDGET) -> Json:
    """All transcripts of the run as JSON, held-out prompts (which have the most to show) first.

    Transcripts past ``budget`` bytes are left out; ``total`` tells how many there are.
    """
    joined = Transcripts()
    transcripts = joined.join({name: getattr(run, name) for name in TRANSCRIBED})
    ordered = sorted(transcripts, key=lambda transcript: "answers" not in transcript)
    return {"total": len(ordered), **joined.as_json(_within(ordered, budget))}


def spread(votes: Iterable[Vote]) -> float | None:
    """How far the judgements of a pair disagree: the highest less the lowest probability, over every
    principle in every order. None where there is nothing to compare."""
    judgements = [probability for vote in votes for probability in (vote["orders"] or [vote["probability"]])]
    return max(judgements) - min(judgements) if len(judgements) > 1 else None


def thoughts(record: Mapping[str, Any]) -> Json:
    """What a model that thinks before it answers thought; nothing where none did."""
    return {name: record[name] for name in ("thinking", "critique_thinking") if record.get(name)}


def principles(record: Mapping[str, Any]) -> set[str]:
    """Those that a record's critiques or votes went by; a transcript has those of its records."""
    return {part["principle"] for name in ("rounds", "votes") for part in record.get(name, [])}


def words(record: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a record that a search looks at, as the page's script does in a whole transcript."""
    yield record["id"]
    for dialogue in ("prompt", "messages"):
        yield from (turn["content"] for turn in record.get(dialogue, []))
    yield record.get("answer", "")
    for made in record.get("rounds", []):
        yield from (made["critique"], made["revision"])
    yield from record.get("responses", [])
    for vote in record.get("votes", []):
        yield from vote["reasoning"]
    for part in (record, *record.get("rounds", []), *record.get("votes", [])):
        for thought in thoughts(part).values():
            yield from [thought] if isinstance(thought, str) else thought
    yield from (answer["text"] for answer in record.get("answers", []))


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return round(value, 4) if value is not None and math.isfinite(value) else None


def _within(transcripts: list[Json], budget: int) -> list[Json]:
    kept = []
    for transcript in transcripts:
        budget -= len(json.dumps(transcript, ensure_ascii=False).encode())
        if budget < 0:
            break
        kept.append(transcript)
    return kept
