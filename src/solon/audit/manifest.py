"""What the manifest recorded, against settings, records, files and models of now."""

from pathlib import Path
from typing import Any

from solon import constitution
from solon.audit.run import CONSTITUTIONS, SETTING_OF, Found, Run
from solon.errors import SolonError
from solon.feedback import further
from solon.method import STAGES, TRUST
from solon.role_settings import ROLES
from solon.sources.tables import HUB, source_name
from solon.store.files import file_hash, unsealed
from solon.store.manifest import flat, inputs_of, weights_of

SOURCES = {
    "prompts.red_team.hash": "prompts.red_team.source",
    "prompts.helpful.hash": "prompts.helpful.source",
    "preference_model.helpfulness.hash": "preference_model.helpfulness",
    "evaluation.trust.hash": "evaluation.trust",
    "preference_model.harmlessness.hash": "preference_model.harmlessness",
}


def manifest_fits(run: Run) -> Found:
    expected = {
        stage.name: sum(len(getattr(run.folder, Path(file).stem)) for file in stage.records)
        for stage in STAGES
        if stage.records
    } | {"reinforce": len(run.folder.trained_on("reinforce"))}
    wrong = [] if run.stages else ["there is no manifest, or no stage in it"]
    wrong += [
        f"{stage} recorded {run.stages[stage]['records']} records and has {count}"
        for stage, count in expected.items()
        if run.done(stage) and run.stages[stage]["records"] != count
    ]
    wrong += facts(run) + order(run)
    settings = run.settings | {f"models.{role}": name for role, name in run.config.models.by_role.items()}
    settings |= flat({"roles": {role: run.config.role(role).deciding() for role in ROLES}})
    for name in SOURCES.values():  # stages record a file by its name and its hash
        settings[name] = source_name(settings.get(name))
    compared = 0
    for stage, entry in run.stages.items():
        for name, value in inputs_of(entry).items():
            if name in settings and name not in CONSTITUTIONS:
                compared += 1
                if settings[name] != value:
                    wrong.append(f"{stage} was done with {name} {value}, config.yaml says {settings[name]}")
    done = sum(run.done(stage) for stage in run.stages)
    return Found(f"{done} stages done, {compared} settings compared", wrong)


def facts(run: Run) -> list[str]:
    """What the manifest says of the whole run otherwise than the configuration."""
    recorded, asked = run.folder.manifest, run.config
    models, engine = recorded.get("models") or {}, recorded.get("engine") or {}
    pairs: list[tuple[str, Any, Any]] = [("seed", recorded.get("seed", asked.seed), asked.seed)]
    pairs += [
        (f"the model that is {role}", models[role].get("name"), name)
        for role, name in (asked.models.by_role | further(asked)).items()
        if role in models
    ]
    pairs += [
        (f"engine.{name}", engine[name], setting)
        for name in ("kind", "device", "dtype")
        if name in engine and (setting := getattr(asked.engine, name)) != "auto"
    ]
    return [
        f"the manifest has {what} {one}, config.yaml {other}" for what, one, other in pairs if one != other
    ]


def order(run: Run) -> list[str]:
    """Stages that were begun before those that they read from were done."""
    begun = [stage.name for stage in STAGES if stage.name in run.stages]
    before = [stage.name for stage in STAGES[: len(begun)]]
    wrong = [
        f"{stage} was begun, and {first} before it was not"
        for stage, first in zip(begun, before, strict=True)
        if stage != first
    ]
    return wrong[:1] + [
        f"{stage} is not done, and what comes after it was begun"
        for stage in begun[:-1]
        if not run.done(stage)
    ]


def files(run: Run) -> Found:
    """What stages left is as it was when they ended, if nobody has changed the manifest as well."""
    wrong, gone, same, silent = [], [], 0, []
    for stage, entry in run.stages.items():
        if not run.done(stage):
            continue
        left = entry.get("files")
        if left is None or (not left and leaves_anything(run, stage)):
            silent.append(stage)
            continue
        for name, value in left.items():
            if not (run.path / name).is_file():
                gone.append(name)
            elif file_hash(run.path / name) != value:
                wrong.append(f"{name} has changed since {stage} ended")
            else:
                same += 1
    # Weights may have been deleted to make room; records that are gone are what other checks miss.
    unknown = [f"{name}, which is not here" for name in gone]
    if silent:
        unknown.append(f"what {', '.join(silent)} left, of which no hashes were kept")
    return Found(f"{same} files are as their stages left them", wrong, unknown)


def leaves_anything(run: Run, name: str) -> bool:
    """Not a preference model that nothing needed."""
    folders = [run.path / stage.folder for stage in (TRUST, *STAGES) if stage.name == name]
    return any(file.is_file() for folder in folders for file in folder.rglob("*"))


def report(run: Run) -> Found:
    """The report as it was sealed, and as it would be written now."""
    path = run.path / "report.html"
    if not path.exists():
        return Found("there is no report")
    try:
        page = unsealed(path.read_text(encoding="utf-8"))
    except ValueError:
        return Found("report.html", ["it was changed after it was written"])
    if page is None:
        return Found("report.html", (), ["whether it was changed: it has no seal"])
    from solon.report import html  # brings Plotly, which takes a second to import

    if page == html.of_run(run.folder):
        return Found("report.html says what the records say")
    why = (
        "it comes out otherwise now: the records, or Solon, have changed since (solon report writes it anew)"
    )
    return Found("report.html has its own seal", (), [why])


def hashes(run: Run) -> Found:
    recorded: dict[str, str] = {}
    wrong = []
    facts = run.folder.manifest
    whole = {"constitution.hash": (facts.get("constitution") or {}).get("hash")} | {
        f"models.{role}.hash": model.get("hash") for role, model in (facts.get("models") or {}).items()
    }
    for inputs in (whole, *map(inputs_of, run.stages.values())):
        for name, value in inputs.items():
            if name.endswith(".hash") and value and recorded.setdefault(name, value) != value:
                wrong.append(f"{name} is recorded as both {recorded[name]:.12} and {value:.12}")
    absent, same = [], 0
    for name, value in recorded.items():
        try:
            now = hash_now(name, run)
        except SolonError:
            now = ""
        if not now:
            absent.append(name.removesuffix(".hash"))
        elif now == value:
            same += 1
        else:
            wrong.append(f"{name} was {value:.12} and is {now:.12}")
    wrong += weights(run)
    gone = [f"{name}, which is not here to be checked" for name in absent]
    return Found(f"{same} of {len(recorded)} hashes are the same", wrong, gone)


def weights(run: Run) -> list[str]:
    """Constitutions that labels went by, and that weigh their principles otherwise now."""
    inputs = inputs_of(run.stages.get("feedback") or {})
    return [
        f"the weights of {setting} were {then or 'all 1'} and are {law.weights or 'all 1'}"
        for setting in SETTING_OF.values()
        if inputs and (law := run.law(setting))
        for then in [weights_of(inputs, setting)]
        if then != law.weights
    ]


def hash_now(name: str, run: Run) -> str:
    """The hash of what a recorded hash was taken of; "" where it is not here."""
    if name in SOURCES:
        source = str(run.settings.get(SOURCES[name]) or "")
        return file_hash(Path(source)) if not source.startswith(HUB) and Path(source).is_file() else ""
    if name.startswith("models."):
        from solon.models import weights_hash  # takes seconds to import

        role = name.split(".")[1]
        return weights_hash(run.folder.manifest["models"][role]["name"])
    setting = name.removesuffix(".hash")
    return constitution.load(run.settings.get(setting) or CONSTITUTIONS[setting]).content_hash
