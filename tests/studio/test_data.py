# SPDX-License-Identifier: Apache-2.0
"""The second step: findings beside rows and pictures, mending, reviewing, copies, masks, captions."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import yaml
from builders.brought import HOSTILE, begun, pictures
from PIL import Image


def rows_of(table: Path) -> list[dict[str, str]]:
    """A table as it lies on the disk."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_reviewer_mends_an_answer_and_a_second_tab_does_not_overwrite_it(studio, visit):
    running = studio()
    work = begun(running.folder / "advice", "text", columns={"instruction": "客户问"}, checks={"missing_citation": "off"})
    (work / "uploads").mkdir()
    rows = [[f"第{n}种合同到期不续签有补偿吗？", f"应当支付{n}个月工资。\n这是第二行。"] for n in range(1, 12)]
    rows += [
        ["可以拖欠工资吗？", "视情况而定，可能大概不行吧。"],
        [f"{HOSTILE} 是什么？", "这是一段文字。"],
        ["可以拖欠工资吗?", "应当立即支付。"],
    ]
    with (work / "uploads" / "brought.csv").open("w", encoding="gb18030", newline="") as out:
        csv.writer(out).writerows([["客户问", "答案"], *rows])
    original = (work / "uploads" / "brought.csv").read_bytes()

    page = visit(running, "#/data/advice")
    page.context.set_default_timeout(90_000)
    page.click(".chip:has-text('Hedging')")
    page.wait_for_selector(".line[data-row='11'] .tag:has-text('Hedging')")
    page.click(".line[data-row='11'] .open-row")
    page.wait_for_selector("dialog h2:has-text('Row 13')")
    assert "'视情况而定'" in page.inner_text("dialog .finding:has-text('Hedging')")
    assert page.locator(".twin:has-text('应当立即支付')").count() >= 1  # the same question, side by side
    second = page.context.new_page()
    second.goto(f"{running.address}/#/data/advice")
    second.click(".chip:has-text('Hedging')")
    second.click(".line[data-row='11'] .open-row")
    second.wait_for_selector("#cell-output")

    page.fill("#cell-output", "不可以。应当按月足额支付。")
    page.click("dialog button:text-is('Approve')")
    page.wait_for_selector("text=Write your name first")
    page.fill("#reviewer", "王律师")
    page.click("dialog button:text-is('Approve')")
    page.wait_for_selector("dialog button[aria-pressed=true]:text-is('Approve')")
    page.keyboard.press("Escape")
    page.wait_for_selector(".chip:has-text('Approved')")
    page.wait_for_selector(".chip:has-text('Hedging') .tag:text-is('0')")  # it was checked again by itself

    second.fill("#cell-output", "可以吧。")
    second.click("dialog button:text-is('Save')")
    second.wait_for_selector("dialog [role=alert] >> text=row 13 has been changed meanwhile")
    assert "不可以。应当按月足额支付。" in second.inner_text(".as-it-is") and second.input_value("#cell-output") == "可以吧。"
    table = work / "data" / "metadata.csv"
    assert rows_of(table)[11] | {"waive": ""} == {
        "instruction": "可以拖欠工资吗？", "output": "不可以。应当按月足额支付。", "approved": "yes", "reviewer": "王律师", "waive": "",
    }  # fmt: skip
    second.fill("#cell-output", "不可以。可能构成违约吧。")
    second.click("dialog button:text-is('Save')")
    second.wait_for_selector("dialog [role=status]:has-text('Saved')")
    assert rows_of(table)[11]["output"] == "不可以。可能构成违约吧。"
    second.check("dialog .finding:has-text('Hedging') input")
    second.wait_for_selector("dialog [role=status]:has-text('Saved')")
    second.click("dialog button:text-is('Close')")
    second.click(".chip:has-text('All')")
    second.fill("input[type=search]", "onerror")
    second.wait_for_selector(".line[data-row='12'] strong:has-text('<img src=x')")
    assert second.locator(".line").count() == 1 and rows_of(table)[11]["waive"] == "hedging"
    assert second.locator("img[src=x]").count() == 0
    config = yaml.safe_load((work / "advice.yaml").read_text(encoding="utf-8"))
    assert (config["train_data_dir"], config["metadata_path"]) == ("./data", "./data/metadata.csv") and "columns" not in config
    assert "loraforge metadata ./uploads --out data/metadata.csv" in (work / "commands.sh").read_text(encoding="utf-8")
    assert (work / "uploads" / "brought.csv").read_bytes() == original


def test_an_illustrator_looks_at_copies_captions_and_masks_in_chinese(studio, visit):
    running = studio("zh")
    work = begun(running.folder / "画", "image", trigger_word="墨 style", resolution=64, bucket_step=32, on_bad_row="skip")
    pictures(work / "uploads")
    shutil.copy(work / "uploads" / "picture 0.png", work / "uploads" / "twin.png")
    (work / "uploads" / "twin.txt").write_text("another caption", encoding="utf-8")
    (work / "uploads" / "picture 5.txt").unlink()
    before = {place.name: place.read_bytes() for place in (work / "uploads").iterdir()}

    page = visit(running, "#/data/画", width=390)
    page.context.set_default_timeout(90_000)
    page.click(".chip:has-text('没有说明')")
    page.click(".cell[data-row='5'] .open-row")
    page.fill("#cell-text", "a shape that nobody had described")
    page.click("dialog button:text-is('保存')")
    page.wait_for_selector("dialog [role=status]:has-text('已保存')")
    page.click("dialog button:text-is('涂出要学习的部分')")
    box = page.locator(".mask-canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.click("dialog button:text-is('保存蒙版')")
    page.wait_for_selector("dialog button:text-is('修改蒙版')")
    page.click("dialog button:text-is('关闭')")

    page.click(".chip:has-text('重复')")
    page.click(".cell[data-row='6'] .open-row")
    assert page.locator(".twin").count() == 2 and "a drawn shape number 0" in page.inner_text(".twins")
    page.click(".twin:has-text('当前这条') >> text=不用这条")
    page.wait_for_selector(".twin.out")
    page.click("dialog button:text-is('关闭')")
    page.wait_for_selector(".chip:has-text('重复') .tag:text-is('0')")
    rows = rows_of(work / "data" / "metadata.csv")
    assert [row["keep"] for row in rows] == ["yes"] * 6 + ["no"] and rows[5]["text"] == "a shape that nobody had described"
    mask = Image.open(work / "data" / rows[5]["mask"])
    assert mask.mode == "L" and mask.getextrema() == (0, 255) and mask.size == (96, 112)
    told = json.loads((work / ".studio" / "check.json").read_text(encoding="utf-8"))["told"]
    assert told["pictures"] == 6 and any(Path(rows[5]["mask"]).name in note for note in told["notes"])
    assert {place.name: place.read_bytes() for place in (work / "uploads").iterdir()} == before
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_data_that_no_table_can_be_made_of_are_told_in_sentences(studio, visit):
    running = studio()
    work = begun(running.folder / "odd", "text")
    (work / "uploads").mkdir()
    (work / "uploads" / "locked.xlsx").write_bytes(b"\xd0\xcf\x11\xe0 a workbook with a password, or none at all")
    page = visit(running, "#/data/odd")
    page.context.set_default_timeout(90_000)
    page.expected = ["422"]
    page.wait_for_selector(".card.bad >> text=locked.xlsx")
    page.click("text=Back to the first step")
    page.wait_for_selector(".trouble >> text=locked.xlsx")
    assert not (work / "data").exists()
