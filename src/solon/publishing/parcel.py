"""What goes out together: the files of one repository."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from solon.errors import SolonError


class File(NamedTuple):
    """A file as it goes out, and where its lines are to be mended."""

    path: Path
    made_from: Path | None = None  # the file of the user's that it is, or is made from; None of a card
    lines: Sequence[int] = ()  # of that file, counted from 1, for each line of this one; its own where empty


@dataclass(frozen=True)
class Parcel:
    kind: Literal["model", "dataset"]
    name: str  # its folder under --to: "rl-cai", "data"
    repository: str  # OWNER/NAME on the hub; "" where it goes into a folder
    files: dict[str, File]  # by path in the repository

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: file.path.stat().st_size for name, file in self.files.items()}


def write(parcels: Iterable[Parcel], folder: Path) -> None:
    """Copy each parcel into a folder of its name. Raises SolonError where ``folder`` has anything in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SolonError(f"{folder} exists and is not an empty folder; give --to another")
    for parcel in parcels:
        for name, file in parcel.files.items():
            place = folder / parcel.name / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.path, place)
