"""Which of a run's models go out, what they are made from, and under which licence that is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon import cards, marks
from solon.adapter_folders import CONFIG, is_adapter
from solon.errors import SolonError
from solon.marks import Origin
from solon.method import MODELS, Stage, holds_model
from solon.publishing.names import called, is_path
from solon.publishing.parcel import File
from solon.report.roles import models as roles
from solon.store.run_folder import RunFolder

# What a model is made of; not its records, nor a training's state, and no pickles.
SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
LAST = ("rl-cai", "sl-cai")  # the policy, the furthest one first


@dataclass(frozen=True)
class Model:
    name: str  # as in MODELS
    folder: Path
    base: str  # what its policy is called; of adapters the model on the hub that they are for
    adapter: bool
    origin: Origin

    @property
    def stage(self) -> Stage:
        return MODELS[self.name]

    @property
    def marked(self) -> bool:
        return bool(marks.marks_in(self.folder))

    @property
    def files(self) -> dict[str, File]:
        found = sorted(file for file in self.folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
        return {file.name: File(file, file) for file in found}


def find(run: RunFolder, path: Path, asked: Iterable[str]) -> list[Model]:
    """The models that are ``asked`` for: names of MODELS, or folders with one of them merged.

    The last policy where none is. Raises SolonError where one is not there, not finished, or could not be
    loaded by others.
    """
    names = list(dict.fromkeys(asked)) or [name for name in LAST if _finished(run, path, name)][:1]
    if not names:
        raise SolonError(f"{path} has no finished model yet: let 'solon run' come to the end of its training")
    found = [_model(run, path, name) for name in names]
    twice = {model.name for model in found if sum(other.name == model.name for other in found) > 1}
    if twice:
        raise SolonError(f"two of the models given are {min(twice)} of the run; give one of them")
    return found


def _finished(run: RunFolder, path: Path, name: str) -> bool:
    folder = path / MODELS[name].folder
    done = (run.stages.get(MODELS[name].name) or {}).get("status") == "done"
    return done and holds_model(folder)


def _model(run: RunFolder, path: Path, asked: str) -> Model:
    if asked in MODELS:
        name, folder = asked, path / MODELS[asked].folder
        if not _finished(run, path, name):
            raise SolonError(
                f"{path} has no finished {name}: leave it out, or let 'solon run' come to its end"
            )
    else:
        folder = Path(asked)
        name = _made_from(folder, path)
    adapter = is_adapter(folder)
    base = _base(folder, name) if adapter else roles(run)["policy"]
    own = marks.of_one(str(folder), folder, verified=True)
    if own.faults:
        raise SolonError(f"{folder}: {own.faults[0]}, so what it learned cannot be said: copy the model anew")
    return Model(name, folder, base, adapter, marks.origin(str(folder)))


def _base(folder: Path, name: str) -> str:
    """The model on the hub that the folder's adapters are for."""
    base = str(cards.json_of(folder / CONFIG).get("base_model_name_or_path") or "")
    if is_path(base) or not cards.HUB_NAME.match(base):
        raise SolonError(
            f"{folder} has adapters for {base!r}, a folder that others do not have, so nobody else could "
            f"load them: merge the two with 'solon export {folder.parent} {name} FOLDER --merge', and "
            "publish that with --model FOLDER"
        )
    return base


def _made_from(folder: Path, run: Path) -> str:
    """Which model of the run the folder has, by their marks."""
    if is_adapter(folder) or not holds_model(folder):
        raise SolonError(
            f"--model {str(folder)!r} is neither one of {', '.join(MODELS)} nor a folder with a whole "
            "model (config.json); correct it"
        )
    learned = _learned(folder)
    for name, stage in MODELS.items():
        if learned and learned == _learned(run / stage.folder):
            return name
    raise SolonError(
        f"{folder} bears no mark that shows it to be a model of {run}, so its card would tell of another's "
        "figures: name a folder that 'solon export' made of the run"
    )


def _learned(folder: Path) -> Any:
    """What tells a model whatever its weights are kept as: its training, and the records for that."""
    found = marks.marks_in(folder) if folder.is_dir() else []
    return (found[0].get("stage"), found[0].get("data")) if found and found[0].get("data") else None


@dataclass(frozen=True)
class Licence:
    name: str  # "" where nothing names one
    says: str  # where that stands, or why it is not known
    head: Mapping[str, Any]  # of a card


def licence_of(base: str, given: str | None = None) -> Licence:
    """The base's licence, as its card or its GGUF file has it, or as it was ``given``."""
    if given:
        return Licence(given, "as who published this says", {"license": given})
    file, folder = cards.file_of(base) or _embedded(base), cards.folder_of(base)
    if file and (named := cards.gguf_fields(file).get("general.license")):
        return Licence(named[0], f"as the file of {called(base)} says", {"license": named[0]})
    front = cards.card(folder)[0] if folder else {}
    if named := cards.texts(front.get("license")):
        fields = ("license", "license_name", "license_link")
        return Licence(
            str(front.get("license_name") or named[0]),
            f"as the card of {called(base) if is_path(base) else base} says",
            {name: front[name] for name in fields if isinstance(front.get(name), str)},
        )
    return Licence("", f"no card of {called(base) if is_path(base) else base} names one", {})


def _embedded(base: str) -> Path | None:
    from solon.models import EMBEDDED, embedded_file

    return embedded_file(base) if base in EMBEDDED else None
