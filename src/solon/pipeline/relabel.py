"""A new run from an old one: its votes weighed otherwise, and what came before them taken over."""

import shutil
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from solon import config as configs
from solon import constitution
from solon.config import Config
from solon.constitution import HEAVIEST, Constitution
from solon.errors import SolonError, set_aside_note
from solon.evaluation import constitution_diff, trust
from solon.evaluation.constitution_diff import Diff
from solon.feedback import METHODS, judges
from solon.feedback.made import ByMaking
from solon.method import STAGES, TRUST, stage
from solon.pipeline import reuse
from solon.pipeline.runner import files_left
from solon.pipeline.steps.feedback import IN_FILE, of_panel
from solon.pipeline.steps.inputs import of_weights
from solon.pipeline.weighing import LABELS, UNLABELLED, judged, read, weigh_anew
from solon.records import Agreement, Aspect, TrustRecord, judged_in
from solon.store.files import write_atomically
from solon.store.manifest import Manifest
from solon.store.record_file import write
from solon.store.run_folder import CONSTITUTIONS, RunFolder
from solon.store.run_folder import read as read_run

FEEDBACK = stage("feedback")
AGREEMENT = "trust/agreement.jsonl"
Laws = dict[Aspect, Constitution]


class Change(NamedTuple):
    """What other weights did to the labels of an aspect."""

    weights: dict[str, float]  # of now, those that are not 1
    diff: Diff  # A is as it was and B as it is now; the examples are the flips
    lost: list[str]  # pairs that had a label and have none now, since every vote on them weighs nothing
    regained: list[str]  # pairs that have one again


def relabel(source: Path, target: Path, wanted: Mapping[str, float]) -> dict[Aspect, Change]:
    """Start the run ``target`` as ``source`` with these weights of comparison principles, by their names.

    Principles that are not named keep theirs. The stages before the labels are taken over; the labels are
    made from the votes that are there, and what the labeller is worth from those that measured it. Raises
    SolonError where no principle has voted, for a name that none has, for weights that change nothing or
    leave no label, and where the labeller is not above chance under them.
    """
    run, recorded = read_run(source), configs.load(source / "config.yaml")
    if (run.stages.get(FEEDBACK.name) or {}).get("status") != "done":
        raise SolonError(f"{source} has no labels yet: take it up to its stage '{FEEDBACK.name}' first")
    if target.exists():
        raise SolonError(f"{target} exists already; give another folder with --dir")
    before = voting(source, run, recorded)
    after = weighed(before, wanted)
    if not after:
        raise SolonError(f"the labels of {source} were made with these weights already; give others")
    partial = target.with_name(f"{target.name}.partial")  # so that the folder appears in one step
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    asked = recorded
    try:
        for aspect, law in after.items():
            setting = CONSTITUTIONS[aspect][0]
            file = f"{setting.split('.')[-1]}.yaml"
            write_atomically(partial / file, law.to_yaml())
            asked = with_setting(asked, setting, str(target / file))
        settings = yaml.safe_dump(asked.model_dump(mode="json"), sort_keys=False)
        write_atomically(partial / "config.yaml", settings)
        weigh_anew(source, partial, asked, after)
        changes = {
            aspect: change(source, partial, aspect, before[aspect], law) for aspect, law in after.items()
        }
        manifest = Manifest(partial / "manifest.json")
        known = {name: fact for name, fact in run.manifest.items() if name not in reuse.OF_PROCESS}
        manifest.describe(**known | {"name": target.name})
        if TRUST.name in run.stages:
            take_trust(source, partial, run, manifest, recorded, after)
        for each in STAGES[: STAGES.index(FEEDBACK)]:
            reuse.copy(source / each.folder, partial / each.folder)
            manifest.take(each.name, run.stages[each.name], f"Taken from {source.name}, with its votes.")
        take_labels(source, partial, run, manifest, asked, after)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return changes


def voting(source: Path, run: RunFolder, asked: Config) -> Laws:
    """The constitutions under whose principles there are votes, by aspect.

    Raises SolonError where there is none, and where one is gone or has changed.
    """
    laws: Laws = {}
    for aspect in trust.labelled(asked):
        votes = (vote for record in judged(source, aspect) for vote in record["votes"])
        if all("ratings" in vote for vote in votes):
            continue
        law = run.law(aspect)
        if law is None:
            raise SolonError(
                f"the constitution that labelled {aspect} in {source} is gone or has changed since: restore "
                f"what {CONSTITUTIONS[aspect][0]} names there"
            )
        laws[aspect] = law
    if not laws:
        method = METHODS[asked.feedback.method]
        why = f"nobody voted under a principle, since pairs were labelled {method.manner}"
        if isinstance(method, ByMaking):
            why = f"nobody voted, since pairs were made {method.manner}"
        elif asked.preference_model.human_harm:
            why = "no model voted, since people labelled the pairs"
        raise SolonError(f"{source} has no votes to weigh: {why}")
    return laws


def weighed(laws: Laws, wanted: Mapping[str, float]) -> Laws:
    """Those of the constitutions that weigh otherwise now.

    Raises SolonError for a name that no principle has, and for weights that no constitution may have.
    """
    names = list(dict.fromkeys(each.name for law in laws.values() for each in law.comparison))
    for name, weight in wanted.items():
        if name not in names:
            meant = get_close_matches(name, names, n=1)
            perhaps = f" (did you mean {meant[0]!r}?)" if meant else ""
            raise SolonError(
                f"no comparison principle is called {name!r}{perhaps}; there are {', '.join(names)}"
            )
        if not 0 <= weight <= HEAVIEST:
            raise SolonError(f"the weight of {name!r} is {weight:g}; give 0 or more, up to {HEAVIEST:g}")
    made = {aspect: law.weighed(wanted) for aspect, law in laws.items()}
    for law in made.values():
        if not any(each.weight for each in law.comparison):
            raise SolonError(
                f"every principle of '{law.name}' would weigh nothing; leave one of them its weight"
            )
    return {aspect: law for aspect, law in made.items() if law.weights != laws[aspect].weights}


def with_setting(asked: Config, setting: str, value: str) -> Config:
    settings = asked.model_dump(mode="json")
    *sections, name = setting.split(".")
    section = settings
    for each in sections:
        section = section[each]
    section[name] = value
    return Config.model_validate(settings)


def change(source: Path, target: Path, aspect: Aspect, before: Constitution, after: Constitution) -> Change:
    """Raises SolonError where no pair keeps a label."""
    labels = [
        {record["id"]: record for record in judged(run, aspect) if "chosen" in record}
        for run in (source, target)
    ]
    was, now = labels
    if not now:
        raise SolonError(
            f"no pair would have a label for {aspect}: all were judged under principles of weight 0"
        )
    found = constitution_diff.diff(was.values(), now.values(), (before, after), examples=len(now))
    return Change(
        weights=after.weights,
        diff={**found, "examples": found["examples"][: found["flips"]]},
        lost=[name for name in was if name not in now],
        regained=[name for name in now if name not in was],
    )


def take_labels(
    source: Path, target: Path, run: RunFolder, manifest: Manifest, asked: Config, laws: Laws
) -> None:
    """Stage 5 as done, with what was told of the old labels told of the new ones."""
    entry = run.stages[FEEDBACK.name]
    was, now = notes_on(source, asked), notes_on(target, asked)
    manifest.take(
        FEEDBACK.name,
        {
            **entry,
            "inputs": reweighed_inputs(entry, laws),
            "records": len(read(target, LABELS)),
            "notes": [*(note for note in entry["notes"] if note not in was), *now],
            "files": files_left(FEEDBACK, target),
        },
        f"Made from the votes of {source.name}, which are weighed otherwise here; no model was asked.",
    )


def notes_on(run: Path, asked: Config) -> list[str]:
    labels, aside = read(run, LABELS), read(run, UNLABELLED)
    doubts = trust.asked_for(read(run, AGREEMENT), "labels")
    if asked.feedback.panel:
        return [*doubts, *of_panel(asked.feedback, judges(asked), labels, aside)]
    problems = [pair["problem"] for pair in aside]
    return [*doubts, *set_aside_note(problems, len(labels) + len(aside), "preferences", IN_FILE)]


def take_trust(
    source: Path, target: Path, run: RunFolder, manifest: Manifest, asked: Config, laws: Laws
) -> None:
    """What the labeller was measured to be worth, by its votes as they are weighed now.

    Raises SolonError where it is not above chance.
    """
    entry = run.stages[TRUST.name]
    was = read(source, AGREEMENT)
    found = measured_anew(source, target, was, asked, laws)
    trust.refuse(found, asked.feedback.untrusted)
    write(target / AGREEMENT, found)
    known = told_of_trust(source, was)
    manifest.take(
        TRUST.name,
        {
            **entry,
            "inputs": reweighed_inputs(entry, laws),
            "notes": [*(note for note in entry["notes"] if note not in known), *told_of_trust(target, found)],
            "files": files_left(TRUST, target),
        },
        f"Made from what was said in {source.name}; no model was asked.",
    )


def told_of_trust(run: Path, measured: Sequence[Agreement]) -> list[str]:
    notes = [trust.tells(agreement, f"the {agreement['role']}") for agreement in measured]
    for name in dict.fromkeys(agreement["said_in"] for agreement in measured):
        problems = [record["problem"] for record in read(run, f"trust/{name}.jsonl")]
        notes += set_aside_note(problems, len(problems), name)
    return notes


def measured_anew(
    source: Path, target: Path, was: Sequence[Agreement], asked: Config, laws: Laws
) -> list[Agreement]:
    before = {(each["role"], each["aspect"]): each for each in was}
    law = constitution.load(asked.constitution)
    labelled: Laws = {
        "harmlessness": law,
        "helpfulness": constitution.load(asked.preference_model.helpfulness_constitution),
    }
    judged_by: Laws = {
        "harmlessness": law,
        "helpfulness": constitution.load(asked.evaluation.helpfulness_constitution),
    }
    said: list[tuple[trust.Way, str, list[TrustRecord]]] = []
    found = []
    for role, way in trust.ways(asked, labelled | laws, judged_by):
        if (measured := before.get((role, way.aspect))) is None:
            continue
        if not (same := [known for known in said if known[0] == way]):
            name = judged_in(role, way.aspect)
            records = [
                trust.weighed_anew(record, way)
                for record in read(source, f"trust/{measured['said_in']}.jsonl")
            ]
            write(target / f"trust/{name}.jsonl", records)
            same = [(way, name, records)]
            said += same
        _, name, records = same[0]
        found.append(trust.agreement(role, way, records, name, measured["source"], measured["left_out"]))
    return [agreement for agreement in found if agreement]


def reweighed_inputs(entry: Mapping[str, Any], laws: Laws) -> dict[str, Any]:
    inputs = dict(entry["inputs"])
    for aspect, law in laws.items():
        setting = CONSTITUTIONS[aspect][0]
        inputs.pop(f"{setting}.weights", None)
        inputs |= of_weights(setting, law)
    return inputs
