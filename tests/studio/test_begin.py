# SPDX-License-Identifier: Apache-2.0
"""The first step: what is brought, what was found in it, the examples, and the works that there are."""

from __future__ import annotations

import json

import yaml
from builders import nightly
from builders.brought import HOSTILE, pictures, workbook

# Files as a page gets them when they are dropped, whatever they are called.
DROP = """(files) => {
  const data = new DataTransfer();
  for (const [name, text] of files) data.items.add(new File([text], name));
  document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def test_a_lawyer_brings_a_workbook_and_says_which_column_is_what(studio, visit, tmp_path):
    running = studio()
    original = workbook(tmp_path / "答疑.xlsx")
    page = visit(running, "#/begin")
    page.context.set_default_timeout(90_000)  # commands take seconds, on a busy machine many
    page.set_input_files(".pick-files", tmp_path / "答疑.xlsx")
    assert page.input_value("#work-called") == "答疑" and page.is_checked("input[value=text]")
    page.click(".plan .primary")
    page.wait_for_selector(".trouble >> text=客户问, 律师答, 备注")
    page.select_option("#column-instruction", "客户问")
    assert "合同到期后第1年" in page.inner_text(".field:has(#column-instruction) .sample")
    page.select_option("#column-output", "律师答")
    page.click("text=Take these columns")
    page.wait_for_selector(".trouble >> text='律师答' is empty")
    page.click("text=Leave these out")
    page.wait_for_selector(".found dd:has-text('9')")
    assert page.locator("mark.learned").first.inner_text() == "应当支付1个月工资。根据《劳动合同法》第46条。"
    page.reload()
    page.wait_for_selector(".found dd:has-text('9')")
    assert HOSTILE in page.inner_text("#step") or page.locator("#step img[src=x]").count() == 0
    assert "loraforge check text '答疑.yaml'" in page.inner_text("#commands summary")
    work = running.folder / "答疑"
    assert (work / "uploads" / "答疑.xlsx").read_bytes() == original
    config = yaml.safe_load((work / "答疑.yaml").read_text(encoding="utf-8"))
    assert config["columns"] == {"instruction": "客户问", "output": "律师答"} and config["output_dir"] == "./output/答疑"
    assert "loraforge init text . --data uploads" in (work / "commands.sh").read_text(encoding="utf-8")
    page.click("text=Another work, or an example")
    assert "begun" in page.inner_text(".works a:has-text('答疑')")


def test_an_illustrator_brings_a_folder_in_chinese_on_a_phone(studio, visit, tmp_path):
    pictures(tmp_path / "水墨")
    (tmp_path / "水墨" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (tmp_path / "水墨" / ".hidden").write_text("x", encoding="utf-8")
    page = visit(studio("zh"), "#/begin", width=390)
    page.context.set_default_timeout(90_000)  # commands take seconds, on a busy machine many
    page.expected = ["422"]  # no small picture of the broken one
    page.set_input_files(".pick-folder", tmp_path / "水墨")
    assert page.input_value("#work-called") == "水墨" and page.is_checked("input[value=image]")
    page.click(".plan .primary")
    page.wait_for_selector(".trouble >> text=broken.png")
    page.wait_for_selector(".sheet >> text=无法预览")
    page.click("text=略去这些内容")
    page.wait_for_selector(".found dd:has-text('6')")
    page.fill("#trigger", "水墨 画风")
    page.click(".card:has(#trigger) button")
    page.wait_for_selector(".lessons >> text=水墨 画风, a drawn shape number 0")
    page.locator(".sheet img").first.scroll_into_view_if_needed()
    page.wait_for_selector(".sheet img")
    assert page.locator(".sheet img").first.evaluate("async (one) => { await one.decode(); return one.naturalWidth; }") == 96
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_names_of_every_kind_do_nothing_and_what_is_not_taken_is_said(studio, visit):
    running = studio("en", "--max-upload", "1")
    page = visit(running, "#/begin")
    page.context.set_default_timeout(90_000)  # commands take seconds, on a busy machine many
    page.expected = ["413", "400"]
    good = "instruction,output\n" + "".join(f"Question {n}?,Answer number {n} stands here.\n" for n in range(8))
    page.evaluate(DROP, [
        [f"{HOSTILE}.csv", good], ["../../x.csv", good.replace("Question", "Query")], ["two\nlines.csv", good.replace("Question", "Case")],
        ["large.csv", "x" * 1_000_001], ["Thumbs.db", "x"],
    ])  # fmt: skip
    page.wait_for_selector(".plan >> text=1 hidden file of the system stays behind.")
    page.fill("#work-called", f"../{HOSTILE}")
    page.click(".plan .primary")
    page.wait_for_selector(".plan >> text=large.csv is larger than 1 MB")
    page.click("text=Begin with what has arrived")
    page.wait_for_selector(".found dd:has-text('24')")
    assert page.locator("img[src=x]").count() == 0
    works = [place for place in running.folder.iterdir() if not place.name.startswith(".")]
    assert len(works) == 1 and works[0].parent == running.folder
    assert len(list((works[0] / "uploads").iterdir())) == 3
    assert {place.name for place in running.folder.parent.iterdir()} == {"studio"}


def test_an_example_is_opened_and_the_way_leads_to_training(studio, visit):
    running = studio()
    page = visit(running, "#/begin")
    page.context.set_default_timeout(90_000)  # commands take seconds, on a busy machine many
    page.click("text=More examples")
    page.wait_for_selector(".example[data-example=pharmacy-en] >> text=an invented pharmacy")
    page.click(".example[data-example=legal] button")
    page.wait_for_selector(".found dd:has-text('180')")
    assert (running.folder / "legal" / "data" / "legal" / "metadata.csv").is_file()
    page.click("text=Next: Train")
    page.wait_for_selector(".step-train")
    assert page.url.endswith("#/train/legal")


def test_a_folder_of_this_computer_is_read_in_its_place(studio, visit, tmp_path):
    (tmp_path / "mine").mkdir()
    text = "问题,答案\n" + "".join(f"第{n}个问题是什么？,答案是第{n}条。\n" for n in range(6))
    (tmp_path / "mine" / "qa.csv").write_text(text, encoding="gb18030")
    running = studio("en", "--allow", str(tmp_path / "mine"))
    page = visit(running, "#/begin")
    page.context.set_default_timeout(90_000)  # commands take seconds, on a busy machine many
    page.click("text=A folder on the studio's computer")
    page.get_by_text(str(tmp_path / "mine")).click()
    page.wait_for_selector("dialog >> text=qa.csv")
    page.click("text=Take this folder")
    page.click(".plan .primary")
    page.wait_for_selector(".found dd:has-text('6')")
    assert not (running.folder / "mine" / "uploads").exists()


@nightly
def test_a_studio_that_ended_between_two_files_goes_on_with_those_that_arrived(studio, visit):
    running = studio()
    work = running.folder / "half"
    (work / ".studio").mkdir(parents=True)
    (work / ".studio" / "work.json").write_text(json.dumps({"task": "text"}), encoding="utf-8")
    (work / "uploads").mkdir()
    (work / "uploads" / "a.csv").write_text(
        "instruction,output\n" + "".join(f"Is {n} odd?,It is {n % 2}.\n" for n in range(6)), encoding="utf-8"
    )
    (work / "my.yaml").write_text("left: behind\n", encoding="utf-8")
    page = visit(running, "#/begin/half")
    page.context.set_default_timeout(90_000)  # commands take seconds, on a busy machine many
    page.wait_for_selector("text=1 file has arrived")
    page.evaluate(DROP, [["b.csv", "instruction,output\n" + "".join(f"Is {n} even?,It is {(n + 1) % 2}.\n" for n in range(6))]])
    page.wait_for_selector(".found dd:has-text('12')")
    page.click(".more-files summary")
    page.evaluate(DROP, [["c.csv", "instruction,output\n" + "".join(f"Is {n} prime?,Nobody knows {n}.\n" for n in range(6))]])
    page.wait_for_selector(".found dd:has-text('18')")
