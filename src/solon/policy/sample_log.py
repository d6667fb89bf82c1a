"""``samples.jsonl``: what RL sampled."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from solon.prompts.dialogue import neutral_messages, reserved, turns
from solon.records import Message, PromptRecord, SampleRecord
from solon.store.record_file import RecordFile


class SampleLog:
    """``samples.jsonl``: every answer sampled, once, with the prompt as it was asked."""

    def __init__(
        self, out: Path, prompts: Sequence[PromptRecord], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self.file = RecordFile(out / "samples.jsonl").recover()
        self._known = self.file.ids()
        forms = reserved(tokenizer)
        self._asked = {
            turns(neutral_messages(record["prompt"], forms)): record["prompt"] for record in prompts
        }

    def append(self, step: int, dialogues: Sequence[Sequence[Message]], rewards: Sequence[float]) -> None:
        """Write a step's answers; those of a step that a kill undid are there already, and come out alike."""
        records: list[SampleRecord] = [
            {
                "id": f"{step}/{number}",
                "step": step,
                "prompt": self._asked[turns(prompt)],
                "response": answer["content"],
                "reward": reward,
            }
            for number, ((*prompt, answer), reward) in enumerate(zip(dialogues, rewards, strict=True))
        ]
        new = [record for record in records if record["id"] not in self._known]
        if new:
            self.file.append(*new)
        self._known |= {record["id"] for record in new}
