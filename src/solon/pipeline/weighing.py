"""A run's labels made anew from its votes, under principles that are weighed otherwise: no model is asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solon import config, feedback
from solon.constitution import Constitution
from solon.errors import WeighedOut
from solon.feedback import weights
from solon.pipeline.steps.feedback import votes_beside
from solon.records import ASPECT_OF, KINDS, Aspect, Ballot, PairRecord
from solon.stages import feedback as labels
from solon.store.record_file import RecordFile, write

PAIRS = "04-comparison/pairs.jsonl"
LABELS, UNLABELLED = "05-feedback/preferences.jsonl", "05-feedback/unlabelled.jsonl"


def read(run: Path, name: str) -> list[Any]:
    return RecordFile(run / name, KINDS[Path(name).stem]).read()


def weigh_anew(source: Path, target: Path, asked: config.Config, laws: Mapping[Aspect, Constitution]) -> None:
    """Write into the run folder ``target`` what stage 5 would leave there under ``laws``.

    They say the same as those that ``source`` was labelled by, but for the weights. Labels of other aspects
    stay as they are.
    """
    pairs: dict[str, PairRecord] = {pair["id"]: pair for pair in read(source, PAIRS)}
    of_pair: dict[str, list[Ballot]] = {}
    judges = feedback.judges(asked)
    for number in range(1, len(judges) + 1) if len(judges) > 1 else ():
        ballots: list[Any] = []
        for ballot in votes_beside(source / LABELS, number):
            law = laws.get(ASPECT_OF[pairs[ballot["id"]]["set"]])
            ballots.append({**ballot, "votes": weights.under(law, ballot["votes"])} if law else ballot)
            of_pair.setdefault(ballot["id"], []).append(ballots[-1])
        write(votes_beside(target / LABELS, number).path, ballots)

    def anew(record: Any) -> Any:
        if not record.get("votes"):
            return record
        pair = pairs[record["id"]]
        aspect = ASPECT_OF[pair["set"]]
        if aspect not in laws:
            return record
        if of_pair:  # a label's votes are those of the ballots, or their mirror images, to the last bit
            return labels.joined(pair, of_pair[pair["id"]], laws[aspect], aspect, asked.feedback)
        return labels.weighed_anew(record, pair, laws[aspect], aspect, asked.feedback, judges[0])

    place = {name: number for number, name in enumerate(pairs)}
    made = [anew(record) for record in (*read(source, LABELS), *read(source, UNLABELLED))]
    made.sort(key=lambda record: place.get(record["id"], len(place)))  # people's come last, and stay in order
    write(target / LABELS, (record for record in made if "chosen" in record))
    if aside := [record for record in made if "chosen" not in record]:
        write(target / UNLABELLED, aside)


def judged(run: Path, aspect: Aspect) -> list[Any]:
    """The run's labels of the aspect that votes make, then the pairs whose every vote weighs nothing."""
    labels = [record for record in read(run, LABELS) if record["aspect"] == aspect and record["votes"]]
    return labels + [
        pair
        for pair in read(run, UNLABELLED)
        if pair["problem"] == WeighedOut.problem and ASPECT_OF[pair["set"]] == aspect
    ]
