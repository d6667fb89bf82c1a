"""The figures of ``report`` as a page of tables."""

from collections.abc import Mapping, Sequence
from typing import Any

MODELS = ("initial", "sl-cai", "rl-cai")
HEAD = ("initial", "SL-CAI", "RL-CAI")


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The page; a table that would have no row is left out."""
    step = ("SL-CAI higher", "RL-CAI higher")
    parts = [
        (("run", "Elo", *HEAD), ratings),
        (("run", "verdict", "figure"), verdict),
        (("run", "answers to: mean by", *HEAD, *step), means),
        (("run", "unseen judge, at one length", *HEAD[1:], "for a unit of ln(1 + words)"), at_one_length),
        (("run", "answers to", "what", *HEAD), styles),
        (("run", "texts", "count", "refuses", "words"), texts),
        (("run", "text", "unseen judge's score", "gain on the answer"), revisions),
        (("run", "labels of", "pairs", "mean P(chosen)"), labels),
        (("preference model of", "measured on", "accuracy"), accuracies),
    ]
    lines = ["Intervals are 95 %."]
    for head, rows in parts:
        if made := [line for run, figures in found.items() for line in rows(run, figures)]:
            lines += ["", *row(*head), *row(*["---"] * len(head)), *made]
    return lines


def ratings(run: str, figures: Mapping[str, Any]) -> list[str]:
    return [
        line
        for what, of in figures.get("elo", {}).items()
        for line in row(run, what, *(cell(of.get(name), 0) for name in MODELS))
    ]


def means(run: str, figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for what, of in figures.get("means", {}).items():
        higher = (cell(of[f"initial to {name}"]["higher"], 2) for name in MODELS[1:])
        lines += row(run, what, *(cell(of[name], 2) for name in MODELS), *higher)
    return lines


def at_one_length(run: str, figures: Mapping[str, Any]) -> list[str]:
    found = figures.get("at_one_length")
    if not found:
        return []
    return row(run, "gain on initial", *(cell(found.get(name), 2) for name in (*MODELS[1:], "length")))


def texts(run: str, figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for what, each in figures.get("stages", {}).get("texts", {}).items():
        lines += row(run, what, str(each["texts"]), cell(each["refuses"], 2), f"{each['words']:.0f}")
    return lines


def revisions(run: str, figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for number, of in enumerate(figures.get("revisions", [])):
        text = f"revision {number}" if number else "answer"
        lines += row(run, text, cell(of["score"], 2), cell(of["gain"], 2) if number else "")
    return lines


def labels(run: str, figures: Mapping[str, Any]) -> list[str]:
    found = figures.get("stages", {}).get("labels", {})
    return [
        line for what, of in found.items() for line in row(run, what, str(of["pairs"]), f"{of['mean']:.2f}")
    ]


def accuracies(run: str, figures: Mapping[str, Any]) -> list[str]:
    measured = figures.get("preference_model", {})
    if "tested_on" in figures:
        measured = {"people's pairs held out": figures["accuracy"], "hhh": figures["hhh"]}
    return [line for what, each in measured.items() if each for line in row(run, what, cell(each, 2))]


def styles(run: str, figures: Mapping[str, Any]) -> list[str]:
    lines, answers = [], figures.get("answers", {})
    for prompts in ("red-team", "helpful"):
        of = [answers.get(name, {}).get(prompts) for name in MODELS]
        if not any(of):
            continue
        for what in ("refuses", "evades"):
            lines += row(run, prompts, what, *(cell(each[what], 2) if each else "" for each in of))
        for what in ("partial", "words", "different_words"):
            figures_of = (f"{each[what]:.2f}" if each else "" for each in of)
            lines += row(run, prompts, what.replace("_", " "), *figures_of)
    return lines


def verdict(run: str, figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for what, value in figures.get("verdict", {}).items():
        if what == "steps":
            for step, each in value.items():
                lines += row(run, f"{step}, Elo", cell(each, 0))
        elif isinstance(value, bool):
            lines += row(run, what, "yes" if value else "no")
        else:
            lines += row(run, what, number(value, 0))
    return lines


def row(*cells: str) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def cell(value: Sequence[float] | None, digits: int) -> str:
    """A figure with its interval; nothing where there is none."""
    if not value:
        return ""
    middle, low, high = (number(each, digits) for each in value)
    return f"{middle} ({low} to {high})"


def number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # 0 has no sign
