"""Studies: one configuration and its variations, each an ordinary run, what they share done once."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from solon import config, models, pipeline, reuse
from solon.config import Config
from solon.errors import SolonError
from solon.evaluation import revisions
from solon.misfits import Location
from solon.progress import Watcher
from solon.prompts.dialogue import assistant
from solon.records import Message
from solon.seeds import stable_id
from solon.stages import preference
from solon.steps import STAGES, check_data
from solon.store.lock import alone_in
from solon.store.record_file import RecordFile
from solon.store.run_folder import RunFolder, read
from solon.workspace import Workspace
from solon.yaml_file import line_of, load_yaml, merge, parse, text_of

STAGE_NAMES = tuple(stage.name for stage in STAGES)
SCORED_TOGETHER = 16  # dialogues in a pass of the preference model
BLOCK = 128  # of them between two writes of the file: enough to sort by length, few enough to lose
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
    base: str = "small"  # a packaged configuration's name, or a YAML file
    settings: Settings = {}  # laid over the base, for all variations
    setting: str = ""  # the one setting that varies ...
    values: list[Any] = []  # ... over these
    variations: Annotated[dict[Any, Settings], AfterValidator(folder_names)] = {}  # by name
    seeds: Annotated[list[int], AfterValidator(once)] = []  # every variation once with each; or the base's
    until: Literal[STAGE_NAMES] = "evaluation"  # type: ignore[valid-type]
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
        found: dict[str, list[Member]] = {}
        for member in self.members:
            found.setdefault(member.variation, []).append(member)
        return found


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
        for each in sweep.seeds or [seed]:
            laid = merge(merge(common, {"seed": each}), nested(settings))
            name = f"{variation}-seed-{each}" if len(sweep.seeds) > 1 else variation
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


def nested(settings: Settings) -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``, as it is in a configuration."""

    def tree(name: str, value: Any) -> dict[str, Any]:
        first, dot, rest = name.partition(".")
        return {first: tree(rest, value) if dot else value}

    return reduce(merge, (tree(str(name), value) for name, value in settings.items()), {})


def _packaged(folder: str) -> list[str]:
    files = (resources.files("solon") / folder).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def _path(name_or_path: str, folder: str, what: str, beside: Path) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        return beside / name_or_path if (beside / name_or_path).exists() else Path(name_or_path)
    if name_or_path not in _packaged(folder):
        raise SolonError(
            f"no {what} is called {name_or_path!r:.60}; packaged are {', '.join(_packaged(folder))}, "
            "and a path that ends in .yaml reads a file"
        )
    return Path(str(resources.files("solon") / folder / f"{name_or_path}.yaml"))


def run(study: Study, folder: Path, watcher: Watcher | None = None, donors: Sequence[Path] = ()) -> Path:
    """Take every member to its end in a run folder of its own, and return the path of the study's page.

    What is done is not done again, neither after a kill nor where another member, or another run, one of the
    ``donors``, did the same. Raises SolonError for anything that the user can mend, where it can be told
    before the first member begins.
    """
    from solon.report import sweep as page

    watcher = watcher or Watcher()
    if (folder / "manifest.json").exists():
        raise SolonError(f"{folder} is a run folder, and a study holds several; give another with --dir")
    # Said now, not after hours of work.
    reuse.check(donors)
    if study.sweep.scored_by:
        with watcher.stage("Preference model to score with"):
            preference.scorer(study.sweep.scored_by, 1)
    for member in study.members:
        check_data(Workspace(member.config, folder / member.name, watcher))
    with alone_in(folder):
        donors = list(donors)
        # Those with the most rounds go first: they hold the rounds of the others.
        members = sorted(study.members, key=lambda member: -member.config.critique.rounds)
        for number, member in enumerate(members, 1):
            watcher.say(f"{member.name} ({number} of {len(members)})")
            pipeline.run(member.config, folder / member.name, watcher, until=study.sweep.until, donors=donors)
            donors.append(folder / member.name)
        runs = {
            variation: {member.name: read(folder / member.name) for member in members}
            for variation, members in study.varies().items()
        }
        scorer, said = scored_by(study, folder)
        scores = score(folder / "scores.jsonl", scorer, runs.values(), watcher) if scorer else {}
        return page.write(study, folder, runs, scores, said)


def scored_by(study: Study, folder: Path) -> tuple[str, str]:
    """The preference model that scores all revisions, "" where there is none yet, and a sentence on it."""
    if study.sweep.scored_by:
        return study.sweep.scored_by, f"Revisions are scored by the preference model {study.sweep.scored_by}."
    first = study.members[0].name
    if STAGE_NAMES.index(study.sweep.until) < STAGE_NAMES.index("preference-model"):
        return (
            "",
            "Revisions are not scored: the study trains no preference model and names none as 'scored_by'.",
        )
    return Workspace(study.members[0].config, folder / first, Watcher()).preference_model, (
        f"All revisions are scored by one preference model, that of {first}. It was trained in this study, "
        "on answers to the same prompts; name another as 'scored_by' for a view from outside."
    )


def score(
    path: Path, scorer: str, runs: Iterable[Mapping[str, RunFolder]], watcher: Watcher
) -> dict[str, float]:
    """The preference model's score of every text of every revision, by ``text_id``.

    What the file has by the same model is not scored again.
    """
    wanted: dict[str, list[Message]] = {
        revisions.text_id(record["prompt"], text): [*record["prompt"], assistant(text)]
        for of_variation in runs
        for run in of_variation.values()
        for record in run.revisions
        for text in revisions.texts(record)
    }
    by_model = models.weights_hash(scorer)
    names = {text: stable_id(by_model, text) for text in wanted}
    file = RecordFile(path).recover()
    have: dict[str, float] = {record["id"]: record["score"] for record in file}
    missing = [text for text in wanted if names[text] not in have]
    if missing:
        with watcher.stage("Scores of revisions"):
            scores_of = preference.scorer(scorer, SCORED_TOGETHER)
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                made = dict(zip(block, scores_of([wanted[text] for text in block]), strict=True))
                file.append(*({"id": names[text], "score": value} for text, value in made.items()))
                have |= {names[text]: value for text, value in made.items()}
                watcher.advance("scores", start + len(block), len(missing))
    return {text: have[names[text]] for text in wanted}
