# SPDX-License-Identifier: Apache-2.0
"""Training, watched in a browser: what happens is shown as it is, whoever is closed, killed or started again meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time

import psutil
import pytest
from builders import nightly
from builders.studio_works import TEXT, picture_work, text_work
from loraforge_studio.work.folders import Folders
from loraforge_studio.work.jobs import Jobs

LONG = TEXT.replace("epochs: 40", "epochs: 4000").replace("save_steps: 5", "save_steps: 40")


@pytest.fixture(autouse=True)
def nothing_goes_on(tmp_path):
    """Ends what a failed test would leave behind for hours."""
    yield
    for file in tmp_path.rglob("jobs/*/process.json"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)


def process_of(folder):
    """The process of the newest training."""
    file = max((folder / ".studio/jobs").glob("*/process.json"))
    return json.loads(file.read_text())


def ended(pid):
    """Waits until a process is gone."""
    for _ in range(2400):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    raise AssertionError(f"{pid} goes on")


def step(page):
    """At which step the page is."""
    return int(page.locator(".watch .figures dd").first.inner_text().split("/")[0].replace(",", ""))


def watched(page):
    """Waits until the first step is shown."""
    page.locator(".watch .figures dd", has_text=re.compile(r"^[1-9].* / 20,000")).wait_for(timeout=120_000)
    page.locator(".plot canvas").wait_for(timeout=120_000)


def test_reload_a_killed_studio_a_killed_training_stop_and_resume(studio, visit, tmp_path):
    folder = text_work(tmp_path / "studio", config=LONG)
    running = studio()
    page = visit(running, "#/train/rows")
    page.expected = ["ERR_CONNECTION", "ERR_INCOMPLETE", "404"]
    page.get_by_role("button", name="Start training").click()
    watched(page)
    label = page.locator(".plot").get_attribute("aria-label")
    page.reload()  # in the middle of it
    watched(page)
    assert label.startswith("Losses up to step") and "of 20,000" in label
    page.locator(".watch summary").click()
    page.wait_for_selector(".watch tbody tr >> nth=1", state="attached")
    first = step(page)
    running.kill()  # the studio: the training goes on
    assert psutil.pid_exists(process_of(folder)["pid"])
    running.again()
    page.goto(running.url)
    page.goto(f"{running.address}/#/train/rows")
    page.locator(".job[data-state=running]").wait_for()
    watched(page)
    assert step(page) >= first
    saved = folder / "output/rows/checkpoints"
    page.get_by_text("Saved at step").wait_for(timeout=120_000)
    os.kill(process_of(folder)["pid"], signal.SIGKILL)  # as the system does where memory runs out
    page.locator("[data-ended=failed]").wait_for()
    assert "memory runs out" in page.locator("[data-ended=failed]").inner_text()
    assert any(saved.iterdir()) and page.locator("section[data-status=interrupted]").is_visible()
    page.get_by_role("button", name="Go on").click()
    page.locator(".job[data-state=running]").wait_for()
    page.get_by_text("continued once").wait_for(timeout=120_000)
    page.get_by_role("button", name="Stop").click()
    page.locator("[data-ended=stopped]").wait_for(timeout=120_000)
    assert "--resume" in page.locator("[data-ended=stopped]").inner_text() and page.get_by_role("button", name="Train anew").is_visible()
    typed = (folder / "commands.sh").read_text()
    assert "loraforge train text rows.yaml\n" in typed and "loraforge train text rows.yaml --resume\n" in typed


def test_a_keeper_that_is_killed_hides_neither_a_training_nor_its_end(tmp_path):
    folder = text_work(tmp_path, config=TEXT.replace("epochs: 40", "epochs: 1"))  # some command that takes a while
    jobs = Jobs(Folders(tmp_path))
    work = Folders(tmp_path).work("rows")
    job = jobs.start(work, "train", ["check", "text", "rows.yaml", "--json"], "en", {"run": "./output/rows"})
    while not (job.folder / "process.json").exists():
        time.sleep(0.05)
    told = process_of(folder)
    os.kill(told["keeper"], signal.SIGKILL)
    ended(told["keeper"])
    assert Jobs(Folders(tmp_path)).find(work, job.id).state == "running"
    ended(told["pid"])
    assert Jobs(Folders(tmp_path)).find(work, job.id).state == "done" and job.as_json()["result"]["steps"] == 5


@nightly
def test_pictures_are_drawn_on_the_way_and_the_end_is_told_in_chinese(studio, visit, tmp_path):
    folder = picture_work(tmp_path / "studio")
    text_work(tmp_path / "studio", name="other")
    page = visit(studio("zh"), "#/train/blots", width=390)
    page.get_by_role("button", name="开始训练").click()
    page.locator(".job[data-state=running]").wait_for()
    page.goto(page.url.replace("/blots", "/other"))
    page.get_by_text("另一项工作正在训练：blots").wait_for()
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="开始训练").click()
    page.goto(page.url.replace("/other", "/blots"))
    page.locator("section[data-status=finished]").wait_for(timeout=120_000)
    assert "blots" in asked[0] and not (tmp_path / "studio/other/.studio/jobs").exists()
    page.locator("h2", has_text="训练完成").wait_for()
    page.locator(".samples img").first.wait_for()
    assert page.locator(".samples figure").count() == 2 and page.locator("label[for=samples-step]").inner_text() == "第 4 步之后"
    page.locator("#samples-step").press("Home")
    assert page.locator("label[for=samples-step]").inner_text() == "训练之前（基座模型）"
    assert page.locator(".samples img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert page.locator(".samples figcaption").first.inner_text() == "blot, a red square"
    assert page.locator(".words li").count() > 0 and page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.get_by_role("button", name="重新训练").is_visible() and (folder / "output/blots/manifest.json").is_file()
