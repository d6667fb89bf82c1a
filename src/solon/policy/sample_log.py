"""``samples.jsonl``: what RL sampled."""

from collections.abc import Sequence
from pathlib import Path

from solon.policy.rollouts import Rollout
from solon.records import PromptRecord, SampleRecord
from solon.store.record_file import RecordFile


class SampleLog:
    """``samples.jsonl``: every answer sampled, once, with the prompt as it was asked."""

    def __init__(self, out: Path, prompts: Sequence[PromptRecord]) -> None:
        self.file = RecordFile(out / "samples.jsonl").recover()
        self._known = self.file.ids()
        self._latest, self._unordered = max(map(place, self._known), default=(0, 0)), False
        self._prompts = {record["id"]: record["prompt"] for record in prompts}

    def append(
        self,
        step: int,
        prompts: Sequence[str],
        answers: Sequence[Rollout],
        rewards: Sequence[float],
    ) -> None:
        """Write a step's answers, given with their prompts' ids.

        Those of a step that a kill undid are there already, and come out alike.
        """
        self.write(
            *(
                self.record(sample_id(step, number), prompt, answer, reward)
                for number, (prompt, answer, reward) in enumerate(zip(prompts, answers, rewards, strict=True))
            )
        )

    def record(self, id: str, prompt: str, answer: Rollout, reward: float) -> SampleRecord:
        """The record of an answer to the prompt with that id."""
        record: SampleRecord = {
            "id": id,
            "prompt_id": prompt,
            "step": int(id.partition("/")[0]),
            "prompt": self._prompts[prompt],
            "response": answer.text,
            "reward": reward,
            "truncated": answer.truncated,
        }
        if answer.thinking:
            record["thinking"] = answer.thinking
        return record

    def write(self, *records: SampleRecord) -> None:
        """Write those that are not there."""
        new = [record for record in records if record["id"] not in self._known]
        if new:
            self.file.append(*new)
        for record in new:
            self._known.add(record["id"])
            self._unordered |= place(record["id"]) < self._latest
            self._latest = max(self._latest, place(record["id"]))

    def of(self, step: int, prompts: Sequence[str], answers: Sequence[Rollout]) -> dict[str, SampleRecord]:
        """What is there of these answers of a step, by their ids; one that came out otherwise counts not."""
        asked = {
            sample_id(step, number): (prompt, answer.text)
            for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        }
        if not self._known & asked.keys():
            return {}
        return {
            record["id"]: record
            for record in self.file
            if asked.get(record["id"]) == (record["prompt_id"], record["response"])
        }

    def in_order(self) -> None:
        """Sort the records by steps and numbers, as they are where none had to wait for its reward."""
        if self._unordered:
            self.file.put_in_order(sorted(self._known, key=place))
            self._unordered = False


def sample_id(step: int, number: int) -> str:
    """Of a step's answer, both counted from where ``samples.jsonl`` counts them: 1 and 0."""
    return f"{step}/{number}"


def place(id: str) -> tuple[int, int]:
    """The step and the number that make up a sample's id."""
    step, _, number = id.partition("/")
    return int(step), int(number)
