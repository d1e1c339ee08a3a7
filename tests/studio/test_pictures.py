# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/studio.md, made by an example that is brought through all steps. Only on demand: LORAFORGE_PICTURES=1 pytest -n 0 FILE"""

from __future__ import annotations

import os
import time

import httpx
import pytest
from builders import ROOT

STEPS = ("begin", "data", "choose", "train", "judge", "handon", "shelf")
pytestmark = pytest.mark.skipif(os.environ.get("LORAFORGE_PICTURES") != "1", reason="makes pictures: LORAFORGE_PICTURES=1")


@pytest.mark.parametrize(("language", "example"), [("en", "pharmacy-en"), ("zh", "legal"), ("en", "cyberpunk")])
def test_pictures_of_every_step(studio, visit, language, example):
    """docs/images/studio-STEP-LANGUAGE.png and, of a phone in the dark, studio-STEP-LANGUAGE-phone.png."""
    running = studio(language)
    page = visit(running)
    mark = page.evaluate("fetch('/api/session').then((answer) => answer.json())")["mark"]
    cookies = {one["name"]: one["value"] for one in page.context.cookies()}
    with httpx.Client(base_url=running.address, cookies=cookies, headers={"X-LoRAForge-Studio": mark}, timeout=300) as client:
        work = client.post("/api/works", json={"name": example, "example": example}).raise_for_status().json()["name"]
        page.goto(f"{running.address}/#/train/{work}")
        page.wait_for_selector("#step .step-train")
        start = page.locator("#step button.primary").first
        if start.count():  # the step begins a training by its main button
            start.click()
            end = time.monotonic() + 1200
            while not (shown := client.get(f"/api/works/{work}").json())["finished"] or shown["running"]:
                assert time.monotonic() < end
                picture(page, running, work, "train", language, example)  # while it runs
                time.sleep(5)
    for step in STEPS:
        if step != "train":
            picture(page, running, work, step, language, example)


def picture(page, running, work, step, language, example):
    """Of a screen in the light, and of a phone in the dark."""
    name = f"studio-{step}-{'pictures' if example == 'cyberpunk' else language}"
    for width, theme, ending in ((1280, "light", ""), (390, "dark", "-phone")):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.goto(f"{running.address}/#/{step}/{work}")
        page.wait_for_selector(f"#step .step-{step} h1")
        page.wait_for_timeout(1500)
        page.screenshot(path=ROOT / "docs" / "images" / f"{name}{ending}.png")
