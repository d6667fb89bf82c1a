"""Where a training's metrics, and RL's samples, may go beside its files: ``report_to`` in the settings."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from solon.errors import SolonError
from solon.records import Message, SampleRecord
from solon.store.record_file import RecordFile

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""The packages of which each needs one."""

PROJECT = "solon"  # in W&B and Trackio
TABLES = 20  # of samples in a training, about
ROWS = 8  # of such a table


def check(names: Iterable[str]) -> None:
    """Raise SolonError for one that is not installed: the trainers would tell of it only once they begin."""
    for name in names:
        if not any(map(find_spec, PACKAGES[name])):
            raise SolonError(
                f"report_to has {name!r}, which is not installed: run 'pip install {name}', or take it out"
            )


def run_name(out: Path) -> str:
    """Of a training into the folder ``out``: "mine-03-sl-cai" for ``runs/mine/03-sl-cai``."""
    return "-".join(out.resolve().parts[-2:])


@contextmanager
def wandb_run(names: Iterable[str], out: Path) -> Iterator[None]:
    """A run of W&B for the training into ``out`` alone: the trainers go on with one that is open."""
    if "wandb" not in names:
        yield
        return
    import wandb

    with wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), name=run_name(out)):
        yield


@dataclass(frozen=True)
class SampleTables:
    """What RL samples, beside its metrics: every few steps a table of a few of the step's answers.

    They go from the best rewarded to the worst, where a reward that is gamed shows. They are read from
    ``samples.jsonl`` in ``out``, so that the tables say what the records do.
    """

    names: Collection[str]  # of ``PACKAGES``
    out: Path
    steps: int  # of the whole training
    writer: Callable[[], Any]  # TensorBoard's, which the metrics go to

    def send(self, step: int, at: int | None = None) -> None:
        """Send those of the step, counted from 1, where it is one of the few.

        Its metrics are sent after it. ``at`` is W&B's own number of them, where whoever sends them gives it.
        """
        every = max(1, self.steps // TABLES)
        if not self.names or not (step % every == 0 or step in {1, self.steps}):
            return
        samples = [record for record in RecordFile(self.out / "samples.jsonl") if record["step"] == step]
        rows = [row(record) for record in some(samples)]
        if not rows:
            return
        if "tensorboard" in self.names:
            self.writer().add_text("samples", markdown(rows), step)
        if {"trackio", "wandb"} & set(self.names):
            import pandas

            frame = pandas.DataFrame(rows)
            if "wandb" in self.names:
                import wandb

                wandb.log({"samples": wandb.Table(dataframe=frame)}, step=at, commit=False)
            if "trackio" in self.names:
                import trackio

                trackio.log({"samples": trackio.Table(dataframe=frame)}, step=at)


def some(samples: Sequence[SampleRecord]) -> list[SampleRecord]:
    """Evenly from the best rewarded to the worst, both among them; all where they are few."""
    ordered = sorted(samples, key=lambda record: -record["reward"])
    last = len(ordered) - 1
    return ordered if last < ROWS else [ordered[place * last // (ROWS - 1)] for place in range(ROWS)]


def row(record: SampleRecord) -> dict[str, Any]:
    return {
        "step": record["step"],
        "prompt": said(record["prompt"]),
        "answer": record["response"],
        "reward": record["reward"],
    }


def said(dialogue: Sequence[Message]) -> str:
    """A dialogue of one turn is that turn."""
    if len(dialogue) == 1:
        return dialogue[0]["content"]
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in dialogue)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table, which TensorBoard's texts may hold. What models wrote makes no cells, lines or tags in it."""
    head, *lines = (list(map(str, cells)) for cells in (rows[0], *(row.values() for row in rows)))
    shown = [[escape(cell).replace("|", "&#124;").replace("\n", "<br>") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *shown))
