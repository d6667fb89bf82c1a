"""Everything of a run that is to go out, as parcels."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from solon.constitution import Constitution
from solon.errors import SolonError
from solon.publishing import card, dataset, models
from solon.publishing.leaks import Leaks, check
from solon.publishing.names import Names
from solon.publishing.parcel import File, Parcel
from solon.store.files import write_atomically
from solon.store.run_folder import RunFolder, read

DATA = "data"


@dataclass(frozen=True)
class Wanted:
    """What is to go out, and how."""

    repository: str = (
        ""  # OWNER/NAME on the hub: of the last policy, and of the dataset, which is a kind apart
    )
    models: Sequence[str] = ()  # names or folders; the last policy by default
    data: bool = True
    constitution: Path | None = None  # where the run's is now, where it is not where the run had it
    licence: str | None = None  # of the base; what its card says by default
    allowed: Sequence[str] = ()  # texts that look like secrets or personal paths, and are none


def gather(run: Path, place: Path, wanted: Wanted) -> list[Parcel]:
    """What is wanted of the run, the dataset first; cards and data are written below ``place``.

    Raises SolonError where a model is not there or could not be loaded by others, where the constitution is
    not the run's, and, naming file and line, where a secret or a personal path would go out.
    """
    folder = read(run)
    names = Names(folder, run)
    found = models.find(folder, run, wanted.models)
    law = _law(folder, wanted.constitution)
    facts = card.Facts.of(folder, run, names, law)
    tables = dataset.write(run, names, place / DATA) if wanted.data else []
    made_from = {DATA: wanted.repository} if tables else {}
    parcels = []
    if tables:
        files = {table.path(split): file for table in tables for split, file in table.files.items()}
        files |= _written(place / DATA, card.of_data(facts, tables, wanted.repository), facts)
        parcels.append(Parcel("dataset", DATA, wanted.repository, files))
    for model in found:
        repository = wanted.repository
        if repository and model is not found[0]:
            repository += f"-{model.name}"
        licence = models.licence_of(model.base, wanted.licence)
        page = card.of_model(facts, model, licence, repository, made_from.get(DATA))
        files = {**model.files, **_written(place / model.name, page, facts)}
        parcels.append(Parcel("model", model.name, repository, files))
    check(parcels, Leaks(folder, run, names, wanted.allowed))
    return parcels


def _law(run: RunFolder, given: Path | None) -> Constitution:
    where = {"constitution": str(given)} if given else {}
    if law := dataclasses.replace(run, settings={**run.settings, **where}).law("harmlessness"):
        return law
    named = given or run.settings.get("constitution")
    raise SolonError(
        f"the constitution {str(named)!r} is gone or is not the one that {run.name} was trained by (its hash "
        "is in manifest.json): put that one back, or name it with --constitution FILE"
    )


def _written(place: Path, page: str, facts: card.Facts) -> dict[str, File]:
    """The card, and the constitution beside it."""
    texts = {"README.md": page, "constitution.yaml": facts.law.to_yaml()}
    for name, text in texts.items():
        write_atomically(place / name, text)
    return {name: File(place / name) for name in texts}
