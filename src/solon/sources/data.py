"""Where prompts and human helpfulness comparisons come from: packaged files, own files, ``datasets``."""

import json
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import zip_longest

from pydantic import TypeAdapter, ValidationError

from solon.config import Prompts, PromptSettings
from solon.constitution import Constitution
from solon.errors import SolonError
from solon.held_out import apart, folded, opening, split_of, split_of_comparison
from solon.misfits import misfits
from solon.records import Aspect, Message, PreferenceRecord, PromptRecord, PromptSet, Split
from solon.seeds import generator, stable_id
from solon.sources import harm_labels
from solon.sources.harm_labels import Finding, Look
from solon.sources.row_dialogues import comparison_of, kind_of, probability_of, prompt_of
from solon.sources.tables import Row, label, rows, tell, usable

PROMPT: TypeAdapter[PromptRecord] = TypeAdapter(PromptRecord)


def prompts(source: str, prompt_set: PromptSet) -> list[PromptRecord]:
    """The prompts of a source: "packaged", a file, or "datasets:NAME" (see ``tables.rows``).

    Prompts that differ in case and white space alone count once. Whether a prompt is held out depends on its
    opening turn only (see ``held_out``), so it is on the same side in every source. Of Solon's own prompts
    (``01-red-team``), those of the set are taken as they are, with their ids and on their side.
    Raises SolonError naming file, line and field; of a data set, what is no use is left out (``usable``).
    """
    packaged = source == "packaged"
    records: dict[str, PromptRecord] = {}
    table = packaged_rows(prompt_set) if packaged else rows(source)
    for row, found in usable(source, table, lambda row: own_record(row) or prompt_of(row)):
        if isinstance(found, dict):
            if found["set"] == prompt_set:
                records[folded(found["prompt"])] = found
            continue
        dialogue = found
        key = folded(dialogue)
        if key not in records:
            records[key] = {
                "id": stable_id("prompt", prompt_set, canonical(dialogue)),
                "prompt": dialogue,
                "set": prompt_set,
                "kind": kind_of(row),
                "split": split_of(dialogue),
                "source": source if packaged else label(source),
            }
    return list(records.values())


def own_record(row: Row) -> PromptRecord | None:
    """The row where it is one of Solon's own prompts, None where it is not."""
    if row.values.keys() != PromptRecord.__annotations__.keys():
        return None
    try:
        return PROMPT.validate_python(row.values, strict=True)
    except ValidationError as error:
        raise SolonError(f"{row.place}: {next(misfits(error))}") from None


def tells_sets(source: str) -> bool:
    """Whether the source has prompts of both sets and tells them apart: packaged ones, or Solon's own."""
    return source == "packaged" or own_record(next(iter(rows(source)))) is not None


def select(records: Sequence[PromptRecord], split: Split, count: int | None, seed: int) -> list[PromptRecord]:
    """``count`` prompts of the split (None: all), drawn by ``seed``, with all kinds as equal as they can be.

    The draw does not depend on the order of ``records``, and a smaller one is the beginning of a larger one.
    Raises SolonError where there are fewer than ``count``.
    """
    kinds: dict[str, list[PromptRecord]] = {}
    for record in sorted(records, key=lambda record: record["id"]):
        if record["split"] == split:
            kinds.setdefault(record["kind"], []).append(record)
    order = sorted(kinds)
    generator(seed, "select", split).shuffle(order)
    for kind in order:
        generator(seed, "select", split, kind).shuffle(kinds[kind])
    turns = zip_longest(*(kinds[kind] for kind in order))
    drawn = [record for turn in turns for record in turn if record is not None]
    if count is not None and count > len(drawn):
        raise SolonError(
            f"{count} {split} prompts were asked for and there are {len(drawn)}; ask for fewer or add prompts"
        )
    return drawn[:count]


def held_out(source: str, prompt_set: PromptSet, count: int | None, seed: int) -> list[PromptRecord]:
    """``count`` held-out prompts of a source, to measure models on. Raises SolonError where there is none."""
    found = prompts(source, prompt_set)
    if chosen := select(found, "held-out", count, seed):
        return chosen
    raise SolonError(
        f"none of the {len(found)} {prompt_set} prompts of {source} is held out (a fifth of all are, by how "
        "they open), so there is none to measure on; add prompts"
    )


def given(
    asked: Prompts, laws: Iterable[Constitution], seed: Callable[[str, str, str], int]
) -> list[PromptRecord]:
    """The prompts that the configuration names, those to train on and those held out ``held_out.apart``.

    Prompts in the worked examples of ``laws`` are not held out; ``seed`` is that of a draw by its name.
    Raises SolonError for a source that gives none to train on, though some are asked for.
    """
    sources: dict[PromptSet, PromptSettings] = {"red-team": asked.red_team, "helpful": asked.helpful}
    shown = {opening(dialogue) for law in laws for dialogue in law.examples.dialogues}
    found = [record for name, source in sources.items() for record in prompts(source.source, name)]
    usable, chosen = apart(found, shown), []
    for prompt_set, source in sources.items():
        of_set = [record for record in usable if record["set"] == prompt_set]
        if source.train != 0 and not any(record["split"] == "train" for record in of_set):
            raise SolonError(none_to_train_on(source.source, prompt_set, found))
        counts: list[tuple[Split, int | None]] = [("train", source.train), ("held-out", source.held_out)]
        for split, count in counts:
            chosen += select(of_set, split, count, seed("prompts", prompt_set, split))
    return chosen


def none_to_train_on(source: str, prompt_set: PromptSet, found: Sequence[PromptRecord]) -> str:
    """Why a source gives no prompts to train on, of all that were ``found``, and what to do."""
    count = sum(record["set"] == prompt_set for record in found)
    if not count:
        return f"{source} has no {prompt_set} prompts; name another source"
    return (
        f"all {count} {prompt_set} prompts of {source} are held out for evaluations (a fifth of all are, by "
        "how they open), so none is left to train on; add prompts"
    )


def comparisons(
    source: str, held_out: float, aspect: Aspect = "helpfulness", vouched_for: str | None = None
) -> list[PreferenceRecord]:
    """People's comparisons from a file or "datasets:NAME".

    Raises SolonError naming file, line and field, and for labels of harm that are given for helpfulness: see
    ``harm_labels``, also for ``vouched_for``.
    """
    return vouched(source, held_out, aspect, vouched_for)[0]


def vouched(
    source: str, held_out: float, aspect: Aspect, vouched_for: str | None
) -> tuple[list[PreferenceRecord], Finding]:
    """The same, and what was seen of the rows."""
    if aspect == "helpfulness":
        harm_labels.refuse_name(source)
    records, finding = looked_at(source, held_out, aspect)
    if aspect == "helpfulness":
        harm_labels.refuse(finding, vouched_for)
    return records, finding


def looked_at(
    source: str, held_out: float, aspect: Aspect = "helpfulness"
) -> tuple[list[PreferenceRecord], Finding]:
    """Comparisons that people labelled, whatever they are, and whether their rows are labels of harm.

    A row's ``probability`` that chosen is better is 1 unless given. Rows with a blank answer or two equal
    ones say nothing and are left out. For ``held_out`` see ``split_of_comparison``. Raises SolonError naming
    file, line and field.
    """
    records: dict[str, PreferenceRecord] = {}
    look = Look(source)
    undecided = 0
    read = usable(source, rows(source), lambda row: (*comparison_of(row), probability_of(row)))
    for row, (prompt, better, worse, share) in read:
        look.at_names(row.values, row.place)
        if not better or not worse or better == worse:
            undecided += 1
            continue
        chosen, rejected, probability = (better, worse, share) if share >= 0.5 else (worse, better, 1 - share)
        look.at_texts(prompt, chosen, rejected, row.place)
        name = stable_id(
            "comparison",
            *(() if aspect == "helpfulness" else (aspect,)),  # one file may be named for both
            canonical(prompt),
            canonical(chosen),
            canonical(rejected),
        )
        records[name] = {
            "id": name,
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "probability": probability,
            "aspect": aspect,
            "kind": kind_of(row),
            "split": split_of_comparison(prompt, held_out),
            "label_source": "human",
            "labeller": label(source),
            "votes": [],
        }
    if records and undecided:
        tell(f"{undecided} rows of {source} have a blank answer, or two equal ones, and are left out.")
    if not records:
        raise SolonError(f"{source}: no row has two different answers; name a source of comparisons")
    return list(records.values()), look.finding([*harm_labels.by_name(source)])


def packaged_rows(prompt_set: PromptSet) -> list[Row]:
    file = resources.files("solon") / "prompts" / "packaged" / f"{prompt_set}.jsonl"
    with resources.as_file(file) as path:
        return list(rows(str(path)))


def canonical(messages: Sequence[Message]) -> str:
    return json.dumps(messages, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
