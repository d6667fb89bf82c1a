"""Draws the pictures of docs/results.md from its tables: python studies/pictures.py

A picture shows nothing that its table does not say: dots with the 95 % intervals that stand beside them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE, FOLDER = ROOT / "docs/results.md", ROOT / "docs/pictures"

COLOURS = ("#7d8590", "#c2761c", "#2b82c9")  # as in reports: initial, SL-CAI, RL-CAI
VALUE = re.compile(r"([−-]?[\d.]+)(?: \(([−-]?[\d.]+)(?:–| to )([−-]?[\d.]+)\))?")
WIDTH, LEFT, RIGHT, TOP, LINE, BETWEEN = 760, 290, 30, 64, 20, 16  # pixels


@dataclass(frozen=True)
class Picture:
    title: str
    heading: str  # of the part of the page whose first table with all the rows it is drawn from
    rows: dict[str, str]  # how each begins in the table, and what it is called
    columns: dict[str, str]  # the same of columns; one colour each
    ticks: Sequence[float]
    line: float | None = None  # a value to compare with


PICTURES = {
    "evasion": Picture(
        "A 1.5B model that supervises itself, three seeds: what it answers",
        "## Harmless and not evasive",
        {
            "evades red-team prompts": "evades red-team prompts",
            "refuses them": "refuses them, objections with it",
            "complies with XSTest's unsafe prompts": "complies with XSTest's unsafe ones",
            "refuses XSTest's safe prompts": "refuses XSTest's safe ones",
        },
        {"initial": "initial", "prompted": "told the constitution", "SL-CAI": "SL-CAI"},
        (0, 0.2, 0.4, 0.6, 0.8, 1.0),
    ),
    "self": Picture(
        "A 1.5B model that supervises itself: how it answers red-team prompts",
        "### A model that supervises itself",
        {"evades red-team prompts": "evades", "refuses them": "refuses, objections with it"},
        {"initial": "initial", "SL-CAI": "SL-CAI", "RL-CAI": "RL-CAI"},
        (0, 0.2, 0.4, 0.6, 0.8),
    ),
    "chain": Picture(
        "A 135M policy with a critic of 1.5B, three seeds: Elo against the initial model",
        "## The chain",
        {
            "harmlessness, Elo by the unseen judge": "more harmless, by the unseen judge",
            "helpfulness, Elo by the 1.5B": "more helpful, by the 1.5B model",
        },
        {"initial": "initial", "SL-CAI": "SL-CAI", "RL-CAI": "RL-CAI"},
        (-100, 0, 100, 200, 300),
        0,
    ),
    "judges": Picture(
        "Small models as judges: agreement with people; the line is chance",
        "## Small models as judges",
        {
            f"{model} | {way}": f"{size}, {called}"
            for model, size in (("smollm2", "135M"), ("qwen-0.5b", "0.5B"), ("qwen-1.5b", "1.5B"))
            for way, called in (
                ("zero-first, both orders", "comparing two answers"),
                ("each rated for harm from 0 to 4", "rating each by itself"),
            )
        },
        {"hhh": "HHH", "hh-rlhf": "hh-rlhf, harmless"},
        (0.3, 0.4, 0.5, 0.6, 0.7),
        0.5,
    ),
}

Value = tuple[float, float, float]  # with its interval


def read(picture: Picture, page: str) -> list[list[Value | None]]:
    """The table's values, by row and column. Raises LookupError where the page has no such table."""
    part = page[page.index(f"\n{picture.heading}\n") :]
    for table in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE):
        head, _, *lines = table.splitlines()
        names = [cell.strip() for cell in head.strip("|").split("|")]
        found = [next((line for line in lines if line.startswith(f"| {row}")), "") for row in picture.rows]
        if all(found) and set(picture.columns) <= set(names):
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found]
            return [[value(row[names.index(column)]) for column in picture.columns] for row in cells]
    raise LookupError(f"{picture.heading}: no table with {list(picture.rows)}")


def value(cell: str) -> Value | None:
    found = VALUE.match(cell)
    if not found:
        return None
    middle, low, high = (float(each.replace("−", "-")) if each else None for each in found.groups())
    assert middle is not None
    return middle, middle if low is None else low, middle if high is None else high


def draw(picture: Picture, rows: Sequence[Sequence[Value | None]]) -> str:
    """The picture as SVG, on a ground of its own, so that it is readable on light and dark pages."""
    height_of_row = LINE * len(picture.columns) + BETWEEN
    bottom = TOP + height_of_row * len(rows)

    def across(number: float) -> str:
        first, last = picture.ticks[0], picture.ticks[-1]
        return f"{LEFT + (number - first) / (last - first) * (WIDTH - LEFT - RIGHT):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 36}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14"><title>{escape(picture.title)}</title>',
        f'<rect width="{WIDTH}" height="{bottom + 36}" rx="8" fill="#fcfcfb"/>',
        f'<text x="20" y="28" font-weight="600" fill="#1f2328">{escape(picture.title)}</text>',
    ]
    for tick in picture.ticks:
        x, strong = across(tick), tick == picture.line
        parts.append(f'<path d="M{x} {TOP - 8}V{bottom}" stroke="{"#8b949e" if strong else "#e3e3e1"}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 20}" text-anchor="middle" fill="#59636e">{tick:g}</text>')
    place = LEFT
    for name, colour in zip(picture.columns.values(), COLOURS, strict=False):
        parts.append(f'<circle cx="{place}" cy="{TOP - 20}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{place + 10}" y="{TOP - 15}" fill="#59636e">{escape(name)}</text>')
        place += 40 + 8 * len(name)
    for number, (name, values) in enumerate(zip(picture.rows.values(), rows, strict=True)):
        top = TOP + number * height_of_row
        middle = top + (height_of_row - BETWEEN) / 2 + 5
        parts.append(
            f'<text x="{LEFT - 20}" y="{middle:g}" text-anchor="end" fill="#1f2328">{escape(name)}</text>'
        )
        for line, (each, colour) in enumerate(zip(values, COLOURS, strict=False)):
            if each is None:
                continue
            y = top + LINE * line + LINE / 2
            at, low, high = map(across, each)
            parts.append(f'<path d="M{low} {y:g}H{high}" stroke="{colour}" stroke-width="2"/>')
            parts.append(f'<circle cx="{at}" cy="{y:g}" r="5" fill="{colour}"/>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    page = PAGE.read_text(encoding="utf-8")
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(picture, read(picture, page)), encoding="utf-8")


if __name__ == "__main__":
    main()
