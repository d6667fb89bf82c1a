"""The page of Elo scores from people's choices: the plane of the paper's Figures 2 and 3."""

from collections.abc import Mapping
from pathlib import Path

from solon.errors import SolonError
from solon.evaluation.choices import Ratings
from solon.report import elo_plots
from solon.report.html import render
from solon.report.plots import PALETTE, Look
from solon.store.files import write_atomically


def write(found: Mapping[str, Ratings], source: str, path: Path) -> None:
    """Write the page. Raises SolonError where no model has scores on both aspects."""
    by_aspect = {aspect: {rating.model: rating for rating in of["models"]} for aspect, of in found.items()}
    harmlessness, helpfulness = (by_aspect.get(aspect, {}) for aspect in ("harmlessness", "helpfulness"))
    names = [name for name in harmlessness if name in helpfulness]
    looks = {name: Look(name, PALETTE[number % len(PALETTE)]) for number, name in enumerate(names)}
    plane = elo_plots.elo_plane(harmlessness, helpfulness, looks=looks, path=False)
    if plane is None:
        raise SolonError(
            f"{source} has no model with choices on both harmlessness and helpfulness, as the plot needs; "
            "give every row its aspect"
        )
    page = render("choices.html.j2", {"elo": plane}, {}, source=source, found=found)
    write_atomically(path, page.html)
