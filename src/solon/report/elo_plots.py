"""The figures of Elo scores: over how harmless and how helpful, what runs gained, and over RL's steps."""

import html
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import plotly.graph_objects as go

from solon.evaluation.elo import Rating
from solon.records import Aspect
from solon.report.plots import LEGEND, MODELS, PALETTE, Dot, Look, add_curve, blank, error_bars

HARMLESS_AND_HELPFUL: Mapping[Aspect, str] = {"harmlessness": "harmless", "helpfulness": "helpful"}

CORNERS = ("top right", "bottom left", "top left", "bottom right")  # of points, so that near ones' names part


def _dot(rating: Rating, place: float = 0) -> Dot:
    return Dot(place, rating.elo, rating.low, rating.high)


def elo_plane(
    harmlessness: Mapping[str, Rating],
    helpfulness: Mapping[str, Rating],
    qualities: Mapping[Aspect, str] = HARMLESS_AND_HELPFUL,
    looks: Mapping[str, Look] = MODELS,
    path: bool = True,
) -> go.Figure | None:
    """Harmlessness against helpfulness, as in the paper's Figure 2; None where no model has both.

    ``qualities`` are what better answers are the more of; ``looks`` those of the models in the order of the
    ``path`` that joins them.
    """
    models = [model for model in looks if model in harmlessness and model in helpfulness]
    if not models:
        return None
    figure = blank(400, hovermode="closest", margin={"l": 60, "r": 48, "t": 28, "b": 52})
    if path:
        _add_path(figure, [(helpfulness[model].elo, harmlessness[model].elo) for model in models], "#8a8f98")
    for model, corner in zip(models, cycle(CORNERS)):
        _add_model(figure, looks[model], helpfulness[model], harmlessness[model], corner)
    _add_plane(figure, qualities)
    return figure


def _add_plane(figure: go.Figure, qualities: Mapping[Aspect, str]) -> None:
    across, up = (_more(qualities[aspect]) for aspect in ("helpfulness", "harmlessness"))
    figure.update_xaxes(title_text=f"{across}, Elo →", zerolinewidth=2)
    # One scale for both axes, so that a point of helpfulness looks no larger than one of harmlessness.
    figure.update_yaxes(title_text=f"{up}, Elo →", zerolinewidth=2, scaleanchor="x")


def _more(quality: str) -> str:
    return f"More {html.escape(quality)}"


def _add_path(figure: go.Figure, places: Sequence[tuple[float, float]], colour: str) -> None:
    figure.add_scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="lines",
        line={"color": colour, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )


def _add_model(figure: go.Figure, look: Look, x: Rating, y: Rating, corner: str) -> None:
    figure.add_scatter(
        x=[x.elo],
        y=[y.elo],
        name=look.label,
        mode="markers+text",
        text=[f"<b>{html.escape(look.label)}</b>"],  # Plotly reads a few tags in it
        textposition=corner,
        textfont={"color": look.colour, "size": 14},
        marker={"color": look.colour, "size": 12},
        error_x=error_bars([_dot(x)], look.colour),
        error_y=error_bars([_dot(y)], look.colour),
        hovertemplate="helpfulness %{x:.0f}<br>harmlessness %{y:.0f}<extra>%{fullData.name}</extra>",
        cliponaxis=False,
    )


def elo_paths(
    runs: Mapping[Look, Sequence[tuple[str, Rating, Rating]]], qualities: Mapping[Aspect, str]
) -> go.Figure | None:
    """The way of each run's models over the plane of ``elo_plane``; None where no run has both scores.

    Models are (label, helpfulness, harmlessness), the last trained one last: it bears the run's name.
    """
    shown = {look: models for look, models in runs.items() if models}
    if not shown:
        return None
    figure = blank(440, hovermode="closest", margin={"l": 60, "r": 48, "t": 28, "b": 52})
    for (look, models), corner in zip(shown.items(), cycle(CORNERS)):
        _add_path(figure, [(x.elo, y.elo) for _, x, y in models], look.colour)
        for label, x, y in models[:-1]:
            figure.add_scatter(
                x=[x.elo],
                y=[y.elo],
                mode="markers",
                marker={"color": look.colour, "size": 8, "symbol": "circle-open"},
                hovertemplate="helpfulness %{x:.0f}<br>harmlessness %{y:.0f}<extra>%{fullData.name}</extra>",
                name=f"{look.label}, {label}",
                cliponaxis=False,
            )
        _, x, y = models[-1]
        _add_model(figure, look, x, y, corner)
    _add_plane(figure, qualities)
    return figure


def gains(runs: Sequence[tuple[Look, float, float, float]], quality: str) -> go.Figure | None:
    """What each run gained, with its interval (gain, low, high); None without runs."""
    if not runs:
        return None
    figure = blank(90 + 44 * len(runs), margin={"l": 8, "r": 28, "t": 12, "b": 48})
    for look, gain, low, high in runs:
        figure.add_scatter(
            x=[gain],
            y=[look.label],
            mode="markers",
            marker={"color": look.colour, "size": 12},
            error_x=error_bars([Dot(0, gain, low, high)], look.colour),
            hovertemplate="%{x:+.0f} Elo<extra>%{y}</extra>",
        )
    figure.update_xaxes(title_text=f"{_more(quality)}, Elo →", zerolinewidth=2)
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def elo_curves(rows: Sequence[Mapping[str, Any]], qualities: Mapping[Aspect, str]) -> go.Figure | None:
    """Elo over RL's steps, a line an aspect, as in the paper's Figure 8; None without rows.

    A row has its ``step``, and a rating of each aspect or None.
    """
    figure = blank(320, **LEGEND)
    for (aspect, quality), colour in zip(qualities.items(), PALETTE, strict=False):
        points = [_dot(row[aspect], row["step"]) for row in rows if row[aspect]]
        if points:
            add_curve(figure, Look(f"More {quality}", colour), points, "step %{x}: %{y:+.0f} Elo")
    figure.update_xaxes(title_text="RL step")
    figure.update_yaxes(title_text="Elo", zerolinewidth=2)
    return figure if figure.data else None
