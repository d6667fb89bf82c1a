"""A real browser for tests of pages: Chromium, driven by Playwright.

Every page that a test opens must be silent on the console and ask nobody but where it came from.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE = {"width": 390, "height": 844}
SCREEN = {"width": 1280, "height": 640}

Open = Callable[..., Any]


@pytest.fixture(scope="module")  # no longer: while it lasts, nothing else can run an event loop
def chromium() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("there is no Chromium here to open pages in")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])  # it may be root's
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens an address in a window of its own; what it must not do is told at the end of the test."""
    contexts, wrong = [], []

    def opened(address: str, viewport: dict[str, int] = SCREEN, **options: Any) -> Any:
        context = chromium.new_context(viewport=viewport, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        origin = re.match(r"file://|http://[^/]+/", address)
        assert origin
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda sent: sent.url.startswith(origin[0]) or wrong.append(sent.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def all_drawn(page: Any) -> int:
    """How many figures the page has, each drawn."""
    plots = page.locator("[data-figure]").all()
    assert len(plots) == page.evaluate("Object.keys(figures).length")
    for plot in plots:
        assert plot.locator("svg.main-svg").first.bounding_box()["height"] > 100
        assert plot.locator(".trace, .errorbars, .hm").count() > 0, plot.get_attribute("data-figure")
    return len(plots)
