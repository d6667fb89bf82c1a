"""The figures of ``report`` as a page of tables."""

from collections.abc import Mapping, Sequence
from typing import Any

MODELS = ("initial", "sl-cai", "rl-cai")
HEAD = ("initial", "SL-CAI", "RL-CAI")


def lines_of(found: Mapping[str, Any]) -> list[str]:
    lines = ["Intervals are 95 %.", "", *row("run", "Elo", *HEAD), *rule(5)]
    for run, figures in found.items():
        for what, ratings in figures.get("elo", {}).items():
            lines += row(run, what, *(cell(ratings.get(name), 0) for name in MODELS))
    lines += ["", *row("run", "verdict", "figure"), *rule(3)]
    for run, figures in found.items():
        for what, value in flat(figures.get("verdict", {})):
            lines += row(run, what, value)
    lines += ["", *row("run", "answers to: mean by", *HEAD, "SL-CAI higher", "RL-CAI higher"), *rule(7)]
    for run, figures in found.items():
        for what, means in figures.get("means", {}).items():
            cells = [cell(means[name], 2) for name in MODELS]
            higher = [cell(means[f"initial to {name}"]["higher"], 2) for name in MODELS[1:]]
            lines += row(run, what, *cells, *higher)
    lines += ["", *row("run", "answers to", "what", *HEAD), *rule(6)]
    for run, figures in found.items():
        lines += styles(run, figures.get("answers", {}))
    lines += ["", *row("preference model of", "measured on", "accuracy"), *rule(3)]
    for run, figures in found.items():
        measured = dict(figures.get("preference_model", {}))
        if "tested_on" in figures:
            measured = {"people's pairs held out": figures["accuracy"], "hhh": figures["hhh"]}
        for what, accuracy in measured.items():
            if accuracy:
                lines += row(run, what, cell(accuracy, 2))
    return lines


def styles(run: str, answers: Mapping[str, Any]) -> list[str]:
    lines = []
    for prompts in ("red-team", "helpful"):
        of = [answers.get(name, {}).get(prompts) for name in MODELS]
        if not all(of):
            continue
        lines += row(run, prompts, "refuses", *(cell(each["refuses"], 2) for each in of))
        for what in ("partial", "words", "different_words"):
            lines += row(run, prompts, what.replace("_", " "), *(f"{each[what]:.2f}" for each in of))
    return lines


def flat(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for what, value in verdict.items():
        if what == "steps":
            found += [(f"{step}, Elo", cell(each, 0)) for step, each in value.items()]
        elif isinstance(value, bool):
            found.append((what, "yes" if value else "no"))
        else:
            found.append((what, number(value, 0)))
    return found


def row(*cells: str) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def rule(columns: int) -> list[str]:
    return row(*["---"] * columns)


def cell(value: Sequence[float] | None, digits: int) -> str:
    """A figure with its interval; nothing where there is none."""
    if not value:
        return ""
    middle, low, high = (number(each, digits) for each in value)
    return f"{middle} ({low} to {high})"


def number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # 0 has no sign
