"""The report's figures, in Plotly.

Titles are set in the page and colours of ink and grid by its stylesheet, so that a figure follows the
reader's light or dark theme; only the models' own colours are given here.
"""

import html
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import plotly.graph_objects as go

from solon.evaluation.attribution import Relation
from solon.evaluation.calibration import Bin
from solon.evaluation.harmfulness import Harmfulness
from solon.evaluation.overoptimisation import Block


class Look(NamedTuple):
    label: str
    colour: str  # at least 3:1 against both the light and the dark page


MODELS: Mapping[str, Look] = {
    "initial": Look("Initial", "#7d8590"),
    "sl-cai": Look("SL-CAI", "#c2761c"),
    "rl-cai": Look("RL-CAI", "#2b82c9"),
}

# From contradiction to agreement; the middle is a veil, so that it is grey on light and dark pages alike.
DIVERGING = [[0, "#c2761c"], [0.5, "rgba(128,128,128,0.18)"], [1, "#2b82c9"]]
ENOUGH_PAIRS = 5  # one pair alone always makes a correlation of 1 or −1
NAME_LENGTH = 20  # characters of a principle's name beside a matrix; the whole is in its hover text

NEUTRAL = "#7a6fae"  # figures of the preference model, which is none of the three


class Dot(NamedTuple):
    """A figure with its interval, at a place on the axis below it."""

    place: float
    value: float
    low: float
    high: float


def blank(height: int, **layout: Any) -> go.Figure:
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 52, "r": 16, "t": 12, "b": 44},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "showlegend": False,
            "xaxis": {"automargin": True},
            "yaxis": {"automargin": True},
            **layout,
        }
    )


LEGEND = {"showlegend": True, "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}}

PALETTE = ("#2b82c9", "#c2761c", "#3f9142", "#a85fb0", "#c4534c", "#7d8590")  # 3:1 on either page


def harmfulness_curves(rows: Sequence[Harmfulness]) -> go.Figure | None:
    """Harmfulness over RL's steps, a line a temperature, as in the paper's Figure 10; None without two steps.

    Models outside of RL are dotted lines across.
    """
    steps = [row["step"] for row in rows if row["step"] is not None]
    if len({*steps}) < 2:
        return None
    figure = blank(320, **LEGEND)
    temperatures = list(dict.fromkeys(row["temperature"] for row in rows))
    for temperature, colour in zip(temperatures, cycle(PALETTE), strict=False):
        mine = [row for row in rows if row["temperature"] == temperature]
        points = sorted(
            Dot(row["step"], row["harmfulness"], *(row["interval"] or [row["harmfulness"]] * 2))
            for row in mine
            if row["step"] is not None
        )
        if points:
            add_curve(figure, Look(f"T = {temperature:g}", colour), points, "step %{x}: %{y:.2f}")
        for row in mine:
            if row["step"] is None:
                figure.add_scatter(
                    x=[min(steps), max(steps)],
                    y=[row["harmfulness"]] * 2,
                    name=html.escape(f"{row['model']}, T = {temperature:g}"),
                    mode="lines",
                    line={"color": colour, "width": 1.25, "dash": "dot"},
                    hovertemplate="%{y:.2f}<extra>%{fullData.name}</extra>",
                )
    figure.update_xaxes(title_text="RL step")
    figure.update_yaxes(title_text="Harmfulness, 0 to 4", rangemode="tozero")
    return figure


def add_curve(figure: go.Figure, look: Look, points: Sequence[Dot], told: str) -> None:
    """A line through the figures, in order, named in the legend."""
    figure.add_scatter(
        x=[dot.place for dot in points],
        y=[dot.value for dot in points],
        name=html.escape(look.label),
        mode="lines+markers",
        line={"color": look.colour, "width": 1.75},
        marker={"size": 6},
        error_y=error_bars(points, look.colour),
        hovertemplate=f"{told}<extra>%{{fullData.name}}</extra>",
        cliponaxis=False,
    )


def error_bars(dots: Sequence[Dot], colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [dot.high - dot.value for dot in dots],
        "arrayminus": [dot.value - dot.low for dot in dots],
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


def reliability(bins: Sequence[Bin]) -> go.Figure | None:
    """How often the preference model was right against how sure it was; None without bins."""
    if not bins:
        return None
    figure = blank(300)
    ends = [min(0.5, *(point["predicted"] for point in bins)), 1]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#8a8f98", "width": 1, "dash": "dot"}, hoverinfo="skip"
    )
    largest = max(point["count"] for point in bins)
    figure.add_scatter(
        x=[point["predicted"] for point in bins],
        y=[point["observed"] for point in bins],
        customdata=[point["count"] for point in bins],
        mode="lines+markers",
        line={"color": NEUTRAL, "width": 1.5},
        marker={
            "size": [6 + 10 * (point["count"] / largest) ** 0.5 for point in bins],
            "opacity": 1,
            "line": {"width": 0},
        },
        hovertemplate="predicted %{x:.2f}<br>observed %{y:.2f}<br>%{customdata} comparisons<extra></extra>",
        cliponaxis=False,
    )
    figure.update_xaxes(title_text="Predicted probability")
    lowest = min(0.5, *(point["observed"] for point in bins))
    figure.update_yaxes(title_text="Observed frequency", range=[lowest - 0.02, 1.02])
    return figure


def label_histogram(probabilities: Sequence[float]) -> go.Figure | None:
    """The soft labels in twenty bins over [0.5, 1]; None without labels."""
    if not probabilities:
        return None
    figure = blank(260, bargap=0.08)
    figure.add_histogram(
        x=list(probabilities),
        xbins={"start": 0.5, "end": 1.0001, "size": 0.025},
        marker={"color": NEUTRAL},
        hovertemplate="%{x}: %{y} comparisons<extra></extra>",
    )
    figure.update_xaxes(title_text="Probability that the chosen answer is better", range=[0.49, 1.01])
    figure.update_yaxes(title_text="Comparisons")
    return figure


def curves(logs: Sequence[tuple[Look, Sequence[Mapping[str, Any]]]], field: str) -> go.Figure | None:
    """One logged figure over the steps, a line a log; None where it was never logged."""
    figure = blank(190, margin={"l": 44, "r": 10, "t": 8, "b": 36})
    for look, metrics in logs:
        rows = [row for row in metrics if isinstance(row.get(field), int | float)]
        if rows:
            figure.add_scatter(
                x=[row.get("step", number) for number, row in enumerate(rows, 1)],
                y=[row[field] for row in rows],
                name=look.label,
                mode="lines+markers" if len(rows) < 30 else "lines",
                line={"color": look.colour, "width": 1.75},
                marker={"size": 4},
                hovertemplate="step %{x}: %{y:.4g}<extra>"
                + ("%{fullData.name}" if len(logs) > 1 else "")
                + "</extra>",
            )
    figure.update_xaxes(title_text="Step")
    return figure if figure.data else None


def over_blocks(blocks: Sequence[Block], field: str, colour: str) -> go.Figure | None:
    """One figure over blocks of RL's steps, with its interval where it has one; None without two of it."""
    known: list[Any] = [
        block
        for block in blocks
        if block[field] is not None  # type: ignore[literal-required]
    ]
    if len(known) < 2:
        return None
    figure = blank(190, margin={"l": 44, "r": 10, "t": 8, "b": 36})
    ends = [block.get(f"{field}_interval") or (block[field], block[field]) for block in known]
    figure.add_scatter(
        x=[(block["first"] + block["last"]) / 2 for block in known],
        y=[block[field] for block in known],
        customdata=[[block["first"], block["last"]] for block in known],
        mode="lines+markers",
        line={"color": colour, "width": 1.75},
        marker={"size": 5},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - block[field] for block, (_, high) in zip(known, ends, strict=True)],
            "arrayminus": [block[field] - low for block, (low, _) in zip(known, ends, strict=True)],
            "thickness": 1,
            "width": 3,
        },
        hovertemplate="steps %{customdata[0]} to %{customdata[1]}: %{y:.3g}<extra></extra>",
    )
    figure.update_xaxes(title_text="Step")
    if field != "reward":
        figure.update_yaxes(tickformat=".1~%")
    if field == "won":
        figure.add_hline(y=0.5, line={"color": "#8a8f98", "width": 1, "dash": "dot"})
    return figure


def principle_matrix(relations: Sequence[Relation], names: Sequence[str]) -> go.Figure | None:
    """How principles' votes go together; None where no two judged ``ENOUGH_PAIRS`` together."""
    relations = [relation for relation in relations if relation["pairs"] >= ENOUGH_PAIRS]
    related = {name for relation in relations for name in (relation["one"], relation["other"])}
    names = [name for name in names if name in related]
    if not names:
        return None
    place = {name: number for number, name in enumerate(names)}
    shown: list[list[float | None]] = [[None] * len(names) for _ in names]
    told = [[""] * len(names) for _ in names]
    for relation in relations:
        text = f"same answer on {relation['agreement']:.0%} of {relation['pairs']} pairs"
        if relation["correlation"] is not None:
            text += f"<br>correlation {relation['correlation']:+.2f}".replace("-", "−")
        for one, other in ((relation["one"], relation["other"]), (relation["other"], relation["one"])):
            shown[place[one]][place[other]] = relation["correlation"]
            told[place[one]][place[other]] = f"{one}<br>{other}<br>{text}"
    for number, name in enumerate(names):
        told[number][number] = name
    short = [name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…" for name in names]
    ticks = {"tickvals": list(range(len(names))), "ticktext": short, "showgrid": False, "zeroline": False}
    figure = blank(150 + 22 * len(names), margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.add_heatmap(
        z=shown,
        text=told,
        zmin=-1,
        zmax=1,
        xgap=1,
        ygap=1,
        colorscale=DIVERGING,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickvals": [-1, 0, 1], "len": 0.8},
        hoverongaps=False,
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_xaxes(tickangle=-90, **ticks)
    figure.update_yaxes(autorange="reversed", **ticks)
    return figure


def dots(
    series: Sequence[tuple[Look, Sequence[Dot]]], ticks: Sequence[str], below: str, beside: str
) -> go.Figure | None:
    """Figures with their intervals, joined in each series; ``ticks`` name the places 0, 1, ..."""
    shown = [(look, points) for look, points in series if points]
    if not shown:
        return None
    figure = blank(330, **LEGEND)
    for number, (look, points) in enumerate(shown):
        aside = 0.06 * (number - (len(shown) - 1) / 2)  # or their intervals would hide one another
        figure.add_scatter(
            x=[dot.place + aside for dot in points],
            y=[dot.value for dot in points],
            name=html.escape(look.label),
            mode="lines+markers",
            line={"color": look.colour, "width": 1.5, "dash": "dot"},
            marker={"color": look.colour, "size": 9},
            error_y=error_bars(points, look.colour),
            hovertemplate="%{y:.3g}<extra>%{fullData.name}</extra>",
        )
    places = list(range(len(ticks)))
    figure.update_xaxes(title_text=below, tickvals=places, ticktext=[html.escape(tick) for tick in ticks])
    figure.update_yaxes(title_text=beside, zerolinewidth=2)
    return figure


def shares(series: Sequence[tuple[Look, Sequence[Dot]]], ticks: Sequence[str]) -> go.Figure | None:
    """Shares with their intervals, one below the other; ``ticks`` name the places 0, 1, ... from the top."""
    shown = [(look, points) for look, points in series if points]
    if not shown:
        return None
    figure = blank(40 + 26 * len(ticks) * len(shown), margin={"l": 8, "r": 16, "t": 4, "b": 28})
    for number, (look, points) in enumerate(shown):
        aside = 0.24 * (number - (len(shown) - 1) / 2)
        figure.add_scatter(
            x=[dot.value for dot in points],
            y=[dot.place + aside for dot in points],
            name=html.escape(look.label),
            mode="markers",
            marker={"color": look.colour, "size": 9},
            error_x=error_bars(points, look.colour),
            hovertemplate="%{x:.0%}<extra>%{fullData.name}</extra>",
            cliponaxis=False,
        )
    figure.update_xaxes(range=[-0.02, 1.02], dtick=0.25, tickformat=".0%", zeroline=False)
    figure.update_yaxes(tickvals=list(range(len(ticks))), ticktext=ticks, showgrid=False, zeroline=False)
    figure.update_yaxes(range=[len(ticks) - 0.5, -0.5])
    return figure


def reliabilities(series: Sequence[tuple[Look, Sequence[Bin]]]) -> go.Figure | None:
    """The curve of ``reliability`` for several preference models; None without bins."""
    shown = [(look, bins) for look, bins in series if bins]
    if not shown:
        return None
    figure = blank(330, **LEGEND)
    figure.add_scatter(
        x=[0.5, 1],
        y=[0.5, 1],
        mode="lines",
        line={"color": "#8a8f98", "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    for look, bins in shown:
        figure.add_scatter(
            x=[point["predicted"] for point in bins],
            y=[point["observed"] for point in bins],
            customdata=[point["count"] for point in bins],
            name=html.escape(look.label),
            mode="lines+markers",
            line={"color": look.colour, "width": 1.5},
            marker={"size": 8},
            hovertemplate="predicted %{x:.2f}<br>observed %{y:.2f}<br>%{customdata} comparisons"
            "<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(title_text="Predicted probability")
    figure.update_yaxes(title_text="Observed frequency")
    return figure
