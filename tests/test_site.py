# SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: it builds without a warning, everything in it leads somewhere, nothing is fetched, and words are found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from builders import ROOT

import loraforge
import loraforge.testing

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a page names (``ids``), links to, and loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file, self.language = file, ""
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "html":
            self.language = values.get("lang", "")
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loads.append(values["href"])
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.loads.append(values[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The whole site, built once: some ten seconds. A warning is an error."""
    folder = tmp_path_factory.mktemp("site") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", ROOT / "mkdocs.yml", "-d", folder]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def test_every_link_leads_somewhere(site, pages):
    dead = []
    for file, page in pages.items():
        if file.name == "404.html":
            continue  # it may be shown anywhere, so its links begin at the server's root
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or link in ("#", "javascript:void(0)"):
                continue
            target = Path(os.path.normpath(file.parent / unquote(parts.path))) if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            known = pages.get(target)
            if not target.is_relative_to(site) or not target.is_file():
                dead.append(f"{file.relative_to(site)}: {link}")
            elif parts.fragment and known and unquote(parts.fragment) not in known.ids and not parts.fragment.startswith("__"):
                dead.append(f"{file.relative_to(site)}: {link} (no such heading)")
    assert not dead, "\n".join(dead)


def test_nothing_is_fetched_from_elsewhere(site, pages):
    assert not [load for page in pages.values() for load in page.loads if urlsplit(load).scheme not in ("", "data")]
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8").replace('"', "")


def listed(nav: list) -> list[str]:
    return [name for entry in nav for part in entry.values() for name in ([part] if isinstance(part, str) else listed(part))]


def test_both_halves_have_every_page_in_one_order(site):
    english = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)["nav"]
    chinese = yaml.safe_load((ROOT / "mkdocs.zh-CN.yml").read_text(encoding="utf-8"))["nav"]
    assert listed(english) == listed(chinese)
    own = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    root = {f"project/{page.name.lower()}" for page in ROOT.glob("*.md")}
    assert set(listed(english)) == {name for name in own | root if ".zh-cn." not in name.lower()}
    for name in listed(english):
        assert (site / name).with_suffix(".html").is_file() and (site / "zh-CN" / name).with_suffix(".html").is_file()


def test_a_translation_takes_its_originals_place_and_the_switch_leads_to_the_same_page(site, pages):
    trust, original = pages[site / "zh-CN" / "trust.html"], pages[site / "trust.html"]
    assert (trust.language, original.language) == ("zh", "en")
    assert "可信性" in trust.file.read_text(encoding="utf-8") and "本页暂无中文版" not in trust.file.read_text(encoding="utf-8")
    assert "本页暂无中文版" in (site / "zh-CN" / "api.html").read_text(encoding="utf-8")
    for half, there in (("", "../zh-CN/tutorials/lawyer.html"), ("zh-CN", "../../tutorials/lawyer.html")):
        assert pages[site / half / "tutorials" / "lawyer.html"].links.count(there) == 2, "the switch, and the link at the top of the page"


def test_the_reference_has_every_public_name(pages, site):
    for page, home in (("api", loraforge), ("testing", loraforge.testing)):
        for half in ("", "zh-CN"):
            ids = pages[site / half / f"{page}.html"].ids
            assert {f"{home.__name__}.{name}" for name in home.__all__} <= ids, page


def test_every_public_name_says_what_it_is():
    griffe = pytest.importorskip("griffe")
    package = griffe.load("loraforge", search_paths=[ROOT])
    assert not [name for name in loraforge.__all__ if not package[name].has_docstring]


def test_words_of_both_languages_are_in_the_index(site):
    for half, word, place in (("", "waived", "trust.html"), ("zh-CN", "\u200b豁免\u200b", "trust.html")):
        index = json.loads((site / half / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
        found = {doc["location"].partition("#")[0] for doc in index if word in doc["text"]}
        assert place in found, found


@pytest.mark.parametrize(("half", "word", "place"), [("", "waiver", "trust.html"), ("zh-CN", "豁免", "trust.html")])
def test_the_search_finds_them_without_a_server(site, half, word, place):
    sync_api = pytest.importorskip("playwright.sync_api", reason="the search is tried in a browser: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("the search is tried in a browser: apt-get install chromium")
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / half / "index.html").as_uri())
        page.click("input.md-search__input")
        page.keyboard.type(word)
        page.keyboard.press("End")  # the search listens to keys, and Chinese is typed without any here
        page.wait_for_selector(f".md-search-result__link[href*='{place}']", state="attached", timeout=30_000)
        browser.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
