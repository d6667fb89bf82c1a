"""``solon export``: a model that a run trained, as a folder for whoever uses it elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from solon.cli.show import SCREEN, quiet_libraries
from solon.errors import SolonError
from solon.method import MODELS, holds_model

FOLDERS = {stage.name: stage.folder for stage in MODELS.values()}
ALSO = {name: stage.folder for name, stage in MODELS.items()}


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(FOLDERS)}.")],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add adapters to the weights that they are for.")
    ] = False,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Number type of the weights; as they are by default.")
    ] = None,
) -> None:
    """Copy the model of one of the run's trainings: a plain transformers folder, or its adapters."""
    folder = run / (FOLDERS | ALSO).get(stage, stage)
    if stage not in FOLDERS | ALSO:
        raise SolonError(f"{stage!r} is no stage that trains; give one of {', '.join(FOLDERS)}")
    if not holds_model(folder):
        raise SolonError(f"{folder} has no model: take the run further first ('solon run')")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SolonError(f"{out} exists and is not an empty folder; give another name")
    quiet_libraries()
    from solon.training import exporting  # brings torch

    exporting.export(folder, out, merge, dtype.value if dtype else None)
    SCREEN.say(f"Written: {out}")
