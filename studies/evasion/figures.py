"""``results/table.json`` and ``table.md`` of what the yardsticks say, with 95 % intervals over prompts.

Several seeds of one way are rated together: a prompt's value is the mean over seeds, and prompts are drawn
again, not answers, since a model's answers to one prompt are much alike.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import yardsticks

from solon.evaluation.calibration import wilson
from solon.store.files import write_atomically
from solon.store.record_file import RecordFile
from solon.texts.degenerate import BARE
from solon.texts.refusal import can_tell, classify, is_evasive, is_refusal
from solon.texts.words import count, words

RESAMPLES = 4000
NOTHING = "–"  # in a cell
FIRST = ("initial", "prompted", "sl-cai")  # each is what the ways after it are compared with

Values = Mapping[str, float]  # by prompt
Interval = list[float]  # the value, and the ends of its interval


@dataclass(frozen=True)
class Measure:
    key: str
    title: str
    digits: int = 2
    scaled: bool = False  # its change in standard deviations of the initial model's values too
    elo: bool = False  # of shares of comparisons that are won


MEASURES = (
    Measure("evades", "evades red-team prompts"),
    Measure("refuses", "refuses them, objections with it"),
    Measure("curt", f"refuses them, or objects, in at most {BARE} words"),
    Measure("people", "score by people's pairs, red-team prompts", scaled=True),
    Measure("people-engaged", "the same, where the initial model does not evade", scaled=True),
    Measure("rating", "harm rated from 0 to 4 by the 0.5B model", scaled=True),
    Measure("people-unsafe", "score by people's pairs, XSTest's unsafe prompts", scaled=True),
    Measure("rating-unsafe", "harm rated from 0 to 4, XSTest's unsafe prompts", scaled=True),
    Measure("rating-both", "harm rated from 0 to 4, red-team and unsafe prompts", scaled=True),
    Measure("complies", "complies with XSTest's unsafe prompts", scaled=True),
    Measure("over-refusal", "refuses XSTest's safe prompts"),
    Measure("helpful", "helpfulness, Elo by the 1.5B model", 0, elo=True),
    Measure("instructions", "follows all of IFEval's instructions"),
    Measure("words", "words an answer to red-team prompts", 0),
    Measure("words-helpful", "words an answer to PandaLM's instructions", 0),
    Measure("letters", "letters a word of answers to red-team prompts"),
    Measure("letters-helpful", "letters a word of answers to PandaLM's instructions"),
)


def write(work: Path, results: Path) -> None:
    found = of_work(work)
    results.mkdir(parents=True, exist_ok=True)
    write_atomically(results / "table.json", json.dumps(found, indent=1) + "\n")
    write_atomically(results / "table.md", markdown(found))


def of_work(work: Path) -> dict[str, Any]:
    by_model = {name: values(work, name, answers) for name, answers in yardsticks.answered(work)}
    seeds: dict[str, list[str]] = defaultdict(list)
    for name in by_model:
        seeds[name.partition(" ")[0]].append(name)
    initial = [by_model[name] for name in seeds.get("initial", ())]
    before = together(initial, "evades")
    for mine in by_model.values():  # people's pairs prefer evasions to whatever comes in their place
        mine["people-engaged"] = {id: score for id, score in mine["people"].items() if before.get(id) == 0}
    ways = {way: seeds[way] for way in dict.fromkeys([*FIRST, *seeds]) if way in seeds}
    models = {way: [by_model[name] for name in names] for way, names in ways.items()}
    people = json.loads((work / "people.json").read_text())
    text_file = work / "text.json"
    return {
        "people's pairs": people | {"interval": list(wilson(people["right"], people["pairs"]))},
        "ways": {way: of_way(mine) for way, mine in models.items()},
        "seeds": {name: of_way([mine]) for name, mine in by_model.items()},
        "changes": {
            base: {
                way: changes(mine, models[base], initial)
                for way, mine in models.items()
                if way not in FIRST[: number + 1]
            }
            for number, base in enumerate(FIRST)
            if base in models
        },
        "changes by seed": {
            name: changes([mine], initial, initial)
            for name, mine in by_model.items()
            if name not in seeds["initial"]
        },
        "instructions": {way: by_kind(work, names) for way, names in ways.items()},
        "text": json.loads(text_file.read_text()) if text_file.exists() else {},
    }


def by_kind(work: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """How many of IFEval's instructions of each kind the models follow, and of how many."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name in names:
        for record in RecordFile(work / "instructions" / f"{name}.jsonl"):
            for kind, follows in record["followed"].items():
                found[kind] = [found[kind][0] + follows, found[kind][1] + 1]
    return dict(sorted(found.items()))


def values(work: Path, name: str, answers: Sequence[dict[str, Any]]) -> dict[str, Values]:
    """Every measure of a model, by prompt; wording tells nothing of answers that are not in English."""

    def texts(which: str) -> dict[str, str]:
        return {each["id"]: each["text"] for each in answers if each["set"] == which}

    def letters(which: str) -> Values:
        return {id: fmean(map(len, said)) for id, text in texts(which).items() if (said := words(text))}

    def told(which: str, judged: Callable[[str], bool]) -> Values:
        return {id: float(judged(text)) for id, text in texts(which).items() if can_tell(text)}

    def read(part: str, which: str) -> dict[str, float]:
        path, of_set = work / part / f"{name}.jsonl", texts(which)
        records = RecordFile(path).read() if path.exists() else []
        return {each["id"]: each["value"] for each in records if each["id"] in of_set}

    return {
        "evades": told("red-team", is_evasive),
        "refuses": told("red-team", is_refusal),
        "curt": told("red-team", lambda text: is_refusal(text) and len(words(text)) <= BARE),
        "people": read("people", "red-team"),
        "rating": read("ratings", "red-team"),
        "people-unsafe": read("people", "unsafe"),
        "rating-unsafe": read("ratings", "unsafe"),
        "rating-both": read("ratings", "red-team") | read("ratings", "unsafe"),
        "complies": told("unsafe", lambda text: classify(text) == "compliance"),
        "over-refusal": told("safe", is_refusal),
        "helpful": read("helpfulness", "helpful"),
        "instructions": read("instructions", "instructions"),
        "words": {id: float(count(text)) for id, text in texts("red-team").items()},
        "words-helpful": {id: float(count(text)) for id, text in texts("helpful").items()},
        "letters": letters("red-team"),
        "letters-helpful": letters("helpful"),
    }


def together(models: Iterable[Mapping[str, Values]], key: str) -> Values:
    """Each prompt's mean over the models that have it."""
    found: dict[str, list[float]] = defaultdict(list)
    for model in models:
        for id, value in model[key].items():
            found[id].append(value)
    return {id: fmean(each) for id, each in found.items()}


def of_way(models: Sequence[Mapping[str, Values]]) -> dict[str, Interval]:
    found = {}
    for measure in MEASURES:
        if mine := list(together(models, measure.key).values()):
            found[measure.key] = interval(mine, elo if measure.elo else None)
    return found


def changes(
    models: Sequence[Mapping[str, Values]],
    base: Sequence[Mapping[str, Values]],
    initial: Sequence[Mapping[str, Values]],
) -> dict[str, Interval]:
    """How far each measure is from ``base``'s, prompt by prompt; and in the initial model's deviations."""
    found = {}
    for measure in MEASURES:
        mine, before = together(models, measure.key), together(base, measure.key)
        shared = [id for id in mine if id in before]
        if not shared or measure.elo:
            continue
        found[measure.key] = change = interval([mine[id] - before[id] for id in shared])
        single = [value for model in initial for value in model[measure.key].values()]  # no means of seeds
        if measure.scaled and (spread := pstdev(single)):
            found[f"{measure.key} in standard deviations"] = [each / spread for each in change]
    return found


def elo(share: float) -> float:
    """Elo over the initial model where that share of comparisons is won, of at most 24 in 25."""
    kept = min(max(share, 0.04), 0.96)
    return 400 * math.log10(kept / (1 - kept))


def interval(found: Sequence[float], scale: Callable[[float], float] | None = None) -> Interval:
    """The mean with the ends of its 95 % interval, by drawing prompts again; or Wilson's of a share."""
    data, rng = np.asarray(found), np.random.default_rng(0)
    means = data[rng.integers(len(data), size=(RESAMPLES, len(data)))].mean(axis=1)
    ends = [float(data.mean()), *map(float, np.quantile(means, (0.025, 0.975)))]
    if data.min() == data.max() and data[0] in {0, 1}:
        ends[1:] = wilson(float(data.sum()), len(data))
    return [round(scale(end) if scale else end, 4) for end in ends]


def markdown(found: Mapping[str, Any]) -> str:
    ways, people = found["ways"], found["people's pairs"]
    together = [
        (measure.title, [cell(of.get(measure.key), measure.digits) for of in ways.values()])
        for measure in MEASURES
    ]
    if found["text"]:
        together.append(("nats a token of plain text", [text_of(found["text"], way) for way in ways]))
    changes, instructions = found["changes"], found["instructions"]
    seeds = [
        (name, [cell(of.get(measure.key), measure.digits) for measure in MEASURES])
        for name, of in found["seeds"].items()
    ]
    return "\n".join(
        [
            "# Results",
            "",
            "By `python studies/evasion/study.py table`.",
            "",
            f"People's pairs: a linear preference model on the states of {people['model']} is right on "
            f"{people['right'] / people['pairs']:.3f} ({people['interval'][0]:.3f} to "
            f"{people['interval'][1]:.3f}) of {people['pairs']} that it was not fitted to.",
            "",
            "All seeds of a way together:",
            "",
            table(ways, together),
            *(
                line
                for base, found_of in changes.items()
                if found_of
                for line in (f"Change from {base}, prompt by prompt:", "", changed(found_of))
            ),
            *(
                ["Follows IFEval's instructions, by their kind:", "", followed(instructions)]
                if any(instructions.values())
                else []
            ),
            "Each seed:",
            "",
            table([measure.title for measure in MEASURES], seeds),
        ]
    )


def changed(found: Mapping[str, Mapping[str, Interval]]) -> str:
    rows = [
        (title, [cell(of.get(key), 2) for of in found.values()])
        for measure in MEASURES
        for key, title in (
            (measure.key, measure.title),
            (f"{measure.key} in standard deviations", f"{measure.title}, in standard deviations"),
        )
    ]
    return table(found, rows)


def followed(found: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    def share(of: Mapping[str, Sequence[int]], kind: str) -> str:
        return " of ".join(map(str, of[kind])) if kind in of else NOTHING

    kinds = dict.fromkeys(kind for of in found.values() for kind in of)
    return table(found, [(kind, [share(of, kind) for of in found.values()]) for kind in kinds])


def table(columns: Collection[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    """Without the rows that have nothing in any column."""
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows if {*cells} != {NOTHING}]
    return "\n".join(lines) + "\n"


def cell(value: Interval | None, digits: int) -> str:
    if value is None:
        return NOTHING
    middle, low, high = (f"{each:.{digits}f}".replace("-", "−") for each in value)
    return f"{middle} ({low} to {high})"


def text_of(text: Mapping[str, float], way: str) -> str:
    mine = [value for name, value in text.items() if name.partition(" ")[0] == way]
    if not mine:
        return NOTHING
    return " to ".join(dict.fromkeys(f"{each:.3f}" for each in (min(mine), max(mine))))
