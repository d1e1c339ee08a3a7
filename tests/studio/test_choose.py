# SPDX-License-Identifier: Apache-2.0
"""The settings as a form: made of what the keys say of themselves, with their cost beside them, and written into the config line by line."""

from __future__ import annotations

import re

import pytest
from builders import nightly
from builders.studio_works import IMAGE, TEXT, picture_work, text_work
from loraforge_studio.work.choices import about, form, overrides, presets

NAMES = ("epochs", "lora_rank", "learning_rate")


@pytest.mark.parametrize(
    ("line", "key", "text"),
    [
        ("--set epochs: epochs: must be more than 0; got 0.", "epochs", "must be more than 0; got 0."),
        ("--set epochs: write it as key=value.", "epochs", "write it as key=value."),
        ("a b/x.yaml:7: lora_rank: must be 1 or more.", "lora_rank", "must be 1 or more."),
        ("x.yaml:7: lora_rank is 128; usual is 8 to 16.", "lora_rank", "lora_rank is 128; usual is 8 to 16."),
        ("learning_rate: too high", "learning_rate", "too high"),
        ("x.csv, row 3: 'answer' is empty.", "", "x.csv, row 3: 'answer' is empty."),
        ("the learning_rate of 'x': too high", "learning_rate", "the learning_rate of 'x': too high"),
        ("x.yaml:1: unknown: 3", "", "x.yaml:1: unknown: 3"),
    ],
)
def test_sentences_find_their_key(line, key, text):
    assert about(line, NAMES) == {"key": key, "text": text}


def test_a_form_knows_types_bounds_and_choices_and_presets_count_from_the_first_config():
    schema = {"required": ["a"], "properties": {
        "a": {"type": "integer", "minimum": 1, "usual": [1, 2], "why": "so"}, "b": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
        "c": {"anyOf": [{"type": "boolean"}, {"const": "auto", "type": "string"}]}, "d": {"enum": ["auto", 75]}, "e": {"type": "array"},
        "f": {"anyOf": [{"type": "number"}, {"type": "array"}, {"type": "null"}]}, "g": {"type": "object"},
    }}  # fmt: skip
    made = {key["name"]: key for key in form([{"name": name, "kind": ""} for name in "abcdefg"], schema, [], "text")["keys"]}
    assert [made[name]["type"] for name in "abcdefg"] == ["integer", "number", "choice", "choice", "list", "text", "lines"]
    assert (made["a"]["minimum"], made["a"]["usual"], made["b"]["above"], made["c"]["choices"]) == (1, [1, 2], 0, [True, False, "auto"])
    quick, begun, thorough = (
        preset["values"] for preset in presets({"epochs": "34", "save_steps": "200"}, ["epochs", "eval_answers", "save_steps"])
    )
    assert begun == {"epochs": 34, "eval_answers": None, "save_steps": 200} and quick["epochs"] == 17 and quick["eval_answers"] is False
    assert thorough["epochs"] == 68 and presets({}, ["epochs"])[1]["values"] == {"epochs": None}
    assert overrides({"a": None, "b": "x: y", "c": True, "d": [1, "z"]}, {"a": None}) == [
        "--set", "a=null", "--set", 'b="x: y"', "--set", "c=true", "--set", "d=[1, z]",
    ]  # fmt: skip


def test_values_cost_advice_and_mistakes_stand_beside_the_field_and_only_saved_ones_in_the_file(studio, visit, tmp_path):
    folder = text_work(tmp_path / "studio")
    file = folder / "rows.yaml"
    page = visit(studio(), "#/choose/rows")
    page.expected = ["422"]  # the browser tells the console of it
    cost = page.locator(".cost .costs")
    cost.wait_for()
    assert "apache-2.0" in cost.inner_text() and "tiny-chat" in cost.inner_text()
    steps = cost.locator("div", has_text="Steps").locator("dd").first
    before = steps.inner_text()
    assert page.locator("[data-preset=begun]").get_attribute("aria-pressed") == "true"
    page.fill("[name=lora_rank]", "128")
    page.fill("[name=epochs]", "x")
    page.get_by_text("A number is needed here").first.wait_for()
    assert page.get_by_role("button", name="Save", exact=True).is_disabled()
    page.fill("[name=epochs]", "20")
    page.locator("[data-key=lora_rank] .doubt-text", has_text="usual is 8 to 16").wait_for()
    assert steps.inner_text() != before and page.get_by_text("2 changes are not saved yet").is_visible()
    assert file.read_text() == f"{TEXT}output_dir: ./output/rows\n"
    page.reload()  # nothing that was typed is lost
    page.locator("[data-key=lora_rank] .doubt-text", has_text="usual is 8 to 16").wait_for()
    page.fill("[name=lora_rank]", "0")
    page.locator("[data-key=lora_rank] .bad-text", has_text="must be 1 or more; got 0").wait_for()
    assert page.locator("[name=lora_rank]").get_attribute("aria-invalid") == "true"
    page.fill("[name=lora_rank]", "8")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Everything is saved.").wait_for()
    text = file.read_text()
    assert text == f"{TEXT}output_dir: ./output/rows\n".replace("lora_rank: 4  ", "lora_rank: 8  ").replace("epochs: 40", "epochs: 20")
    page.locator(".all-settings summary").click()
    page.fill("#search-settings", "patience")
    assert page.locator(".all-settings .setting:visible").count() < 4
    page.fill(".all-settings [name=patience]", "3")
    page.get_by_text("1 change is not saved yet").wait_for()
    page.locator("[data-preset=thorough]").click()
    assert page.input_value("[name=epochs]") == "80" and page.input_value(".all-settings [name=patience]") == "5"
    page.locator("[data-preset=quick]").click()  # half of forty passes, and patience is taken out again: what the file says already
    page.get_by_text("Everything is saved.").wait_for()
    assert (
        page.input_value("[name=epochs]") == "20" and page.input_value(".all-settings [name=patience]") == "" and file.read_text() == text
    )


def test_the_text_of_the_config_is_checked_before_it_is_taken(studio, visit, tmp_path):
    folder = text_work(tmp_path / "studio")
    file = folder / "rows.yaml"
    before = file.read_text()
    page = visit(studio(), "#/choose/rows")
    page.expected = ["422"]
    page.locator(".raw summary").click()
    broken = before.replace("lora_rank: 4", "lora_rank: 4000")
    page.fill("#raw-config", broken)
    page.get_by_role("button", name="Check and save").click()
    page.locator(".raw .problems", has_text="rows.yaml:5: lora_rank").wait_for()
    assert file.read_text() == before and page.input_value("#raw-config") == broken
    assert [one.name for one in folder.iterdir() if one.name.endswith(".new.yaml")] == []
    page.get_by_role("button", name="Save it all the same").click()
    page.locator("[data-key=lora_rank] .bad-text", has_text="must be 512 or less").wait_for()
    assert file.read_text() == broken
    page.locator(".raw summary").click()
    page.fill("#raw-config", before + "# mine\n")
    page.get_by_role("button", name="Check and save").click()
    page.locator(".cost .costs").wait_for()
    assert file.read_text() == before + "# mine\n"


@nightly
def test_pictures_in_chinese_on_a_telephone_with_a_card_that_is_too_small(studio, visit, tmp_path):
    folder = picture_work(tmp_path / "studio")
    page = visit(studio("zh"), "#/choose/blots", width=390)
    page.locator(".cost .costs").wait_for()
    assert page.locator("[data-key=trigger_word] label").inner_text().startswith("触发词")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.fill("[name=sample_prompts]", "blot, a red square\nblot, 一只猫 #1")
    page.fill("[name=batch_size]", "64")
    page.select_option("#device", "8GB")
    page.fill("[name=resolution]", "4096")
    page.get_by_role("button", name="采用").click()
    page.locator(".good-text", has_text="内存足够").wait_for()
    page.get_by_role("button", name="保存", exact=True).click()
    page.get_by_text("全部已保存。").wait_for()
    text = (folder / "blots.yaml").read_text(encoding="utf-8")
    assert '  - "blot, a red square"  # the first\n  - "blot, 一只猫 #1"\n' in text and "green" not in text
    assert re.search(r"^gradient_accumulation: \d+$", text, re.MULTILINE) and text.startswith(IMAGE[:60])
