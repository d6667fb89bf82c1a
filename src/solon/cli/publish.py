"""``solon publish``: a run's models with their cards and its data, for others, on the hub or in a folder."""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import typer

from solon.cli.options import AsJson
from solon.cli.show import SCREEN, quiet_libraries
from solon.errors import SolonError

NONE: list[str] = []


NewFolder = Annotated[
    Path | None, typer.Option("--to", help="A new folder to write it all into, in the hub's place.")
]
WhichModels = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="rl-cai, sl-cai, preference-model, or a folder with one of them merged; may be given several "
        "times. The last policy by default.",
    ),
]
Allowed = Annotated[
    list[str],
    typer.Option(help="Lets through what only looks like a secret or a personal path; several times."),
]
Moved = Annotated[Path | None, typer.Option(help="Where the run's constitution is now, if it was moved.")]
Licence = Annotated[str | None, typer.Option("--license", help="Of the base, where its own card names none.")]
Repository = Annotated[
    str, typer.Argument(metavar="[REPO]", help="OWNER/NAME on the hub, of the model and of the dataset.")
]


def publish(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    repository: Repository = "",
    to: NewFolder = None,
    models: WhichModels = NONE,
    data: Annotated[bool, typer.Option(help="Whether the data goes with the models.")] = True,
    constitution: Moved = None,
    licence: Licence = None,
    allow: Allowed = NONE,
    public: Annotated[bool, typer.Option("--public", help="For all to read; private without.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send it; without, show what would be sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a run's model and data to others, with cards that say what they are."""
    from solon import publishing  # brings the report's libraries and torch, which take seconds to import
    from solon.publishing import hub

    quiet_libraries()
    if bool(repository) == bool(to):
        raise SolonError("say where it is to go: OWNER/NAME on the hub, or --to FOLDER; one of the two")
    if repository:
        hub.check_name(repository)
    wanted = publishing.Wanted(repository, models, data, constitution, licence, allow)
    with TemporaryDirectory(prefix="solon-") as staging:
        parcels = publishing.gather(run, Path(staging), wanted)
        sent = []
        if to:
            publishing.write(parcels, to)
        elif yes:
            sent = hub.send(parcels, f"Published by Solon from {run.resolve().name}", public)
        listed = [
            Listed(parcel.kind, str(to / parcel.name) if to else parcel.repository, parcel.sizes)
            for parcel in parcels
        ]
    if as_json:
        told = {"sent": bool(to or yes), "public": public, "parcels": [each._asdict() for each in listed]}
        print(json.dumps({**told, "addresses": sent}, indent=2))
        return
    _show(listed, "" if to else " (public)" if public else " (private)")
    for address in sent:
        typer.echo(f"Sent: {address}")
    if to:
        SCREEN.say(f"Written to {to}. Read the cards (README.md) before you give it to others.")
    elif not yes:
        SCREEN.say("Nothing was sent. --to FOLDER writes it all for you to read; --yes sends it.")


class Listed(NamedTuple):
    """What goes where."""

    kind: str
    to: str
    files: dict[str, int]  # bytes by path


def _show(listed: Iterable[Listed], how: str) -> None:
    for each in listed:
        typer.echo(f"{each.kind} {each.to}{how}: {size(sum(each.files.values()))}")
        for name, count in each.files.items():
            typer.echo(f"  {size(count):>9}  {name}")


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
