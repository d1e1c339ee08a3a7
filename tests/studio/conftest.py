# SPDX-License-Identifier: Apache-2.0
"""A studio in a process of its own, as a person starts it, and a browser before it; skipped with the reason where there is no browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")


class Running:
    """A started studio: ``folder``, ``address`` without the token, and ``url`` with it."""

    def __init__(self, folder: Path, language: str = "en", *options: str) -> None:
        self.folder, self.language, self.options = folder, language, options
        self.start("0")

    def start(self, port: str) -> None:
        environment = {**os.environ, "LORAFORGE_LANG": self.language, "PYTHONUNBUFFERED": "1"}
        words = ["studio", str(self.folder), "--port", port, "--no-browser", *self.options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "loraforge", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"(http://[\d.]+:\d+)/\?token=\S+", line):
                self.url, self.address = found[0], found[1]
                return
        raise AssertionError("".join(self.said))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends it; by default as a crash does."""
        self.process.send_signal(number)
        self.process.wait(20)
        self.said += self.process.stdout.readlines()
        self.process.stdout.close()

    def again(self) -> None:
        """Starts it at the same address."""
        self.start(self.address.rpartition(":")[2])


@pytest.fixture
def studio(tmp_path):
    """``studio(language, *options)``: a new one in a folder of its own; ended after the test."""
    begun = []

    def make(language="en", *options, folder=None):
        made = Running(folder or tmp_path / "studio", language, *options)
        begun.append(made)
        return made

    yield make
    for one in begun:
        if one.process.poll() is None:
            one.kill()
    told = "".join(line for one in begun for line in one.said)
    assert "Traceback" not in told, told


@pytest.fixture(scope="module")  # its event loop would be in the way of other modules
def browser():
    """Chromium, started once."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the studio need playwright: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("the tests of the studio need chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """``visit(studio, at="#/begin", width=1280)``: its page, let in. What scripts or the console complain of fails the test, unless one of
    the words in ``page.expected`` stands in it; so does any request to another address."""
    pages = []

    def make(studio, at="", width=1280, height=800, url=None, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(90_000)
        page = context.new_page()
        page.expected, page.complaints = [], []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on(
            "request",
            lambda asked: page.complaints.append(asked.url) if not asked.url.startswith((studio.address, "data:", "blob:")) else None,
        )
        pages.append(page)
        page.goto(url or studio.url)
        if at:
            page.goto(f"{studio.address}/{at}")
        page.wait_for_selector("#step .step")
        return page

    yield make
    heard = [text for page in pages for text in page.complaints if not any(word in text for word in page.expected)]
    for page in pages:
        page.context.close()
    assert heard == []


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """``finished("text", folder)``: a copy in ``folder`` of a work whose training is done; each task is trained once."""
    from builders.plots import blank_plots
    from builders.quiz import short_quiz
    from builders.trained_works import train

    place = tmp_path_factory.mktemp("works")
    names = {"text": "contracts", "image": "neon"}

    def make(task, folder):
        work = place / names[task]
        if not work.exists():
            with blank_plots(real=lambda: False), short_quiz():
                train(work, task)
        return Path(shutil.copytree(work, folder / work.name))

    return make
