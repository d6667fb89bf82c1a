"""Marks: what a model, and all that it was made from, learned from, said in its checkpoint.

One rule for every door: a model that learned people's labels of harm may measure and be measured. It trains
and labels nothing, unless a run asks for such labels by name (``preference_model.harmlessness``), and what
comes of that is marked for good.

A mark is in ``solon-mark.json`` beside the weights and in ``config.json``, where ``save_pretrained`` keeps it
through any further training. Its hashes tell a mark that was edited and weights that are not its own. They
are no signatures: of a model whose marks are all gone, or were all written anew, nothing is known.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solon import cards
from solon.config import UNSAFE
from solon.errors import SolonError
from solon.store.files import file_hash, local, write_atomically

FILE = "solon-mark.json"
KEY = "solon_mark"  # of ``config.json``
HUMAN_HARM = "human harmlessness"

Mark = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """What is known of what a model learned from."""

    labels: frozenset[str] = frozenset()  # of comparisons and ratings: who gave them and for what
    unknown: tuple[str, ...] = ()  # what of its origin nobody knows, a phrase each
    faults: tuple[str, ...] = ()  # what is wrong with its mark
    why: str = ""  # how it is known that people's labels of harm are among the labels
    edited: bool = False  # or never finished: its mark does not fit its own hash


def origin(name: str, verified: bool = False) -> Origin:
    """By the model's mark, or else by what its card and configurations say. Nothing but these is read.

    ``name`` is what the roles take; of one that is not there nothing is known. ``verified`` reads the weights
    too, to tell whether they are those that were marked. Adapters are what the model is that they are for.
    """
    names, known = [name], []
    for each in names:
        folder = cards.folder_of(each)
        known.append(of_one(each, folder, verified))
        names += [base for base in cards.adapted(folder) if base not in names] if folder else []
    return together(known)


def of_one(name: str, folder: Path | None, verified: bool) -> Origin:
    found = marks_in(folder) if folder else []
    if not folder or not found:
        return by_card(name)
    known = by_mark(short(name), folder, found, verified)
    # A card may tell of weights that a mark is not for.
    return together([known, by_card(name)]) if known.faults else known


def by_mark(name: str, folder: Path, found: Sequence[Mark], verified: bool) -> Origin:
    """``found`` are the folder's marks, which are one and the same where all is well."""
    labels = {str(label) for mark in found for label in mark.get("labels", ())}
    unknown = {str(what) for mark in found for what in mark.get("unknown", ())}
    faults = []
    edited = any(mark.get("seal") != seal_of(mark) for mark in found)
    if edited:
        faults.append("its mark was edited or never finished")
    elif any(mark != found[0] for mark in found):
        faults.append(f"its marks in {FILE} and config.json are not the same")
    elif len(found) == 1 and (folder / FILE).exists() and (folder / "config.json").exists():
        # A copy may lack the file, config.json it may not.
        faults.append("config.json has lost its mark")
    if verified and {mark.get("weights") for mark in found} != {hash_of_weights(folder)}:
        faults.append("its weights are not those that were marked")
    why = "its mark says so" if HUMAN_HARM in labels else ""
    unknown |= {f"{name} ({fault})" for fault in faults}
    return Origin(frozenset(labels), tuple(sorted(unknown)), tuple(faults), why, edited)


def by_card(name: str) -> Origin:
    """Of a model without a mark."""
    why, known = cards.read(name)
    if why:
        return Origin(frozenset({HUMAN_HARM}), (), (), why)
    return Origin(unknown=(f"{short(name)} ({known})",))


def together(origins: Iterable[Origin]) -> Origin:
    """What a model learned that was made from all of these."""
    origins = list(origins)
    return Origin(
        frozenset().union(*(each.labels for each in origins)),
        tuple(sorted({what for each in origins for what in each.unknown})),
        tuple(fault for each in origins for fault in each.faults),
        next((each.why for each in origins if each.why), ""),
        any(each.edited for each in origins),
    )


def admit(name: str, role: str, asked: bool = False, verified: bool = False) -> Origin:
    """The origin of a model that is to train or label as ``role``.

    Raises SolonError where it learned people's labels of harm, unless they were ``asked`` for by name, and
    where its mark was edited.
    """
    found = origin(name, verified)
    if found.edited:
        raise SolonError(
            f"the mark of model {name!r} was edited or never finished, so what it learned cannot be told: "
            "copy the model anew, or let its training come to its end"
        )
    if HUMAN_HARM in found.labels and not asked:
        raise SolonError(
            f"model {name!r} learned people's labels of harm ({found.why}): it may measure and be measured, "
            f"but not serve as {role}; name another"
        )
    return found


def inherited(
    stage: str,
    records: Iterable[Mapping[str, Any]],
    forebears: Mapping[str, str],
    asked: bool = False,
    labels: Iterable[str] = (),
) -> Mark:
    """The mark of a model that ``stage`` trains on the records from its ``forebears``, models by role.

    ``labels`` are what it learns beside those that the records bear. Raises SolonError where a record or a
    forebear brings people's labels of harm that were not ``asked`` for by name.
    """
    records = list(records)
    learned = labels_of(records)
    if HUMAN_HARM in learned and not asked:
        count = sum(HUMAN_HARM in labels_of([record]) for record in records)
        raise SolonError(
            f"{count} of {len(records)} comparisons are people's labels of harm, which train nothing unless "
            "they are asked for by name: leave them out, or set preference_model.harmlessness to their file"
        )
    found = together(admit(name, role, asked, verified=True) for role, name in forebears.items())
    return {
        "stage": stage,
        "labels": sorted(found.labels | learned | set(labels)),
        "unknown": list(found.unknown),
        "forebears": {
            role: {"name": short(name), "weights": weights_of(name)} for role, name in forebears.items()
        },
        "data": hash_of_records(records),
    }


def put(model: Any, mark: Mark) -> Any:
    """The model, which now bears the mark wherever it is saved."""
    setattr(model.config, KEY, mark)
    return model


def seal(folder: Path, mark: Mark | None) -> None:
    """Complete the mark of a model that was saved there by its hashes, and put it beside the weights too.

    Adapters have no ``config.json``, and the mark in one place only.
    """
    if mark is None:
        return
    mark = {name: value for name, value in mark.items() if name not in ("weights", "seal")}
    mark["weights"] = hash_of_weights(folder)
    mark["seal"] = seal_of(mark)
    path = folder / "config.json"
    if path.exists():
        config = json.loads(path.read_bytes()) | {KEY: mark}
        write_atomically(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_atomically(folder / FILE, json.dumps(mark, indent=2) + "\n")


def marks_in(folder: Path) -> list[Mark]:
    """The marks that a folder has; one where all is well but the file beside the weights was not copied."""
    config = cards.json_of(folder / "config.json")
    found = [mark for mark in (cards.json_of(folder / FILE), config.get(KEY)) if mark]
    return [mark if is_mark(mark) else {} for mark in found]


def is_mark(said: Any) -> bool:
    lists = [said.get(name) for name in ("labels", "unknown")] if isinstance(said, dict) else [None]
    return all(isinstance(each, list) for each in lists)


def of_folder(folder: Path) -> Mark:
    """The mark of a checkpoint that Solon has just made."""
    return cards.json_of(folder / FILE)


def told(name: str) -> dict[str, Any]:
    """What a model is known to have learned from, and what is not known, as a manifest says it."""
    found = origin(name)
    return {"learned_from": sorted(found.labels), "unknown": list(found.unknown)}


def labels_of(records: Iterable[Mapping[str, Any]]) -> set[str]:
    """Who labelled records for what, as marks name it; empty for records that nobody labels."""
    return {f"{record['label_source']} {record['aspect']}" for record in records if "label_source" in record}


def short(name: str) -> str:
    """A folder or file by its own name: where it is on a machine is nobody's business."""
    there = local(name.removeprefix(UNSAFE))
    return there.name if there else name


def seal_of(mark: Mark) -> str:
    """SHA-256 over all else that the mark says."""
    said = {name: value for name, value in mark.items() if name != "seal"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def weights_of(name: str) -> str:
    """SHA-256 over the weights of a model that is here as a folder or a file, "" of others."""
    there = local(name.removeprefix(UNSAFE))
    if there is None:
        return ""
    return hash_of_weights(there) if there.is_dir() else file_hash(there)


def hash_of_weights(folder: Path) -> str:
    """SHA-256 over the weight files in the folder."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return hashlib.sha256("".join(file_hash(file) for file in files).encode()).hexdigest()


def hash_of_records(records: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over the records in any order."""
    lines = sorted(json.dumps(record, sort_keys=True) for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
