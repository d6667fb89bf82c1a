"""Render pages: one HTML file each, with its style, script and figures inside.

Jinja2 escapes all text; JSON blocks have ``<``, ``>`` and ``&`` escaped, and the page's script writes model
text as text only. The page's content security policy runs our scripts alone and forbids network requests,
but that pages of the viewer may ask the viewer.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from solon.evaluation import shortcuts
from solon.report import content, transcripts, trust
from solon.report.plots import ENOUGH_PAIRS, MODELS, Look
from solon.report.roles import models
from solon.store.files import sealed, write_atomically
from solon.store.run_folder import Json, RunFolder, manifest_of, name_of, read


class Page(NamedTuple):
    html: str
    policy: str  # its content security policy, which the page has in itself too


def write(run_dir: Path) -> Path:
    """Write ``report.html`` in the run folder, from whatever the run has so far, and return its path.

    Raises:
        SolonError: ``run_dir`` is no run folder, or one of its files is not what it should be.
    """
    run = read(run_dir)
    path = run_dir / "report.html"
    write_atomically(path, sealed(of_run(run)))
    return path


def of_run(run: RunFolder) -> str:
    """The page that ``write`` writes."""
    return report(run, ("embedded.js", "transcripts.js"), transcripts.gather(run)).html


def report(run: RunFolder, scripts: tuple[str, ...] = (), records: Json | None = None) -> Page:
    """The report of a run; without ``records`` the viewer's, which has transcripts on a page of their own."""
    watched, evaluation = content.watch(run), content.evaluation_rows(run)
    return render(
        "report.html.j2",
        content.figures(run, watched, evaluation),
        MODELS,
        ("figures.js", *scripts),
        served=records is None,
        run=run,
        content=content,
        models=MODELS,
        watched=watched,
        evaluation=evaluation,
        shortcuts=shortcuts.measure_run(run),
        enough_pairs=ENOUGH_PAIRS,
        trust=trust,
        roles=models(run),
        transcripts=records,
    )


def browser(folder: Path) -> Page:
    """The viewer's page of transcripts. Raises SolonError as ``write`` does."""
    name = name_of(folder, manifest_of(folder))
    scripts = ("figures.js", "served.js", "transcripts.js")
    return render("browser.html.j2", {}, MODELS, scripts, served=True, name=name, models=MODELS)


def render(
    template: str,
    figures: Mapping[str, go.Figure],
    colours: Mapping[str, Look],
    scripts: tuple[str, ...] = ("figures.js",),
    served: bool = False,
    **context: Any,
) -> Page:
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
    run = [Markup(get_plotlyjs())] if figures else []
    run.append(Markup("\n").join(map(_template, scripts)))
    policy = _policy(run, served)
    html = environment.get_template(template).render(
        figures={name: json.loads(figure.to_json()) for name, figure in figures.items()},
        colours=colours,
        style=_template("style.css"),
        scripts=run,
        policy=policy,
        served=served,
        **context,
    )
    return Page(html, policy)


def _policy(scripts: Sequence[str], served: bool) -> str:
    """A content security policy that runs these scripts and no other."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in hashes),
        "style-src": "'unsafe-inline'",  # Plotly writes style attributes and elements
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    } | ({"connect-src": "'self'"} if served else {})
    return "; ".join(f"{name} {value}" for name, value in rules.items())


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
