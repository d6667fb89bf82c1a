"""What the SL-CAI model is trained on: revisions mixed with helpful answers (paper, section 3.2)."""

from collections import Counter
from collections.abc import Sequence

from solon import config
from solon.errors import SolonError, TooLong
from solon.prompts.dialogue import assistant
from solon.records import AnswerRecord, Example, Message, RevisionRecord
from solon.stages.critique import answer_of
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
            f"none of the {len(revisions)} records has a sound revision to train on: {_why(revisions)}"
        )
    made += [
        _example(record["id"], record["prompt"], answer_of(record), "helpful")
        for record in helpful
        if not record["problem"]
    ]
    return made


def _why(revisions: Sequence[RevisionRecord]) -> str:
    """What is wrong with most of them, and what helps against that."""
    problems = Counter(made["problem"] for record in revisions for made in record["rounds"])
    usual = problems.most_common(1)[0][0] if problems else ""
    helps = {
        TooLong.problem: "shorten the prompts or take few_shot off, or name a model with a longer context",
        "unfinished": "give a larger critique.max_tokens",
        "evasive": "set critique.evasive to true to keep them, or try a more capable critic",
    }.get(usual, "try a more capable assistant, more attempts or a longer max_tokens")
    most = f"most are wrong by '{usual}'" if usual else "see what is wrong with them under 'problem'"
    return f"{most}; {helps}"


def sound_revisions(record: RevisionRecord) -> list[tuple[int, Written]]:
    """The sound revisions with their rounds, from 1; of a record without rounds the answer, as round 0."""
    if record["rounds"]:
        return [
            (number, Written(revised["revision"], revised.get("cut", "")))
            for number, revised in enumerate(record["rounds"], 1)
            if not revised["problem"]
        ]
    answer = Written(record["answer"], record.get("cut", ""))
    return [] if problem(answer, [record["prompt"][-1]["content"]]) else [(0, answer)]


def _example(name: str, prompt: list[Message], text: Written, source: str) -> Example:
    return Example(id=name, prompt=prompt, completion=[assistant(text.text)], source=source, cut=text.cut)
