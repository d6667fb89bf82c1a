"""Where a training's metrics may go beside ``metrics.jsonl``: ``report_to`` in the settings."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from solon.errors import SolonError

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""The packages of which each needs one."""

PROJECT = "solon"  # in W&B and Trackio


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
