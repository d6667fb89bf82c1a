"""A run's report for docs/: python studies/report.py RUN docs/report.html

Its plots are pictures, drawn by Chromium, in the place of Plotly's 4.8 MB, and answers to red-team prompts
that do not object are left out, since some do what was asked for; all else is as in the report. The picture
of its first screen is written beside it, as .png. Needs Playwright.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from playwright.sync_api import sync_playwright

from solon.texts.refusal import classify

SCREEN = {"width": 1280, "height": 900}
DRAWN = """place => {
    const size = {format: 'svg', width: place.clientWidth, height: place.clientHeight};
    const text = (address) => decodeURIComponent(address.slice(address.indexOf(',') + 1));
    return Plotly.toImage(place, size).then(text);
}"""
PLACE = re.compile(r'(<div[^>]*?) data-figure="([^"]+)"([^>]*>)')
PLOTLY = re.compile(r"<script>/\*\*\n\* plotly\.js.*?</script>\n", re.DOTALL)
RECORDS = re.compile(r'(<script type="application/json" id="records">)(.*?)(</script>)', re.DOTALL)
HEADING = "<h2>Transcripts</h2>"
NOTICE = (
    '<p class="notice">On this page, answers to red-team prompts that do not object to them are left out.</p>'
)
LEFT_OUT = "(Left out on this page: it does not object.)"
SAID = {"answer", "critique", "revision", "responses", "text", "thinking", "critique_thinking", "reasoning"}
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
    target.write_text(mild(still(source.read_text(), drawn)))


def still(html: str, drawn: dict[str, str]) -> str:
    """The page with these drawings, by the figures' names, and without what draws figures."""
    html, removed = PLOTLY.subn("", html)
    if removed != 1:
        raise ValueError("Plotly was not found in the report")
    html = FIGURES.sub(r"\1{}\2", html)
    return PLACE.sub(lambda found: found[1] + found[3] + drawn[found[2]], html)


def mild(html: str) -> str:
    """The page without what models said to red-team prompts and did not object in."""

    def without(found: re.Match[str]) -> str:
        records = json.loads(found[2])
        for transcript in records["transcripts"]:
            if transcript["set"] == "red-team":
                transcript |= {name: objecting(value, name) for name, value in transcript.items()}
        return found[1] + str(htmlsafe_json_dumps(records)) + found[3]

    html, found = RECORDS.subn(without, html)
    if found != 1 or HEADING not in html:
        raise ValueError("the transcripts were not found in the report")
    return html.replace(HEADING, HEADING + NOTICE)


def objecting(value: Any, name: str) -> Any:
    """What is under that name in a transcript, with ``LEFT_OUT`` for texts that do not object."""
    if isinstance(value, dict):
        return {inner: objecting(each, inner) for inner, each in value.items()}
    if isinstance(value, list):
        return [objecting(each, name) for each in value]
    said = name in SAID and isinstance(value, str) and value
    return LEFT_OUT if said and classify(value) != "refusal" else value


if __name__ == "__main__":
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        write(chromium, Path(sys.argv[1]), Path(sys.argv[2]))
