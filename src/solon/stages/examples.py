"""What the SL-CAI model is trained on: revisions mixed with helpful answers (paper, section 3.2)."""

from collections.abc import Sequence

from solon import config
from solon.errors import SolonError
from solon.prompts.dialogue import assistant
from solon.records import AnswerRecord, Example, Message, RevisionRecord
from solon.texts.degenerate import problem
from solon.texts.written import Written


def gather(
    revisions: Sequence[RevisionRecord], helpful: Sequence[AnswerRecord], settings: config.Supervised
) -> list[Example]:
    """What SL-CAI is trained on: sound revisions of every round, or each prompt's last, and helpful answers.

    Where no round was asked for, the first answers stand for the revisions: SL-CAI-0 (paper, section 3.5).
    Raises SolonError where no revision is sound.
    """
    made: list[Example] = []
    for record in revisions:
        sound = sound_revisions(record)
        made += [
            _example(f"{record['id']}/{number}", record["prompt"], text, f"revision {number}")
            for number, text in (sound if settings.revisions == "all" else sound[-1:])
        ]
    if not made:
        raise SolonError(
            f"none of the {len(revisions)} records has a sound revision to train on: see what is wrong with "
            "them under 'problem', and try a more capable assistant, more attempts or a longer max_tokens"
        )
    made += [
        _example(record["id"], record["prompt"], record["messages"][-1]["content"], "helpful")
        for record in helpful
        if not record["problem"]
    ]
    return made


def sound_revisions(record: RevisionRecord) -> list[tuple[int, str]]:
    """The sound revisions with their rounds, from 1; of a record without rounds the answer, as round 0."""
    if record["rounds"]:
        return [
            (number, revised["revision"])
            for number, revised in enumerate(record["rounds"], 1)
            if not revised["problem"]
        ]
    answer = Written(record["answer"], record.get("cut", ""))
    return [] if problem(answer, [record["prompt"][-1]["content"]]) else [(0, answer.text)]


def _example(name: str, prompt: list[Message], text: str, source: str) -> Example:
    return Example(id=name, prompt=prompt, completion=[assistant(text)], source=source)
