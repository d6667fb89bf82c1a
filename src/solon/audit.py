"""Where every training label of a run came from, proved from the run's own records."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon import audit_trust, constitution
from solon.config import UNSAFE, Feedback
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.feedback import METHODS, MODELS_OWN, labelling
from solon.feedback.made import ByMaking
from solon.feedback.method import Method
from solon.held_out import opening
from solon.measuring_only import is_measuring_only
from solon.method import STAGES
from solon.records import Message
from solon.sources import data
from solon.sources.tables import HUB, label, source_name
from solon.stages.examples import sound_revisions
from solon.store.files import file_hash
from solon.store.manifest import flat
from solon.store.run_folder import Json, RunFolder, read

SHOWN = 3  # faults named of each check; all are counted

# Settings whose value names a constitution: stages record its own name and its hash instead.
CONSTITUTIONS = {
    "constitution": "harmless",
    "preference_model.helpfulness_constitution": "helpful",
    "evaluation.helpfulness_constitution": "helpful",
}
# The constitution whose principles label an aspect.
SETTING_OF = {"harmlessness": "constitution", "helpfulness": "preference_model.helpfulness_constitution"}
SOURCES = {
    "red_team.red_team.hash": "red_team.red_team.source",
    "red_team.helpful.hash": "red_team.helpful.source",
    "preference_model.helpfulness.hash": "preference_model.helpfulness",
    "evaluation.trust.hash": "evaluation.trust",
}


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    says: str  # what was counted, and what is wrong


@dataclass(frozen=True)
class Run:
    """A run's records, by id where a check looks them up."""

    path: Path
    folder: RunFolder
    settings: Json  # by dotted names

    @property
    def stages(self) -> Json:
        return self.folder.stages

    def done(self, stage: str) -> bool:
        return bool((self.stages.get(stage) or {}).get("status") == "done")


# What a check has counted, and what it found wrong.
Found = tuple[str, list[str]]


def audit(path: Path) -> tuple[list[Json], list[Check]]:
    """The labels by who gave them, and the checks. Raises SolonError where ``path`` is no run folder."""
    folder = read(path, kinds={})  # what does not fit is for the checks to tell
    run = Run(path, folder, flat(folder.settings))
    checks: dict[str, Callable[[Run], Found]] = {
        "no harmlessness label is human": no_human_harm,
        "no model learned people's ratings of harm": no_harm_scorer,
        "AI labels are votes of the feedback model under the constitution": ai_labels,
        "labels by a pair's making are those of pairs made so": made_labels,
        "labels are of a labeller above chance, or asked for by name": trusted,
        "human labels are helpfulness comparisons of the file": human_labels,
        "supervised examples are sound revisions or helpful answers": supervised_examples,
        "revisions, answers and pairs are of training prompts": prompts_of_stages,
        "the answers compared are those of the pairs": compared_answers,
        "held-out prompts were not trained on": held_out_prompts,
        "held-out comparisons were not trained on": held_out_comparisons,
        "the manifest fits settings and records": manifest_fits,
        "files and models are those recorded": hashes,
    }
    return labels(run), [checked(name, check, run) for name, check in checks.items()]


def checked(name: str, check: Callable[[Run], Found], run: Run) -> Check:
    try:
        counted, wrong = check(run)
    except (SolonError, LookupError, TypeError, ValueError, AttributeError) as error:
        return Check(name, False, f"something cannot be read ({type(error).__name__}: {error})")
    if not wrong:
        return Check(name, True, counted)
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Check(name, False, f"{counted}; {len(wrong)} wrong: {'; '.join(wrong[:SHOWN])}{more}")


def labels(run: Run) -> list[Json]:
    """Labels by aspect, source and labeller: how many, and how many votes under each principle."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for record in run.folder.preferences:
        key = tuple(str(record.get(name)) for name in ("aspect", "label_source", "labeller"))
        groups.setdefault(key, []).append(record)  # type: ignore[arg-type]
    return [
        {
            "aspect": aspect,
            "label_source": source,
            "labeller": labeller,
            "labels": len(records),
            "trained_on": sum(record.get("split") == "train" for record in records),
            "votes": dict(
                Counter(
                    str(vote.get("principle")) for record in records for vote in record.get("votes") or []
                ).most_common()
            ),
        }
        for (aspect, source, labeller), records in groups.items()
    ]


def no_human_harm(run: Run) -> Found:
    harm = [record for record in run.folder.preferences if record["aspect"] != "helpfulness"]
    wrong = [
        f"{record['id']} is by {record['label_source']} ({record['labeller']})"
        for record in harm
        if record["label_source"] not in MODELS_OWN
    ]
    return f"{len(harm) - len(wrong)} of {len(harm)} harmlessness labels are AI feedback", wrong


def no_harm_scorer(run: Run) -> Found:
    """A harm scorer, and what is trained from one, bear a mark; see ``measuring_only``."""
    named = {str(model.get("name")) for model in (run.folder.manifest.get("models") or {}).values()}
    trained = {str(folder.parent) for folder in run.path.glob("0*/**/config.json")}
    folders = {name: Path(name.removeprefix(UNSAFE)) for name in sorted(named | trained)}
    wrong = [f"{name} did" for name, folder in folders.items() if is_measuring_only(folder)]
    here = sum((folder / "config.json").exists() for folder in folders.values())
    return f"{here} models that the run uses or made bear no mark of a harm scorer", wrong


def ai_labels(run: Run) -> Found:
    judged, method = not_by_people(run), method_of(run)
    if isinstance(method, ByMaking):
        return "0 labels by votes", []
    votes = sum(len(record["votes"]) for record in judged)
    seen, wrong = faults(run, judged)
    return f"{len(judged)} labels with {votes} votes by {feedback_model(run)}{seen}", wrong


def made_labels(run: Run) -> Found:
    made = not_by_people(run)
    if not isinstance(method_of(run), ByMaking):
        return "0 labels by the pairs' making", []
    seen, wrong = faults(run, made)
    return f"{len(made)} labels by the pairs' making{seen}", wrong


def faults(run: Run, labels: Sequence[Any]) -> Found:
    """Whether all was there that proves the labels, and what is wrong with them by the run's method."""
    pairs, wrong = by_id(run.folder.pairs), []
    laws = {aspect: law(run, setting) for aspect, setting in SETTING_OF.items()}
    for record in labels:
        source, rules = record["label_source"], laws[record["aspect"]]
        method, settings = method_of(run), feedback_settings(run)
        if rules:
            method, settings = labelling(settings, rules, record["aspect"])
        other_source = f"has the source {source}, and feedback.method is {method.name}"
        holds = {other_source: source != method.label_source}
        holds |= method.faults(record, pairs.get(record["id"]), rules, settings, feedback_model(run))
        wrong += [f"{record['id']} {fault}" for fault, is_so in holds.items() if is_so]
    unseen = None in laws.values() and bool(labels)
    return "; a constitution is no longer here, so principles are unchecked" if unseen else "", wrong


def trusted(run: Run) -> Found:
    told, wrong, unknown = audit_trust.check(run.path, run.folder)
    return "; ".join([told, *unknown]), wrong


def not_by_people(run: Run) -> list[Any]:
    return [record for record in run.folder.preferences if record["label_source"] != "human"]


def feedback_settings(run: Run) -> Feedback:
    return Feedback.model_validate(run.folder.settings.get("feedback") or {})


def method_of(run: Run) -> Method:
    return METHODS[feedback_settings(run).method]


def feedback_model(run: Run) -> str | None:
    name: str | None = (run.folder.manifest.get("models", {}).get("feedback") or {}).get("name")
    return name


def human_labels(run: Run) -> Found:
    human = [record for record in run.folder.preferences if record["label_source"] not in MODELS_OWN]
    if not human:
        return "0 human labels", []
    source = str(run.settings.get("preference_model.helpfulness") or "")
    held_out = run.settings.get("preference_model.held_out", 0.1)
    given: dict[str, Any] | None = None
    if Path(source).is_file():
        given = by_id(data.comparisons(source, held_out))
    wrong = []
    for record in human:
        faults = {
            f"is a label of {record['aspect']}": record["aspect"] != "helpfulness",
            f"is of {record['labeller']}, not {label(source)}": record["labeller"] != label(source),
            "is a human label with an AI's votes": bool(record["votes"]),
            # The file's split may be overruled by the prompts held out from everything, checked elsewhere.
            "is not in the file": given is not None
            and {**given.get(record["id"], {}), "split": record["split"]} != record,
        }
        wrong += [f"{record['id']} {fault}" for fault, is_so in faults.items() if is_so]
    where = "all looked up there" if given is not None else "which is not here to look them up"
    return f"{len(human)} human labels from {label(source)}, {where}", wrong


def supervised_examples(run: Run) -> Found:
    sound: dict[str, tuple[Sequence[Message], str]] = {
        f"{record['id']}/{number}": (record["prompt"], text)
        for record in run.folder.revisions
        for number, text in sound_revisions(record)
    }
    revised = len(sound)
    sound |= {
        record["id"]: (record["prompt"], record["messages"][-1]["content"])
        for record in run.folder.helpful
        if not record["problem"]
    }
    wrong = repeated(run.folder.examples)
    for example in run.folder.examples:
        said = (example["prompt"], example["completion"][0]["content"])
        if example["id"] not in sound:
            wrong.append(f"{example['id']} is no sound revision or helpful answer of 02-critique")
        elif sound[example["id"]] != said or len(example["completion"]) != 1:
            wrong.append(f"{example['id']} has another text than in 02-critique")
    return (
        f"{len(run.folder.examples)} examples; 02-critique has {revised} + {len(sound) - revised} sound",
        wrong,
    )


def prompts_of_stages(run: Run) -> Found:
    prompts = by_id(run.folder.prompts)
    wrong, counts = [], []
    for what, records, of_set in (
        ("revisions", run.folder.revisions, "red-team"),
        ("helpful answers", run.folder.helpful, "helpful"),
        ("pairs", run.folder.pairs, None),
    ):
        counts.append(f"{len(records)} {what}")
        wrong += repeated(records)
        for record in records:
            prompt = prompts.get(record["id"])
            if prompt is None or prompt["prompt"] != record["prompt"]:
                wrong.append(f"{record['id']} of the {what} is no prompt of 01-red-team")
            elif prompt["split"] != "train" or prompt["set"] != (of_set or record.get("set")):
                wrong.append(f"{record['id']} of the {what} is a {prompt['split']} {prompt['set']} prompt")
    return ", ".join(counts), wrong


def compared_answers(run: Run) -> Found:
    pairs = by_id(run.folder.pairs)
    labelled = [record for record in run.folder.preferences if record["label_source"] in MODELS_OWN]
    wrong = repeated(run.folder.preferences)
    for record in labelled:
        pair = pairs.get(record["id"])
        answers = sorted(record[side][-1]["content"] for side in ("chosen", "rejected"))
        if pair is None or pair["problem"]:
            wrong.append(f"{record['id']} is no sound pair of 04-comparison")
        elif answers != sorted(pair["responses"]) or record["prompt"] != pair["prompt"]:
            wrong.append(f"{record['id']} has another text than in 04-comparison")
        elif record["split"] != pair["split"]:
            wrong.append(f"{record['id']} is in the {record['split']} split, its pair is not")
    sound = {pair["id"] for pair in run.folder.pairs if not pair["problem"]}
    if run.done("feedback"):
        wrong += [f"{name} has no label" for name in sorted(sound - {record["id"] for record in labelled})]
    return f"{len(labelled)} AI labels of {len(sound)} sound pairs", wrong


def held_out_prompts(run: Run) -> Found:
    kept = {opening(prompt["prompt"]) for prompt in run.folder.prompts if prompt["split"] != "train"}
    trained: dict[str, Iterable[Any]] = {
        "supervised examples": run.folder.examples,
        "revisions": run.folder.revisions,
        "helpful answers": run.folder.helpful,
        "pairs": run.folder.pairs,
        "labels trained on": (record for record in run.folder.preferences if record["split"] == "train"),
        "RL prompts": (prompt for prompt in run.folder.prompts if prompt["split"] == "train"),
    }
    wrong = [
        f"{record['id']} of the {what} has a held-out prompt"
        for what, records in trained.items()
        for record in records
        if opening(record["prompt"]) in kept
    ]
    wrong += [
        f"{record['id']} is evaluated on, but its prompt is not held out"
        for record in run.folder.answers
        if opening(record["prompt"]) not in kept
    ]
    return f"{len(kept)} prompts held out, {len(run.folder.answers)} evaluated on", wrong


def held_out_comparisons(run: Run) -> Found:
    sides: dict[tuple[str, str], set[str]] = {}
    for record in run.folder.preferences:
        sides.setdefault((record["aspect"], opening(record["prompt"])), set()).add(record["split"])
    wrong = [f"{prompt!r:.60} is in both splits" for (_, prompt), splits in sides.items() if len(splits) > 1]
    splits = Counter(record["split"] for record in run.folder.preferences)
    wrong += [f"there is a split {split!r}" for split in splits if split not in {"train", "held-out"}]
    trained = (run.stages.get("preference-model") or {}).get("records")
    if run.done("preference-model") and trained != splits["train"]:
        wrong.append(f"the preference model was trained on {trained} comparisons, not {splits['train']}")
    return f"{splits['held-out']} comparisons held out, {splits['train']} to train on", wrong


def manifest_fits(run: Run) -> Found:
    splits = Counter(prompt["split"] for prompt in run.folder.prompts)
    expected = {
        stage.name: sum(len(getattr(run.folder, Path(file).stem)) for file in stage.records)
        for stage in STAGES
        if stage.records
    } | {"reinforce": splits["train"]}
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
    return f"{done} stages done, {compared} settings compared", wrong


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
    unseen = f"; not here to be checked: {', '.join(absent)}" if absent else ""
    return f"{same} of {len(recorded)} hashes are the same{unseen}", wrong


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


def law(run: Run, setting: str) -> Constitution | None:
    """The constitution that the setting names; None where it is not here."""
    try:
        return constitution.load(run.settings.get(setting) or CONSTITUTIONS[setting])
    except SolonError:
        return None


def by_id(records: Iterable[Any]) -> dict[str, Any]:
    return {record["id"]: record for record in records}


def repeated(records: Iterable[Mapping[str, Any]]) -> list[str]:
    counts = Counter(record["id"] for record in records)
    return [f"{name} is there {count} times" for name, count in counts.items() if count > 1]


def as_json(found: Sequence[Json], checks: Sequence[Check]) -> str:
    return json.dumps(
        {
            "ok": all(check.ok for check in checks),
            "labels": list(found),
            "checks": [{"name": check.name, "ok": check.ok, "says": check.says} for check in checks],
        },
        indent=2,
    )
