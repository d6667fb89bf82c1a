"""What the manifest recorded, against settings, records, files and models of now."""

from collections import Counter
from pathlib import Path

from solon import constitution
from solon.audit.run import CONSTITUTIONS, Found, Run
from solon.errors import SolonError
from solon.method import STAGES
from solon.sources.tables import HUB, source_name
from solon.store.files import file_hash

SOURCES = {
    "red_team.red_team.hash": "red_team.red_team.source",
    "red_team.helpful.hash": "red_team.helpful.source",
    "preference_model.helpfulness.hash": "preference_model.helpfulness",
    "preference_model.harmlessness.hash": "preference_model.harmlessness",
}


def manifest_fits(run: Run) -> Found:
    splits = Counter(prompt["split"] for prompt in run.folder.prompts)
    expected = {
        stage.name: sum(len(getattr(run.folder, Path(file).stem)) for file in stage.records)
        for stage in STAGES
        if stage.records
    } | {"reinforce": splits["train"] + len(run.folder.rl_prompts)}
    wrong = [] if run.stages else ["there is no manifest, or no stage in it"]
    wrong += [
        f"{stage} recorded {run.stages[stage]['records']} records and has {count}"
        for stage, count in expected.items()
        if run.done(stage) and run.stages[stage]["records"] != count
    ]
    settings = dict(run.settings)
    for role in ("policy", "feedback"):
        settings[f"models.{role}"] = settings.get(f"models.{role}") or settings.get("models.assistant")
    for name in SOURCES.values():  # stages record a file by its name and its hash
        settings[name] = source_name(settings.get(name))
    compared = 0
    for stage, entry in run.stages.items():
        for name, value in (entry.get("inputs") or {}).items():
            if name in settings and name not in CONSTITUTIONS:
                compared += 1
                if settings[name] != value:
                    wrong.append(f"{stage} was done with {name} {value}, config.yaml says {settings[name]}")
    done = sum(run.done(stage) for stage in run.stages)
    return Found(f"{done} stages done, {compared} settings compared", wrong)


def hashes(run: Run) -> Found:
    recorded: dict[str, str] = {}
    wrong = []
    facts = run.folder.manifest
    whole = {"constitution.hash": (facts.get("constitution") or {}).get("hash")} | {
        f"models.{role}.hash": model.get("hash") for role, model in (facts.get("models") or {}).items()
    }
    for inputs in (whole, *(entry.get("inputs") or {} for entry in run.stages.values())):
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
    gone = [f"{name}, which is not here to be checked" for name in absent]
    return Found(f"{same} of {len(recorded)} hashes are the same", wrong, gone)


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
