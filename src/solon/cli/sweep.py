"""``solon sweep``: a study of variations of one configuration."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from solon.cli.options import NO_RUNS, NO_SETTINGS, AsJson, Reuse, Settings, overrides
from solon.cli.show import SCREEN, show_rows


def sweep(
    study: Annotated[str, typer.Argument(help="A study's file, or the name of a packaged one.")],
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="The study's folder; 'runs/NAME' beside its file by default."),
    ] = None,
    settings: Settings = NO_SETTINGS,
    reuse: Reuse = NO_RUNS,
    as_json: AsJson = False,
) -> None:
    """Run every variation of a study, doing what they share once; the same command goes on after a stop."""
    from solon import study as studies  # takes seconds to import, with all its libraries
    from solon import sweep as sweeps

    asked = studies.load(study, overrides(settings))
    beside = Path(study).parent if study.endswith((".yaml", ".yml")) else Path()
    folder = directory or beside / "runs" / asked.name
    page = sweeps.run(asked, folder, SCREEN, reuse)
    figures = (folder / "sweep.json").read_text(encoding="utf-8")
    if as_json:
        typer.echo(figures, nl=False)
        return
    result = json.loads(figures)
    show_rows(rows(result["variations"], result["qualities"]), result["study"])
    if result["outcomes"]:
        show_rows(came_to(result["outcomes"], result["qualities"]), "What each came to, and what it took")
    typer.echo(result["verdict"])
    for caveat in result["caveats"]:
        typer.echo(caveat)
    typer.echo(f"Study: {page}")


def rows(variations: dict[str, Any], qualities: dict[str, str]) -> list[dict[str, Any]]:
    """What the last model of each variation gained over the initial one, and its last revisions."""
    table = []
    for name, figures in variations.items():
        gains = figures["elo"].get("rl-cai") or figures["elo"].get("sl-cai") or {}
        revised = figures["revisions"][-1] if figures["revisions"] else {}
        table.append(
            {
                "variation": name,
                **{f"more {qualities[aspect]}, Elo": gain["elo"] for aspect, gain in gains.items()},
                "revisions' score": revised.get("score"),
                "above the answers": revised.get("gain"),
            }
        )
    return table


def came_to(outcomes: dict[str, Any], qualities: dict[str, str]) -> list[dict[str, Any]]:
    """The study's last models and what they began from: harmlessness, helpfulness, evasion, tokens spent."""
    return [
        {
            "variation": name,
            **{
                f"more {word}, Elo": (figures["elo"].get(aspect) or {}).get("elo")
                for aspect, word in qualities.items()
            },
            "evasive": figures.get("evasive"),
            "tokens": figures["tokens"],
        }
        for name, figures in outcomes.items()
    ]
