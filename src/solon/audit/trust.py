"""What judge and labeller of a run are worth, worked out again from what they said of people's pairs."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from solon import constitution
from solon.audit.run import Found, Run
from solon.config import Config
from solon.errors import SolonError
from solon.evaluation import trust
from solon.evaluation.trust import Way
from solon.held_out import opening
from solon.records import Agreement, Aspect, Role, TrustRecord
from solon.stages.red_team import is_generated
from solon.store.record_file import RecordFile
from solon.store.run_folder import RunFolder

Said = Mapping[str, list[TrustRecord]]  # by file
Ways = Mapping[tuple[Role, Aspect], Way]


def trusted(audited: Run) -> Found:
    """Labels are of a labeller above chance, or asked for by name."""
    path, run = audited.path, audited.folder
    asked = Config.model_validate(run.settings)
    wanted = asked.feedback.untrusted == asked.models.by_role["feedback"]
    told = [
        f"{agreement['model']}, the {agreement['role']}, {trust.says(agreement)} of {agreement['source']}"
        for agreement in run.trust
    ]
    told = told or ["nobody measured how far judge and labeller agree with people"]
    if wanted:
        told.append(f"feedback.untrusted asks for the labels of {asked.feedback.untrusted} by name")
    wrong, unknown = [*_refused(run, wanted)], []
    if asked.evaluation.trust and run.preferences and not run.trust:
        wrong.append("labels were made, but what evaluation.trust asks for was not measured")
    files = dict.fromkeys(agreement["said_in"] for agreement in run.trust)
    said = {name: RecordFile(path / "trust" / f"{name}.jsonl").read() for name in files}
    wrong += _trained_on(run, said)
    if said and Path(str(asked.evaluation.trust)).is_file():
        wrong += _misquoted(str(asked.evaluation.trust), said)
    elif said:
        unknown.append("whether people said so: the file of evaluation.trust is not here")
    try:
        ways = _ways(asked)
    except SolonError:
        unknown += ["what judge and labeller agree on: a constitution is no longer here"] * bool(said)
    else:
        wrong += [fault for agreement in run.trust for fault in _miscounted(agreement, ways, said)]
    return Found("; ".join(told), wrong, unknown)


def _refused(run: RunFolder, wanted: bool) -> Iterator[str]:
    if wanted:
        return
    for what, agreement in trust.unfit_in_use(run.trust, run.preferences, run.samples):
        yield (
            f"{what} of {agreement['aspect']} are by {agreement['model']}, which is not clearly above "
            "chance, and no setting asks for them by name"
        )


def _trained_on(run: RunFolder, said: Said) -> Iterator[str]:
    """Prompts that the assistant wrote cannot be known when judges are measured, before the first stage."""
    trained = {
        opening(record["prompt"])
        for record in (*run.prompts, *run.preferences)
        if record["split"] == "train" and not is_generated(record["id"])
    }
    for name, records in said.items():
        for record in records:
            if opening(record["prompt"]) in trained:
                yield f"{record['id']} of {name} opens like a dialogue that is trained on"


def _misquoted(source: str, said: Said) -> Iterator[str]:
    pairs = {pair["id"]: pair for pair in trust.people(source)}
    for name, records in said.items():
        for record in records:
            if record != {**record, **pairs.get(record["id"], {"id": ""})}:
                yield f"{record['id']} of {name} is not what people say in the file"


def _miscounted(agreement: Agreement, ways: Ways, said: Said) -> Iterator[str]:
    way, records = ways.get((agreement["role"], agreement["aspect"])), said[agreement["said_in"]]
    if way is None:
        yield f"{agreement['id']} is of a role that nobody has"
        return
    for record in records:
        if record != trust.weighed_anew(record, way):
            yield f"{record['id']} of {agreement['said_in']} has votes of other weights than their principles"
        made = way.method.probability(record["votes"], way.settings) if record["votes"] else trust.CHANCE
        if not math.isclose(record["probability"], made, abs_tol=1e-6):
            yield f"{record['id']} of {agreement['said_in']} is not what its votes make"
    kept = (agreement["said_in"], agreement["source"], agreement["left_out"])
    again = trust.agreement(agreement["role"], way, records, *kept)
    if again is None or any(not _alike(agreement[name], again[name]) for name in again):  # type: ignore[literal-required]
        yield f"{agreement['id']} is not what {agreement['said_in']} makes"


def _alike(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, abs_tol=1e-9)
    return one == other


def _ways(asked: Config) -> Ways:
    """Raises SolonError where a constitution is gone."""
    law = constitution.load(asked.constitution)
    helpful = constitution.load(asked.preference_model.helpfulness_constitution)
    evaluated = constitution.load(asked.evaluation.helpfulness_constitution)
    ways = trust.ways(
        asked,
        {"harmlessness": law, "helpfulness": helpful},
        {"harmlessness": law, "helpfulness": evaluated},
    )
    return {(role, way.aspect): way for role, way in ways}
