# SPDX-License-Identifier: Apache-2.0
"""Texts of every script are drawn with a font that has them, or numbered; never boxes, dots or question marks."""

from __future__ import annotations

import numpy as np
import pytest
from builders.fonts import make_font
from loraforge_image.data import fonts, grids
from PIL import Image, ImageDraw

PROMPTS = ["赛博朋克，一条街", "赛博朋克，一座塔"]
LETTERS = "赛博朋克，一条街座塔基线第步"


@pytest.fixture
def only(monkeypatch):
    """``only(path, ...)``: these are all fonts of this computer."""

    def clear() -> None:
        fonts._font.cache_clear()
        fonts._has.cache_clear()

    def use(*paths) -> None:
        monkeypatch.setattr(fonts, "font_files", lambda: tuple(map(str, paths)))
        clear()

    yield use
    monkeypatch.undo()
    clear()


def drawn(text: str, size: int = 24) -> np.ndarray:
    sheet = Image.new("RGB", (400, 40), "white")
    fonts.Script(size).draw(ImageDraw.Draw(sheet), (2, 2), text, (0, 0, 0))
    return np.asarray(sheet.convert("L")) < 128


def test_a_font_of_this_computer_is_taken_where_pillows_own_lacks_letters(only, tmp_path):
    font = make_font(tmp_path / "a.ttf", LETTERS)
    script = fonts.Script(24)
    only()
    assert script.can("Zoë 12") and not script.can("赛博") and not script.can("a 赛") and not drawn("赛").any()
    only(tmp_path / "none.ttf", font)
    assert script.can("赛博") and script.can("style 赛博, é") and not script.can("鑫")
    # As many bars as the font has for this letter: not the box for what is missing.
    for number, letter in enumerate(LETTERS[:4], 2):
        line = drawn(letter, 32)[20].astype(int)
        assert (np.diff(line) == 1).sum() == number
    assert script.width("a赛b") > script.width("ab") + 20


def test_scripts_are_mixed_in_one_line(only, tmp_path):
    one, other = make_font(tmp_path / "a.ttf", "赛博"), make_font(tmp_path / "b.ttf", "кот")
    only(one, other)
    assert fonts.Script(16).can("赛博 and кот")
    both = drawn("赛 кот")
    only(one)
    assert not fonts.Script(16).can("赛博 and кот") or drawn("赛 кот").sum() != both.sum()


def test_pictographs_are_left_out_and_do_not_spoil_a_text(only):
    only()
    script = fonts.Script(16)
    assert script.can("a cat \U0001f431") and not script.can("\U0001f431") and not script.can("  ") and not script.can("\u202e")
    assert (drawn("a cat\U0001f431") == drawn("a cat")).all()


def test_a_grid_has_its_prompts_or_numbers_and_a_list_of_them(only, tmp_path):
    small = Image.new("RGB", (64, 64), (9, 99, 9))
    only(make_font(tmp_path / "a.ttf", LETTERS))
    named = np.asarray(grids.grid([[small, small]], ["基线"], PROMPTS))
    assert grids.legend(PROMPTS) == ""
    only()
    numbers = np.asarray(grids.grid([[small, small]], ["base"], PROMPTS))
    assert (numbers == np.asarray(grids.grid([[small, small]], ["base"], ["01", "02"]))).all() and named.shape != numbers.shape
    told = grids.legend(PROMPTS).splitlines()
    assert told[:2] == ["01  赛博朋克，一条街", "02  赛博朋克，一座塔"] and "Noto Sans CJK" in told[3]
    assert fonts.readable("第 150 步", "step 150") == "step 150" and fonts.readable("Schritt", "step") == "Schritt"
    assert grids.legend(["a ball", "b"]) == ""


def test_the_contact_sheet_calls_a_name_that_cannot_be_written_by_its_row(only, tmp_path, monkeypatch):
    from loraforge_image.prepare import contact_sheet
    from loraforge_image.prepare.inspection import inspect_picture

    seen = []
    for name in ("a.png", "小猫01.png"):
        Image.effect_noise((300, 300), 90).convert("RGB").save(tmp_path / name)
        seen.append(inspect_picture(tmp_path / name, name, 100))
    written: list[str] = []
    real = fonts.Script.draw
    monkeypatch.setattr(
        fonts.Script, "draw", lambda self, pen, place, text, ink: (written.append(text), real(self, pen, place, text, ink))[1]
    )
    only()
    contact_sheet.write_sheet(seen, tmp_path / "sheet.png")
    assert "a.png" in written and "metadata.csv: 3" in written and not any("?" in text or "小" in text for text in written)
    assert contact_sheet.unwritable(seen) == ["小猫01.png"]
    written.clear()
    only(make_font(tmp_path / "b.ttf", "小猫"))
    contact_sheet.write_sheet(seen, tmp_path / "sheet.png")
    assert "小猫01.png" in written and contact_sheet.unwritable(seen) == []
