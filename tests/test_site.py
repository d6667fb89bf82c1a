"""The documentation as a site: it names and links what is there; built, it is whole, and can be searched."""

import ast
import functools
import http.server
import posixpath
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from browser import Open

ROOT = Path(__file__).parent.parent
PAGES = runpy.run_path(str(ROOT / "website/pages.py"))
PICTURES = runpy.run_path(str(ROOT / "studies/pictures.py"))
LINK = re.compile(r"\[[^\[\]]*\]\(([^)\s]+)\)")
MKDOCS = shutil.which("mkdocs", path=f"{ROOT / '.venv-docs/bin'}:{Path(sys.executable).parent}")


def pages() -> dict[str, str]:
    """The Markdown of all pages, by their places in the site."""
    return {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")} | PAGES["pages"]()


def places(entry: Any) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from places(part)


def test_every_page_is_in_the_navigation_once() -> None:
    named = list(places(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(named) == sorted(pages())


def test_every_link_leads_somewhere() -> None:
    known, count = pages(), 0
    for page, text in known.items():
        carried = {f"files/{place}" for place in PAGES["outside"](page, text)}
        for target in LINK.findall(PAGES["unfenced"](PAGES["in_site"](page, text))):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            place = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            assert place in known or place in carried or (ROOT / "docs" / place).is_file(), (page, target)
            assert not anchor or anchor in anchors(known[place]), (page, target)
            count += 1
    assert count > 100


def anchors(text: str) -> set[str]:
    """Those of a page's headings, as Python-Markdown and the viewers of repositories make them."""
    heads = re.findall(r"^#+ (.+)$", PAGES["unfenced"](text), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


def test_the_public_names_are_there() -> None:
    for _, modules in PAGES["API"].values():
        for module, names in modules.items():
            path = ROOT / "src" / module.replace(".", "/")
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            made = {target.id if isinstance(target, ast.Name) else target for target in names_in(file)}
            assert set(names.split()) <= made, module


def names_in(file: Path) -> Iterator[Any]:
    """What the module defines."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            yield from getattr(node, "targets", None) or [node.target]
        else:
            yield getattr(node, "name", "")


def test_pictures_are_those_of_the_tables() -> None:
    page = (ROOT / "docs/results.md").read_text()
    for name, picture in PICTURES["PICTURES"].items():
        drawn = PICTURES["draw"](picture, PICTURES["read"](picture, page))
        assert (ROOT / f"docs/pictures/{name}.svg").read_text() == drawn, "run studies/pictures.py"
        assert f"](pictures/{name}.svg)" in page


def test_what_the_site_needs_is_pinned() -> None:
    extra = re.search(r"^docs = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert extra
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints-docs.txt").read_text(), re.MULTILINE)
    assert set(re.findall(r'"([\w-]+)', extra[1])) <= set(pinned)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The built site, and its address."""
    if MKDOCS is None:
        pytest.skip("MkDocs is not here: 'make docs' installs it, and builds the site as strictly")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "-q", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    serve = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_the_site_is_built_strictly(site: tuple[Path, str]) -> None:
    folder, _ = site
    assert 'id="solon.stages.critique.revise"' in (folder / "api/method.html").read_text()
    assert (folder / "pictures/self.svg").exists()
    assert (folder / "files/studies/chain/config.yaml").exists()


def test_the_site_is_read_and_searched(site: tuple[Path, str], open_page: Open) -> None:
    page = open_page(site[1] + "results.html")
    assert page.locator("img").evaluate_all("all => all.every(each => each.naturalWidth > 100)")
    page.locator(".md-search__input").press_sequentially("length_control")
    page.locator(".md-search-result__item", has_text="Configuration").first.wait_for()
