"""Studies: one configuration and its variations, as a file describes them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from solon import config
from solon.config import Config
from solon.errors import SolonError
from solon.method import NAMES
from solon.misfits import Location
from solon.yaml_file import line_of, load_yaml, merge, nested, parse, text_of

NAME = r"[A-Za-z0-9][\w.-]*"


def folder_names(variations: dict[Any, Any]) -> dict[str, Any]:
    for name in variations:
        if not re.fullmatch(NAME, str(name)):
            raise ValueError(
                f"has the name {name!r:.60}, which becomes a folder's; begin it with a letter or digit, and "
                "write it with these, '-', '_' and '.'"
            )
    return {str(name): settings for name, settings in variations.items()}


def once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"is {seeds}: a seed is given twice; give each once")
    return seeds


Settings = dict[Any, Any]  # by dotted names, or nested as in a configuration


class Sweep(BaseModel):
    """What a study's file says. Either ``setting`` and ``values``, or ``variations``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = ""  # of the page; the file's name by default
    base: str = "laptop"  # a packaged configuration's name, or a YAML file
    settings: Settings = {}  # laid over the base, for all variations
    setting: str = ""  # the one setting that varies ...
    values: list[Any] = []  # ... over these
    variations: Annotated[dict[Any, Settings], AfterValidator(folder_names)] = {}  # by name
    seeds: Annotated[list[int], AfterValidator(once)] = []  # every variation once with each; or the base's
    until: Literal[NAMES] = "evaluation"  # type: ignore[valid-type]
    # The folder of a preference model to score all revisions with; that of the first run by default.
    scored_by: str | None = None

    @model_validator(mode="after")
    def one_way(self) -> "Sweep":
        if bool(self.variations) == bool(self.setting) or (self.values and not self.setting):
            raise ValueError("has to say what varies: give 'setting' with its 'values', or else 'variations'")
        if self.setting and not self.values:
            raise ValueError(f"has no 'values' for the setting {self.setting!r:.60}; list them")
        if len(self.variations or self.values) < 2:
            raise ValueError("has one variation only; give two or more, or use 'solon run'")
        return self

    def varied(self) -> Iterator[tuple[str, Settings, Location]]:
        """Every variation's name, its settings, and where in the file it is."""
        for name, settings in self.variations.items():
            yield name, settings, ("variations", name)
        for number, value in enumerate(self.values):
            name = f"{self.setting.rpartition('.')[2]}-{_as_name(value)}"
            yield name, {self.setting: value}, ("values", number)


def _as_name(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.]+", "-", text).strip("-.") or "none"


@dataclass(frozen=True)
class Member:
    """One run of a study."""

    name: str  # of its folder
    variation: str
    config: Config


@dataclass(frozen=True)
class Study:
    name: str
    sweep: Sweep
    members: list[Member]  # in the file's order

    @property
    def title(self) -> str:
        return self.sweep.title or self.name

    def varies(self) -> dict[str, list[Member]]:
        """The members of each variation, one a seed."""
        by_variation: dict[str, list[Member]] = {}
        for member in self.members:
            by_variation.setdefault(member.variation, []).append(member)
        return by_variation


def packaged() -> list[str]:
    """The names of the studies that come with Solon."""
    return _packaged("studies")


def load(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Study:
    """A packaged study by its name, or one from a path that ends in ``.yaml`` or ``.yml``.

    ``overrides`` (nested like a configuration) are laid over the base and the file's own ``settings``, under
    its variations. Raises SolonError naming file, line and field for what does not fit.
    """
    path = _path(name_or_path, "studies", "study", Path())
    sweep, (_, tree) = load_yaml(path, Sweep), parse(text_of(path), str(path))
    base = _path(sweep.base, "configs", "configuration", path.parent)

    def fitted(settings: Mapping[str, Any], place: str, location: Location) -> Config:
        try:
            return config.load(base, dict(settings))
        except SolonError as error:
            what = str(error).replace(f"{base} laid over it: ", "")
            raise SolonError(f"{path} line {line_of(tree, location)}: {place}: {what}") from None

    common = merge(nested(sweep.settings), dict(overrides or {}))
    seed = fitted(common, f"base {sweep.base!r} with 'settings'", ("settings",)).seed
    members: list[Member] = []
    for variation, settings, location in sweep.varied():
        place = f"variation {variation!r:.60}"
        for member_seed in sweep.seeds or [seed]:
            laid = merge(merge(common, {"seed": member_seed}), nested(settings))
            name = f"{variation}-seed-{member_seed}" if len(sweep.seeds) > 1 else variation
            member = Member(name, variation, fitted(laid, place, location))
            for other in members:
                if other.name == name or other.config == member.config:
                    raise SolonError(
                        f"{path} line {line_of(tree, location)}: {place} is the same run as "
                        f"{other.name!r:.60}; remove one of the two"
                    )
            members.append(member)
    scorer = sweep.scored_by
    if scorer and (path.parent / scorer).exists():
        sweep = sweep.model_copy(update={"scored_by": str(path.parent / scorer)})
    return Study(path.stem, sweep, members)


def _packaged(folder: str) -> list[str]:
    files = (resources.files("solon") / folder).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


RENAMED = {"small": "laptop"}  # what studies may still call a packaged configuration


def _path(name_or_path: str, folder: str, what: str, beside: Path) -> Path:
    name_or_path = RENAMED.get(name_or_path, name_or_path)
    if name_or_path.endswith((".yaml", ".yml")):
        return beside / name_or_path if (beside / name_or_path).exists() else Path(name_or_path)
    if name_or_path not in _packaged(folder):
        raise SolonError(
            f"no {what} is called {name_or_path!r:.60}; packaged are {', '.join(_packaged(folder))}, "
            "and a path that ends in .yaml reads a file"
        )
    return Path(str(resources.files("solon") / folder / f"{name_or_path}.yaml"))
