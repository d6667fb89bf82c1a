"""A run's report for docs/: python studies/report.py RUN docs/report.html

Its plots are pictures, drawn by Chromium, in the place of Plotly's 4.8 MB; all else is as in the report. The
picture of its first screen is written beside it, as .png. Needs Playwright.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

SCREEN = {"width": 1280, "height": 900}
DRAWN = """place => {
    const size = {format: 'svg', width: place.clientWidth, height: place.clientHeight};
    const text = (address) => decodeURIComponent(address.slice(address.indexOf(',') + 1));
    return Plotly.toImage(place, size).then(text);
}"""
PLACE = re.compile(r'(<div[^>]*?) data-figure="([^"]+)"([^>]*>)')
PLOTLY = re.compile(r"<script>/\*\*\n\* plotly\.js.*?</script>\n", re.DOTALL)
FIGURES = re.compile(r'(<script type="application/json" id="figures">).*?(</script>)', re.DOTALL)


def write(browser: Any, run: Path, target: Path) -> None:
    source = run / "report.html"
    page = browser.new_page(viewport=SCREEN, color_scheme="light")
    page.goto(source.resolve().as_uri())
    page.screenshot(path=target.with_suffix(".png"))
    drawn = {
        place.get_attribute("data-figure"): place.evaluate(DRAWN)
        for place in page.locator("[data-figure]").element_handles()
    }
    page.close()
    target.write_text(still(source.read_text(), drawn))


def still(html: str, drawn: dict[str, str]) -> str:
    """The page with these drawings, by the figures' names, and without what draws figures."""
    html, removed = PLOTLY.subn("", html)
    if removed != 1:
        raise ValueError("Plotly was not found in the report")
    html = FIGURES.sub(r"\1{}\2", html)
    return PLACE.sub(lambda found: found[1] + found[3] + drawn[found[2]], html)


if __name__ == "__main__":
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        write(chromium, Path(sys.argv[1]), Path(sys.argv[2]))
