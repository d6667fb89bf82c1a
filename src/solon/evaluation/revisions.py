"""A preference model's scores of answers and their revisions (paper, section 3.5; Figures 5 to 7)."""

import json
from collections.abc import Sequence
from statistics import fmean
from typing import TypedDict

from solon.evaluation.calibration import Interval, mean_interval
from solon.records import Message, RevisionRecord
from solon.seeds import stable_id
from solon.stages.critique import first_rounds


class Revised(TypedDict):
    """What so many revisions have come to. Intervals are 95 %, over prompts; None where all are alike."""

    revisions: int  # 0: the first answers
    prompts: int
    score: float  # mean over the prompts
    score_interval: Interval | None
    gain: float  # mean of how far a prompt's text scores above its first answer
    gain_interval: Interval | None


def texts(record: RevisionRecord) -> list[str]:
    """The text after no, one, two, ... rounds; a round without a sound revision leaves it as it was."""
    return [
        first_rounds(record, count)["messages"][-1]["content"] for count in range(len(record["rounds"]) + 1)
    ]


def text_id(prompt: Sequence[Message], text: str) -> str:
    """Of a text as the answer to a prompt, wherever it was written."""
    return stable_id(json.dumps(prompt), text)


def by_number(scores: Sequence[Sequence[float]]) -> list[Revised]:
    """``scores`` has a row a prompt, with the scores of its ``texts``; all rows are of one length."""
    first = [row[0] for row in scores]
    rows = []
    for revisions, column in enumerate(zip(*scores, strict=True)):
        gains = [score - before for score, before in zip(column, first, strict=True)]
        rows.append(
            Revised(
                revisions=revisions,
                prompts=len(column),
                score=fmean(column),
                score_interval=mean_interval(column),
                gain=fmean(gains),
                gain_interval=mean_interval(gains),
            )
        )
    return rows
