# SPDX-License-Identifier: Apache-2.0
"""The step "judge": figures, questions of one's own, blind grading by keyboard, checkpoints."""

from __future__ import annotations

import json
import re

import openpyxl
from builders import nightly

QUESTION = "第99问：加班费怎么算？"


def test_a_text_run_is_compared_asked_and_graded_blind(studio, visit, finished, tmp_path):
    work = finished("text", tmp_path / "studio")
    run = work / "output" / "contracts"
    told = json.loads((run / "eval.json").read_text(encoding="utf-8"))
    running = studio()
    page = visit(running, "#/judge/contracts")
    assert page.locator(".verdict").first.inner_text() == told["sentence"][0]
    figures = page.locator(".figures dt").all_inner_texts()
    assert figures[0] == f"Answer never learned ({told['parts']['new']})"
    first = told["rows"][0]
    assert first["question"] in page.locator(".pair").first.inner_text()
    assert first["adapter"].split()[0] in page.locator(".pair").first.locator(".answer.own").inner_text()

    page.click("nav.tabs >> text=Try it yourself")
    page.fill("#prompt", f"--base {QUESTION}")  # what looks like an option is a question here
    page.click("summary:has-text('Checkpoints, strengths')")
    page.fill("#option-max-tokens", "8")
    page.get_by_role("button", name="Ask", exact=True).click()
    answers = page.locator("[data-answered] .who")
    answers.nth(1).wait_for(timeout=120_000)
    assert answers.all_inner_texts() == ["base", "contracts"]
    assert page.locator("[data-answered] h2").inner_text() == f"--base {QUESTION}"
    assert QUESTION in (work / "commands.sh").read_text(encoding="utf-8")

    page.click("nav.tabs >> text=Judge blind")
    page.get_by_role("button", name="Prepare a sheet").click()
    page.fill("#grader", "李 Anna", timeout=120_000)
    page.get_by_role("button", name="Begin to judge").click()
    page.wait_for_selector(".blind")
    shown = page.locator(".blind").inner_text()
    assert "base" not in shown and "adapter" not in shown
    for key in ("1", "6", "a", "ArrowRight", "2"):
        page.keyboard.press(key)
    page.wait_for_selector("text=Saved")
    page.fill("#remark", "=1+1 引用错误")
    page.locator("#remark").blur()
    page.wait_for_selector("text=Saved")
    book = work / "review" / "contracts-1.李 Anna.xlsx"
    sheet = openpyxl.load_workbook(book).worksheets[0]
    assert sheet["C1"].value == "李 Anna"
    cells = [[sheet.cell(row, column).value for column in (6, 7, 8, 9)] for row in (4, 5)]
    assert cells == [["yes", "no", "A", None], ["partly", None, None, "=1+1 引用错误"]]
    page.reload()
    page.wait_for_selector("h2:has-text('Question 2 of')")
    assert page.locator("[data-name=a_ok] [aria-pressed=true]").inner_text().startswith("partly")
    page.keyboard.press("2")  # taken back

    page.click("text=All sheets")
    page.click("summary:has-text('Bring a sheet')")
    filled = openpyxl.load_workbook(book)
    filled.worksheets[0]["C1"] = "王"
    filled.save(tmp_path / "wang.xlsx")
    page.set_input_files("#filled", tmp_path / "wang.xlsx")
    page.wait_for_selector("[data-sheet='uploads/review/wang.xlsx']:has-text('1 of')")
    page.get_by_role("button", name="Count them").click()
    page.wait_for_selector("[data-part=grades]", timeout=120_000)
    key = json.loads((run / "review-keys.json").read_text(encoding="utf-8"))
    side = next(iter(key["sheets"].values()))["rows"][0]["a"]
    assert page.locator("[data-part=grades] dd:not(.soft)").nth(1).inner_text() == ("1 : 0" if side == "adapter" else "0 : 1")
    page.goto(f"{running.address}/#/judge/contracts/compare")
    page.wait_for_selector("[data-part=grades]:has-text('李 Anna (1), 王 (1)')")  # it stands in the run


@nightly
def test_pictures_stand_in_a_grid_and_another_checkpoint_becomes_the_adapter_in_chinese(studio, visit, finished, tmp_path):
    work = finished("image", tmp_path / "studio")
    page = visit(studio("zh"), "#/judge/neon/checkpoints", width=390)
    page.wait_for_selector("tr[data-step='4']")
    assert "当前适配器" in page.locator("tr[data-step='4']").inner_text()
    assert page.locator(".pair .picture").count() == 6  # two prompts, before the training and at two steps
    page.click("text=用它们画同一幅画")
    page.wait_for_selector("#step-2:checked")
    page.fill("#prompt", "a red ball")
    page.fill("#scales", "0.5，1")
    page.fill("#option-steps", "2")
    page.get_by_role("button", name="作画").click()
    page.wait_for_selector(".grid-table", timeout=120_000)
    assert page.locator(".grid-table thead th").all_inner_texts() == ["强度", "第 2 步", "第 4 步"]
    assert page.locator(".grid-table figcaption").all_inner_texts() == [
        f"第 {step} 步，强度 {scale}" for scale in ("0.5", "1") for step in (2, 4)
    ]
    page.locator(".grid-table button").first.scroll_into_view_if_needed()
    page.wait_for_selector(".grid-table img")
    assert page.locator(".grid-table img").first.evaluate("async (one) => (await one.decode(), one.naturalWidth)") == 64
    page.locator(".grid-table button").first.click()
    assert "第 2 步，强度 0.5" in page.locator("dialog").inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0

    page.click("nav.tabs >> text=检查点")
    page.locator("tr[data-step='2']").get_by_role("button", name="设为适配器").click()
    page.wait_for_selector("tr[data-step='2']:has-text('当前适配器')", timeout=120_000)
    assert re.search(r"^loraforge promote output/neon 2$", (work / "commands.sh").read_text(encoding="utf-8"), re.MULTILINE)


def test_without_a_run_the_step_says_what_comes_first(studio, visit, tmp_path):
    (tmp_path / "studio" / "empty" / ".studio").mkdir(parents=True)
    page = visit(studio(), "#/judge/empty")
    assert "Bring data first" in page.locator(".step").inner_text()
