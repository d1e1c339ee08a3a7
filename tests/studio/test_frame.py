# SPDX-License-Identifier: Apache-2.0
"""The frame of the page: steps, languages, colours, the keyboard, and what people hear who do not see it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time

import pytest
from builders import ROOT
from builders.axe import serious

ASSETS = ROOT / "plugins" / "loraforge_studio" / "page" / "assets"
STEPS = ("begin", "data", "choose", "train", "judge", "handon", "shelf")
SCRIPTS = sorted(file for file in ASSETS.rglob("*.js") if "vendor" not in file.parts)


def begun(running, name="contracts"):
    """A work in the folder of a studio, as somebody left it."""
    folder = running.folder / name
    (folder / ".studio").mkdir(parents=True)
    (folder / f"{name}.yaml").write_text("task_type: text-generation\nbase_model: tiny-chat\nepochs: 1\n", encoding="utf-8")
    return folder


# --- words ------------------------------------------------------------------------------------------------------------------


def all_words(tmp_path):
    """The words as the page has them, read by node; each file by itself."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node reads the words: apt-get install nodejs")
    for file in (ASSETS / "words").glob("*.js"):
        text = file.read_text(encoding="utf-8").replace("/assets/words/own.js", "./own.mjs")
        (tmp_path / f"{file.stem}.mjs").write_text(text, encoding="utf-8")
    names = sorted(file.stem for file in (ASSETS / "words").glob("*.js") if file.stem != "own")
    script = "".join(f"import {name} from './{name}.mjs';\n" for name in names) + f"console.log(JSON.stringify({{{', '.join(names)}}}));"
    (tmp_path / "all.mjs").write_text(script)
    return json.loads(subprocess.run([node, "all.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout)


def test_every_word_is_there_in_both_languages_is_used_and_none_is_missing(tmp_path):
    found = all_words(tmp_path)
    assert set(found) == {"common", *STEPS}
    english, owner = {}, {}
    for name, both in found.items():
        assert both["en"].keys() == both["zh"].keys(), name
        for key, sentence in both["en"].items():
            assert key not in owner, f"{key} is in words/{owner.get(key)}.js and words/{name}.js"
            owner[key], english[key] = name, sentence
            chinese = both["zh"][key]
            assert sentence.strip() and chinese.strip() and places(sentence) >= places(chinese), key
            assert (
                re.search("[\u4e00-\u9fff]", chinese)
                or not re.search("[A-Za-z]{4}", re.sub(r"\{[^}]*\}", "", chinese))
                or sentence == chinese
                or key == "other_language"
            ), key
    source = {file: file.read_text(encoding="utf-8") for file in SCRIPTS if file.parent.name != "words"}
    asked = {key: file.name for file, text in source.items() for key in re.findall(r"""\bt\(\s*["'](\w+)["']""", text)}
    own = {key.rpartition(".")[2] for key in english}  # of a step's own words the scripts say the last part
    assert not {key: name for key, name in asked.items() if key not in english and key not in own}
    begins = {begin for text in source.values() for begin in re.findall(r"`(\w+_)\$\{", text)}
    whole = "\n".join(source.values())
    unused = [
        key
        for key in english
        if not {key, last := key.rpartition(".")[2]} & asked.keys()
        and not last.startswith(tuple(begins))
        and not re.search(rf"""["'`]{last}["'`]""", whole)
    ]
    assert not unused, " ".join(unused)


def places(sentence):
    return set(re.findall(r"\{(\w+)", sentence))


def test_the_scripts_are_sound_and_make_no_markup():
    node = shutil.which("node")
    assert len(SCRIPTS) > 20
    for file in SCRIPTS:
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://(?!www\.w3\.org)", text
        ), file.name
        if node is not None:
            done = subprocess.run([node, "--input-type=module", "--check"], input=text, capture_output=True, text=True)
            assert done.returncode == 0, f"{file.name}: {done.stderr[:500]}"
    page = (ASSETS / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"style=|<style|\son\w+=|javascript:|<script(?![^>]*src=\"/assets/)", page)


# --- the page ---------------------------------------------------------------------------------------------------------------


def test_the_page_speaks_the_language_of_the_terminal_and_changes_it(studio, visit):
    running = studio("zh")
    page = visit(running)
    assert page.locator("#steps").inner_text().split()[1] == "开始"
    assert page.evaluate("document.documentElement.lang") == "zh-CN" and page.locator("#language").get_attribute("lang") == "en"
    page.click("#language")
    page.wait_for_selector("#steps :text('Begin')")
    assert page.evaluate("document.documentElement.lang") == "en"
    page.reload()
    page.wait_for_selector("#steps :text('Begin')")
    page.expected.append("404")
    page.goto(f"{running.address}/#/data/none")
    page.wait_for_selector("#problems li")
    assert page.locator("#problems").inner_text().splitlines()[1].startswith("there is no work 'none' in")


def test_axe_finds_nothing_serious_in_any_step(studio, visit):
    running = studio()
    begun(running)
    page = visit(running)
    page.expected.append("422")  # its data are not there
    heard = []
    for language, views in (("en", ((1280, "light"), (390, "dark"))), ("zh", ((1280, "dark"), (390, "light")))):
        for width, theme in views:
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            for step in STEPS:
                page.goto(f"{running.address}/#/{step}/contracts")
                page.wait_for_selector(f"#step .step-{step}")
                heard += [f"{step} {language} {width} {theme}: {one}" for one in serious(page)]
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (step, width)
        if language == "en":
            page.click("#language")
            page.wait_for_selector("html[lang^=zh]")
    assert heard == []
    refused = page.context.browser.new_context().new_page()
    refused.goto(running.address)
    assert serious(refused) == [] and "has not been let in" not in refused.inner_text("h1")
    refused.context.close()


def test_by_the_keyboard_one_reaches_the_work_and_hears_where_one_is(studio, visit):
    running = studio()
    begun(running)
    page = visit(running)
    page.expected.append("422")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    assert page.locator("#skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "H1" and "#" not in page.url
    page.goto(f"{running.address}/#/data/contracts")
    page.wait_for_selector("#step .step-data h1:focus")
    page.focus("#steps a[href='#/train/contracts']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#step .step-train h1:focus")
    assert page.locator("#steps [aria-current=step]").inner_text().endswith("Train")
    assert page.title() == "Train – contracts – LoRAForge"
    page.wait_for_selector("#status:has-text('Train')", state="attached")
    page.keyboard.press("Shift+Tab")
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    assert [page.locator(tag).count() for tag in ("main", "header", "nav[aria-label]", "h1")] == [1, 1, 1, 1]
    page.go_back()
    page.wait_for_selector("#step .step-data h1:focus")


def test_an_odd_address_opens_the_page_and_runs_nothing(studio, visit):
    running = studio()
    page = visit(running)
    page.expected.append("404")
    for address in (
        "#/%",
        "#/%E4%/x",
        "#/__proto__/x",
        "#/begin/<img src=x onerror=document.title=1>",
        "#/../x",
        "#step",
        "#/train/..%2f..%2fx",
        "#/data/" + "y" * 3000,
    ):
        page.goto(f"{running.address}/{address}")
        page.wait_for_selector("#step .step")
        page.locator("#steps a").first.click()
        page.wait_for_selector("#step .step-begin h1")
        assert page.locator("#step img").count() == 0 and "LoRAForge" in page.title()


def test_colours_are_the_systems_until_somebody_chooses(studio, visit):
    running = studio()
    page = visit(running, color_scheme="dark")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(paper)
    page.click("#theme")
    light = page.evaluate(paper)
    assert dark != light
    page.reload()
    page.wait_for_selector("#step .step")
    assert page.evaluate(paper) == light
    page.click("#theme")
    assert page.evaluate(paper) == dark


def test_when_the_studio_is_gone_the_page_says_so_and_goes_on_when_it_is_back(studio, visit):
    running = studio()
    folder = begun(running)
    page = visit(running, "#/data/contracts")
    page.expected += ["ERR_", "Failed to fetch", "404", "422"]
    running.kill()
    page.click("#steps a[href='#/train/contracts']")
    page.wait_for_selector("#problems:has-text('does not answer')")
    running.again()
    page.click("#steps a >> nth=6")
    page.wait_for_selector("#step .step-shelf h1")
    page.goto(f"{running.address}/#/data/contracts")
    page.wait_for_selector("#step .step-data h1")
    assert page.locator("#problems").is_hidden() and page.locator("#work-name").inner_text() == "contracts"
    folder.rename(folder.with_name("renamed"))
    page.click("#steps a[href='#/choose/contracts']")
    page.wait_for_selector("#problems:has-text(\"there is no work 'contracts'\")")
    page.click("#problems button")
    assert page.locator("#problems").is_hidden()


def test_a_job_is_followed_in_two_tabs_and_stopped_in_one(studio, visit):
    """By the card that all steps use, put on a page that has none of its own."""
    running = studio()
    folder = begun(running)
    job = folder / ".studio" / "jobs" / "20260101-000000-000aaaa"
    job.mkdir(parents=True)
    script = """async () => {
      const { jobCard } = await import("/assets/parts/jobs.js");
      const { get, of } = await import("/assets/api.js");
      const info = await get(of("contracts"));
      document.querySelector("#step .step").append(jobCard(info.jobs[0], { title: "Test" }));
    }"""
    inner = subprocess.Popen(["sh", "-c", "trap '' INT; while :; do sleep 1; done"], start_new_session=True)  # it takes its time
    try:
        from loraforge_studio.work.processes import identity

        (job / "job.json").write_text(json.dumps({"kind": "test", "argv": ["list", "<b>x</b>"], "started": time.time(), "about": {}}))
        (job / "process.json").write_text(json.dumps({"pid": inner.pid, "identity": identity(inner.pid)}))
        (job / "err.txt").write_text("first <img src=x>\n")
        pages = [visit(running, "#/data/contracts"), None]
        pages[0].expected.append("422")
        pages[1] = pages[0].context.new_page()
        pages[1].goto(f"{running.address}/#/data/contracts")
        pages[1].wait_for_selector("#step .step")
        for page in pages:
            page.evaluate(script)
            page.wait_for_selector(".job .said:has-text('first <img src=x>')")
            assert page.locator(".job .state").inner_text() == "under way"
            assert serious(page) == []
        seen = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }); document.dispatchEvent(new Event('visibilitychange')); }"
        pages[1].evaluate(seen, True)  # nobody looks at it: it lets its line go, of which a browser has six
        with (job / "err.txt").open("a") as file:
            file.write("second\n")
        pages[0].wait_for_selector(".job .said:has-text('second')")
        assert "second" not in pages[1].locator(".job .said").inner_text()
        pages[1].evaluate(seen, False)
        pages[1].wait_for_selector(".job .said:has-text('second')")
        pages[0].click(".job button")
        pages[1].wait_for_selector(".job .state:has-text('saves what it has')")
        pages[0].click(".job button:has-text('Do not wait, end it')")
        assert inner.wait(10) == -15
        for page in pages:
            page.wait_for_selector(".job[data-state=gone]:has-text('Nobody saw its end')")  # nobody stood by it
            assert page.locator(".job button").is_hidden()
        assert pages[0].locator("#commands code", has_text="loraforge list '<b>x</b>'").count()
    finally:
        inner.kill()
        inner.wait()


def test_a_list_of_a_million_things_shows_its_last_and_keeps_the_keyboard(studio, visit):
    page = visit(studio())
    page.evaluate("""async () => {
      const { virtual } = await import("/assets/parts/virtual.js");
      const { make } = await import("/assets/dom.js");
      window.list = virtual({ count: 1e6, height: 24, draw: (index) => make("div", { tabIndex: 0, className: "one" }, `row ${index}`), label: "rows" });
      document.querySelector("#step .step").append(window.list.element);
    }""")
    page.wait_for_selector("text=row 0")
    page.focus("text='row 3'")
    page.evaluate("window.list.element.scrollTop = 1e9")
    page.wait_for_selector("text='row 999999'")
    box, list_box = page.locator("text='row 999999'").bounding_box(), page.locator(".virtual").bounding_box()
    assert box["y"] + box["height"] <= list_box["y"] + list_box["height"] + 2
    assert page.evaluate("document.activeElement.textContent") == "row 3" and page.locator(".virtual .one").count() < 100
    page.evaluate("window.list.reveal(500000)")
    assert page.locator("text='row 500000'").is_visible()
    page.evaluate("window.list.refresh(0)")
    assert page.locator(".virtual .one").count() == 0


def test_without_a_network_and_seen_by_a_phone(studio, visit):
    """The fixture fails the test for any request that leaves this computer; here no other could be made."""
    running = studio("zh")
    begun(running)
    page = visit(running, "#/begin/contracts", width=390, height=780, color_scheme="dark", device_scale_factor=2)
    page.expected.append("422")
    page.context.route(lambda url: not url.startswith(running.address), lambda route: route.abort())
    for step in STEPS:
        page.goto(f"{running.address}/#/{step}/contracts")
        page.wait_for_selector(f"#step .step-{step} h1")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), step
