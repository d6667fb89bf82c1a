"""Render pages: one HTML file each, with its style, script and figures inside.

Jinja2 escapes all text; JSON blocks have ``<``, ``>`` and ``&`` escaped, and the page's script writes model
text as text only. The page's content security policy forbids it every network request.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from solon.report import content, transcripts
from solon.report.folder import read
from solon.report.plots import ENOUGH_PAIRS, MODELS, Look
from solon.run import write_atomically


def write(run_dir: Path) -> Path:
    """Write ``report.html`` in the run folder, from whatever the run has so far, and return its path.

    Raises:
        SolonError: ``run_dir`` is no run folder, or one of its files is not what it should be.
    """
    run = read(run_dir)
    watched = content.watch(run)
    page = render(
        "report.html.j2",
        content.figures(run, watched),
        MODELS,
        ("figures.js", "report.js"),
        run=run,
        content=content,
        models=MODELS,
        watched=watched,
        enough_pairs=ENOUGH_PAIRS,
        transcripts=transcripts.gather(run),
    )
    path = run_dir / "report.html"
    write_atomically(path, page)
    return path


def render(
    template: str,
    figures: Mapping[str, go.Figure],
    colours: Mapping[str, Look],
    scripts: tuple[str, ...] = ("figures.js",),
    **context: Any,
) -> str:
    """The page of a template. ``colours`` become style variables, each called as its key."""
    environment = Environment(
        loader=PackageLoader("solon.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.filters |= {
        "count": _count,
        "percent": _percent,
        "decimal": _decimal,
        "duration": _duration,
        "elo": content.elo,
    }
    return environment.get_template(template).render(
        figures={name: json.loads(figure.to_json()) for name, figure in figures.items()},
        colours=colours,
        style=_template("style.css"),
        script=Markup("\n").join(map(_template, scripts)),
        plotly=Markup(get_plotlyjs()) if figures else "",
        **context,
    )


def _template(name: str) -> Markup:
    """A file of ours, put in the page as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}%"


def _decimal(value: float | None, places: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{places}f}".replace("-", "−")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
