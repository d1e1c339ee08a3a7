# SPDX-License-Identifier: Apache-2.0
"""A browser and a server that it looks at, one of each for all tests of the page; skipped with the reason where there is no browser."""

from __future__ import annotations

import io
import shutil

import pytest
from builders.serving import FakeChat, fake_server, fake_version, listening

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
FACTS = {
    "verdict": "better",
    "headline": "cites the right article",
    "examples": 36,
    "sentences": ["The adapter is better than the base.", "Nothing was forgotten."],
    "lines": [
        {"measure": "refuses", "stratum": "new", "n": 27, "groups": 9, "base": 0.25, "adapter": 0.0, "difference": -0.25,
         "interval": [-0.5, 0.1], "share": True, "lower_is_better": True, "verdict": "no evidence"},
        {"measure": "cites the right article", "stratum": "new", "n": 27, "base": 0.083, "adapter": 0.611, "difference": 0.528,
         "interval": [0.333, 0.722], "share": True, "lower_is_better": False, "verdict": "better"},
        {"measure": "loss", "stratum": "reworded", "n": 9, "base": 2.5, "adapter": 1.25, "difference": -1.25, "interval": None,
         "share": False, "lower_is_better": True, "verdict": "too few"},
    ],
    "figures": [],
    "caution": ["Whether an answer is right, experts judge.", "<img src=x onerror=document.title='caution'>"],
}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    """Chromium, started once."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("the tests of the page need chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A running server with the adapters legal and <b>odd</b> and their base, whose ``feedback`` is kept and whose backend may pause."""
    server = fake_server((), feedback=tmp_path_factory.mktemp("feedback") / "feedback.jsonl")
    server.library.put(fake_version("legal", title="Labour law", facts=FACTS, example="How long is a probation period?"))
    server.library.put(fake_version("<b>odd</b>", title="<img src=x onerror=document.title='title'>"))
    for version in server.library.versions():
        object.__setattr__(version, "chat", FakeChat(longest=None))
    with listening(server) as server.address:
        yield server


class Painter:
    """Draws a grey square: the darker, the stronger; ``drawn`` is what it was asked for."""

    def __init__(self) -> None:
        self.drawn = []

    def draw(self, version, strengths, prompts, settings, wanted):
        self.drawn.append((strengths, settings))
        return [png(int(255 - 100 * sum(strengths.values()))) for _ in prompts]


def png(grey: int) -> bytes:
    """A square of 8 x 8."""
    from PIL import Image

    data = io.BytesIO()
    Image.new("L", (8, 8), grey).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A running server of the image adapters neon and ink; it asks for the token in ``gallery.token``."""
    from loraforge_serve.access.tokens import Tokens, new_token

    file = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    token = new_token(file, "anna", False)
    server = fake_server((), tokens=Tokens(file), painter=Painter())
    for name in ("neon", "ink"):
        version = fake_version(name, kind="image", title=name.title())
        object.__setattr__(version, "chat", None)
        server.library.put(version)
    server.library.base, server.token = None, token
    with listening(server) as server.address:
        yield server


@pytest.fixture
def backend(served):
    """The rule that answers: ``<name> heard: <question>``, letter by letter. Its ``pause`` is set back after the test."""
    yield served.library.backend
    served.library.backend.pause = 0.0


@pytest.fixture(scope="module")
def window(browser):
    """The window that tests without wishes of their own share: a new one takes longer than most tests."""
    return Window(browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US"))


class Window:
    """A page, and what its scripts and its console complained of."""

    def __init__(self, context) -> None:
        context.set_default_timeout(15_000)
        self.page, self.complaints = context.new_page(), []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)


@pytest.fixture
def visit(browser, served, window):
    """``visit(**context)``: the page as if for the first time, loaded. What its scripts or its console complain of fails the test.

    Args:
        at: the server, if not ``served``.
        expected: words of complaints that belong to the test.
        wait: until a question can be asked.
    """
    opened, allowed = [], []

    def make(*, wait=True, expected=(), at=None, **options):
        if options:
            options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **options}
            used = Window(browser.new_context(**options))
        else:
            used = window
            used.page.unroute_all()
            used.page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # wanted by a picture that is looked at alone
            used.page.goto(f"{(at or served).address}/assets/icon.svg")
            used.page.evaluate("localStorage.clear(), sessionStorage.clear()")
        used.complaints.clear()
        opened.append(used)
        allowed.extend(expected)
        used.page.goto((at or served).address)
        if wait:
            used.page.wait_for_selector("#ask:enabled")
        return used.page

    yield make
    heard = [text for one in opened for text in one.complaints if not any(word in text for word in allowed)]
    for one in opened:
        if one is not window:
            one.page.context.close()
    assert heard == []
