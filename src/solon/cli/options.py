"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from solon.config import Config, load
from solon.errors import SolonError
from solon.yaml_file import describe, parse

AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="A.B=C", help="Override one setting; may be given several times."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A configuration; the defaults without one.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="How many rows, drawn by the seed; all by default.")]
NO_SETTINGS: list[str] = []
Reuse = Annotated[
    list[Path],
    typer.Option(
        "--reuse", metavar="RUN", help="Take from this run what it did alike; may be given several times."
    ),
]
NO_RUNS: list[Path] = []
Model = Annotated[
    str, typer.Option("--model", help="'smollm2', a transformers folder, a .gguf file or a hub name.")
]


def overrides(settings: list[str]) -> dict[str, Any]:
    """``["a.b=1"]`` as ``{"a": {"b": 1}}``. Raises SolonError for what is no such assignment."""
    tree: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not all(name.split(".")):
            raise SolonError(f"--set {setting!r:.60} is no assignment; write it as --set critique.rounds=2")
        parsed, _ = parse(value, f"--set {name}")
        *outer, last = name.split(".")
        branch = tree
        for part in outer:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise SolonError(
                    f"--set {setting!r:.60} sets a part of what an earlier --set gave; drop one of them"
                )
        branch[last] = parsed
    return tree


def configuration(path: Path | None, settings: list[str]) -> Config:
    """The file's configuration, or the defaults, with the settings laid over it."""
    asked = overrides(settings)
    if path:
        return load(path, asked)
    try:
        return Config.model_validate(asked)
    except ValidationError as error:
        raise SolonError("\n".join(describe(Path("--set"), None, asked, error, Config))) from None
