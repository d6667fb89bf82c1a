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
        records: list[SampleRecord] = [
            {
                "id": f"{step}/{number}",
                "prompt_id": prompt,
                "step": step,
                "prompt": self._prompts[prompt],
                "response": answer.text,
                "reward": reward,
                "truncated": answer.truncated,
            }
            for number, (prompt, answer, reward) in enumerate(zip(prompts, answers, rewards, strict=True))
        ]
        for record, answer in zip(records, answers, strict=True):
            if answer.thinking:
                record["thinking"] = answer.thinking
        new = [record for record in records if record["id"] not in self._known]
        if new:
            self.file.append(*new)
        self._known |= {record["id"] for record in new}
