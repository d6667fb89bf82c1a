"""The report, the comparison of runs and the viewer in a real browser, as a reader uses them."""

import json
import re
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import run_folder
from browser import PHONE, SCREEN, Open, all_drawn
from solon import report
from solon.records import SETS
from solon.report import runs_compared
from solon.report.viewer import Viewer
from solon.store.record_file import RecordFile

TRANSCRIPTS = 72


class Shown(NamedTuple):
    """Where a reader finds a run."""

    report: str
    transcripts: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run_folder.build(tmp_path_factory.mktemp("runs") / "kind-model", prompts=48, gain=0.3)
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def viewed(run: Path) -> Iterator[Shown]:
    with Viewer(run, 0) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield Shown(viewer.address, f"{viewer.address}transcripts")
        viewer.shutdown()
        thread.join()


@pytest.fixture(params=["file", "viewer"])
def shown(request: pytest.FixtureRequest, run: Path) -> Shown:
    if request.param == "viewer":
        return request.getfixturevalue("viewed")  # type: ignore[no-any-return]
    address = (run / "report.html").as_uri()
    return Shown(address, address)


def listed(page: Any, count: str) -> list[str]:
    """The titles on the page of the list, once it tells that so many were found."""
    page.locator("#shown", has_text=re.compile(f"^{count} of {TRANSCRIPTS} transcripts$")).wait_for()
    return page.locator("#list summary").all_inner_texts()  # type: ignore[no-any-return]


def test_every_plot_is_drawn(shown: Shown, open_page: Open) -> None:
    assert all_drawn(open_page(shown.report)) > 10


def test_a_report_for_the_docs_is_small_and_looks_the_same(
    run: Path, chromium: Any, open_page: Open, tmp_path: Path
) -> None:
    target = tmp_path / "report.html"
    report = runpy.run_path(str(Path(__file__).parent.parent / "studies/report.py"))
    report["write"](chromium, run, target)
    whole, small = open_page((run / "report.html").as_uri()), open_page(target.as_uri())
    assert target.stat().st_size < 2_000_000 < (run / "report.html").stat().st_size
    assert small.locator(".plot > svg").count() == all_drawn(whole)
    for page in (whole, small):
        page.locator("#shown", has_text=f"of {TRANSCRIPTS} transcripts").wait_for()
    assert small.locator("h1, .verdict").all_inner_texts() == whole.locator("h1, .verdict").all_inner_texts()
    assert target.with_suffix(".png").exists()
    shown = json.loads(small.locator("#records").text_content() or "")["transcripts"]
    answered = [(each["set"], answer["text"]) for each in shown for answer in each.get("answers", [])]
    left_out = {
        of_set: {text == report["LEFT_OUT"] for name, text in answered if name == of_set} for of_set in SETS
    }
    assert left_out == {"red-team": {True}, "helpful": {False}}  # none of its answers objects
    for text in ("I won't help with that, because it would hurt him.", ""):
        assert report["objecting"]([{"text": text}], "answers") == [{"text": text}]


def test_the_first_screen_answers_in_a_sentence_and_a_plot(run: Path, open_page: Open) -> None:
    page = open_page((run / "report.html").as_uri())
    for screen in (SCREEN, PHONE):
        page.set_viewport_size(screen)
        for part in (".verdict", "[data-figure=elo] .main-svg >> nth=0"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= screen["height"], (part, screen)
    assert page.locator(".verdict").inner_text().startswith("It worked:")


def test_a_reader_searches_filters_sorts_and_turns_pages(shown: Shown, run: Path, open_page: Open) -> None:
    page = open_page(shown.transcripts)
    first = listed(page, str(TRANSCRIPTS))
    assert len(first) == 50
    page.get_by_role("button", name="Next").click()
    page.locator("#list > :nth-child(22):last-child").wait_for()
    assert page.get_by_role("button", name="Next").is_disabled()
    assert set(page.locator("#list summary").all_inner_texts()).isdisjoint(first)
    search = page.get_by_role("searchbox")
    search.fill("ALERT(1)")
    assert len(listed(page, "1")) == 1
    search.fill("no such words")
    assert listed(page, "0") == []
    assert page.locator("#pages").is_hidden()
    search.fill("")
    page.locator("#set").select_option("helpful")
    assert all("helpful · everyday" in each for each in listed(page, "24"))
    page.locator("#set").select_option("")
    page.locator("#kind").select_option("privacy")
    assert all("privacy" in each for each in listed(page, "12"))
    page.locator("#kind").select_option("")
    page.locator("#principle").select_option("Wiser")
    by_wiser = [
        each
        for each in RecordFile(run / "05-feedback/preferences.jsonl")
        if "Wiser" in [vote["principle"] for vote in each["votes"]]
    ]
    listed(page, str(len(by_wiser)))
    page.locator("#list summary").first.click()
    assert "Wiser" in page.locator("#list details[open] .body").inner_text()
    page.locator("#principle").select_option("")
    page.locator("#order").select_option("spread")
    listed(page, str(TRANSCRIPTS))
    page.locator("#list > :first-child", has_text="disagreement").wait_for()
    told = page.locator("#list summary").all_inner_texts()
    spreads = [int(found[1]) for each in told if (found := re.search(r"disagreement (\d+)%", each))]
    assert len(spreads) > 30
    assert spreads == sorted(spreads, reverse=True)


def test_both_find_the_same(run: Path, viewed: Shown, open_page: Open) -> None:
    """The report filters what it holds, the viewer what it reads from files: neither may differ."""
    pages = [open_page((run / "report.html").as_uri()), open_page(viewed.transcripts)]
    asked = "wanted => find({search: '', set: '', kind: '', principle: '', order: '', ...wanted}, 1, '')"
    for wanted in (
        {},
        {"search": "first shown"},
        {"search": "Ein “Anführungszeichen”"},
        {"search": 'say "no"'},
        {"search": "ANOTHER way", "set": "red-team", "order": "spread"},
        {"kind": "hate", "principle": "Respects privacy"},
        {"order": "spread", "principle": "Wiser"},
    ):
        one, other = (page.evaluate(asked, wanted) for page in pages)
        assert one["found"] == other["found"], wanted
        assert [each["id"] for each in one["transcripts"]] == [each["id"] for each in other["transcripts"]]
        assert one["choices"] == other["choices"]
    everything = pages[1].evaluate(asked, {})
    assert everything["transcripts"][0] == pages[0].evaluate(asked, {})["transcripts"][0]


def test_a_permalink_opens_its_transcript(shown: Shown, run: Path, open_page: Open) -> None:
    record = RecordFile(run / "01-red-team/prompts.jsonl").read()[-1]  # on the second page
    page = open_page(f"{shown.transcripts}#{record['id']}")
    opened = page.locator("#list details[open]")
    opened.wait_for()
    assert record["prompt"][0]["content"] in opened.inner_text()
    assert page.evaluate("document.activeElement.closest('details').open")
    assert page.locator("#page").input_value() == "2"
    page.get_by_role("searchbox").fill("no such words")
    listed(page, "0")
    other = RecordFile(run / "02-critique/revisions.jsonl").read()[1]
    page.evaluate("id => { location.hash = id; }", other["id"])  # though the search hides it
    opened.wait_for()
    assert other["answer"] in opened.inner_text()
    assert page.get_by_role("searchbox").input_value() == ""
    page.get_by_role("link", name="Link to this transcript").click()
    assert page.url == f"{shown.transcripts}#{other['id']}"
    page.evaluate("location.hash = '%E0%A4%A'")  # no such id, nor any text
    listed(page, str(TRANSCRIPTS))


def test_what_a_model_wrote_is_shown_as_text(shown: Shown, run: Path, open_page: Open) -> None:
    page = open_page(shown.transcripts)
    page.get_by_role("searchbox").fill("<script>")
    listed(page, "1")
    page.locator("#list summary").click()
    assert run_folder.ATTACK in page.locator("#list .body").inner_text()
    assert page.locator("#list script, #list img").count() == 0


def test_only_the_pages_own_scripts_run(shown: Shown, chromium: Any) -> None:
    """What a model wrote would not run even if it were markup: the policy names our scripts."""
    context = chromium.new_context()
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(shown.transcripts)
    ran = page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<img src=x: onerror='window.ran = true'>");
          return new Promise((done) => setTimeout(() => done("ran" in window), 200));
        }"""
    )
    context.close()
    assert not ran
    assert len(refused) >= 2
    assert all("Content Security Policy" in each for each in refused)


def test_the_keyboard_reaches_everything(shown: Shown, open_page: Open) -> None:
    page = open_page(shown.transcripts)
    listed(page, str(TRANSCRIPTS))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(400):
        if page.evaluate("document.activeElement.id") == "next":
            break
        page.evaluate("document.activeElement.dataset.reached = ''")
        page.keyboard.press("Tab")
    missed = page.evaluate(
        """() => [...document.querySelectorAll("a[href], input, select, summary, button:not([disabled])")]
          .filter((each) => each.checkVisibility() && each.id !== "next" && !("reached" in each.dataset)
            && !each.closest("footer")).map((each) => each.outerHTML)"""
    )
    assert missed == []
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"  # one sees where one is
    page.keyboard.press("Enter")
    page.locator("#list > :nth-child(22):last-child").wait_for()
    page.keyboard.press("Enter")  # the first transcript of the page has the focus
    page.locator("#list details[open] .body").wait_for()


def test_transcripts_are_no_wider_than_a_phone(shown: Shown, open_page: Open) -> None:
    page = open_page(shown.transcripts, PHONE, device_scale_factor=2, has_touch=True)
    page.locator("#list summary").first.wait_for()
    for summary in page.locator("#list summary").all()[:3]:
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


CONTRAST = """(selector) => {
  const light = (css) => {
    const parts = css.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const style = getComputedStyle(document.querySelector(selector));
  const text = light(selector.includes("tick") ? style.fill : style.color);
  return (Math.max(page, text) + 0.05) / (Math.min(page, text) + 0.05);
}"""


def test_text_is_readable_in_light_and_dark(run: Path, open_page: Open) -> None:
    """With the contrast of 4.5 to 1 that WCAG 2.2 asks for at level AA (success criterion 1.4.3)."""
    page = open_page((run / "report.html").as_uri())
    inks = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) > 3 * 128) == (scheme == "light")
        for selector in ("body", ".quiet", "nav a", "dt", "figcaption", ".title", ".tags", ".xtick text"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, (scheme, selector)
        inks.add(page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill"))
    assert len(inks) == 2  # plots follow


def test_the_viewer_shows_what_a_run_adds(tmp_path: Path, open_page: Open) -> None:
    folder = run_folder.build(tmp_path / "growing", prompts=6)
    prompts = RecordFile(folder / "01-red-team/prompts.jsonl")
    with Viewer(folder, 0) as viewer:
        threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            page = open_page(f"{viewer.address}transcripts")
            page.get_by_text("9 of 9 transcripts").wait_for()
            new = {**prompts.read()[0], "id": "new", "prompt": [{"role": "user", "content": "Anything new?"}]}
            prompts.append(new)
            page.reload()
            page.get_by_text("10 of 10 transcripts").wait_for()
            assert "Anything new?" in page.locator("#list").inner_text()
        finally:
            viewer.shutdown()


def test_a_comparison_of_runs_is_drawn(run: Path, tmp_path: Path, open_page: Open) -> None:
    other = run_folder.build(tmp_path / "other", prompts=12, gain=0.0)
    runs_compared.write([run, other], tmp_path / "comparison.html")
    page = open_page((tmp_path / "comparison.html").as_uri(), PHONE)
    assert all_drawn(page) > 5
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
