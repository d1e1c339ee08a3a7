# SPDX-License-Identifier: Apache-2.0
"""The workbook for blind judging as a person meets it: what fits on a page, what is coloured, what a cell can hold."""

from __future__ import annotations

import json
import stat

import openpyxl
import pytest

from loraforge import RunError
from loraforge.evaluation import review_sheet
from loraforge.evaluation.review_sheet import digest, known_sheets, write_sheet

ROW = {"where": "row 2", "group": 3, "question": "问？", "reference": "参考", "base": "一", "adapter": "二"}


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "deep" / "er" / "r.xlsx"
    write_sheet(path, [ROW, {**ROW, "question": "另一个问题？", "reference": "长" * 300}], tmp_path / "keys" / "k.json", "the run", "abc")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644, "others may read it"
    return openpyxl.load_workbook(path)


def test_what_is_to_be_filled_in_is_yellow_and_nothing_else(page):
    sheet = page.worksheets[0]
    yellow = {cell.coordinate for line in sheet.iter_rows() for cell in line if cell.fill.fgColor.rgb == "00FFF9D9"}
    assert yellow == {"C1", *(f"{column}{row}" for column in "FGHI" for row in (4, 5))}
    assert [cell.value for cell in sheet["A"][3:]] == [1, 2] and sheet["B1"].value == "Your name:"
    assert all(cell.font.bold and cell.fill.fgColor.rgb == "00E7E6E6" for cell in sheet[3]) and sheet["B1"].font.bold
    boxed = [cell for line in sheet.iter_rows(min_row=3) for cell in line] + [sheet["C1"]]
    for cell in boxed:
        assert {getattr(cell.border, side).style for side in ("left", "right", "top", "bottom")} == {"thin"}
    assert all(cell.alignment.wrap_text and cell.alignment.vertical == "top" for line in sheet.iter_rows(min_row=3) for cell in line)
    widths = {letter: sheet.column_dimensions[letter].width for letter in "ABCDEFGHI"}
    assert widths == {"A": 5, "B": 26, "C": 30, "D": 38, "E": 38, "F": 10, "G": 10, "H": 9, "I": 20}


def test_an_answer_that_was_ended_for_repeating_itself_is_marked(tmp_path):
    row = {**ROW, "ended": {"base": "repetition", "adapter": "limit"}}
    write_sheet(tmp_path / "r.xlsx", [row], tmp_path / "k.json", "run")
    sheet = openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets[0]
    assert sorted([sheet["D4"].value, sheet["E4"].value]) == ["一 … (ended here: it only repeats itself)", "二"]
    (kept,) = next(iter(known_sheets(tmp_path / "k.json").values()))["rows"]
    assert kept["sha256"]["a"] == digest(sheet["D4"].value), "what was shown is what is checked"


def test_it_prints_on_pages_that_are_as_wide_as_the_paper(page):
    for sheet in page.worksheets:
        setup = sheet.page_setup
        assert (setup.orientation, str(setup.paperSize), setup.fitToWidth, setup.fitToHeight) == ("landscape", "9", 1, 0)  # 9: A4
        assert sheet.sheet_properties.pageSetUpPr.fitToPage and sheet.oddFooter.center.text == "&P / &N"
        assert sheet.page_margins.left == sheet.page_margins.right == 0.4
    sheet, guide = page.worksheets
    assert sheet.print_title_rows == "$3:$3" and sheet.auto_filter.ref == "A3:I5" and sheet.row_dimensions[3].height == 32
    assert guide.column_dimensions["A"].width == 120
    assert [cell.value for cell in guide["A"] if cell.font.bold] == ["评判说明", "How to judge"]
    assert all(cell.alignment.wrap_text and cell.font.size == 12 for cell in guide["A"] if cell.value)
    for rule in sheet.data_validations.dataValidation:
        assert rule.showErrorMessage and rule.allow_blank and rule.error.startswith("Please choose one of: ")


def test_rows_are_as_high_as_their_longest_text(page):
    sheet, guide = page.worksheets
    # 300 汉字 are 600 wide, a tenth more with early breaks, in a column of 30: 22 lines of 14 points, and 8 for the rim.
    assert sheet.row_dimensions[4].height == 14 + 8 and sheet.row_dimensions[5].height == 22 * 14 + 8
    assert all(guide.row_dimensions[cell.row].height % 18 == 0 for cell in guide["A"] if cell.value)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [("", 10, 1), ("a" * 9, 10, 1), ("a" * 10, 11, 1), ("a" * 10, 10, 2), ("字" * 5, 11, 1), ("字" * 5, 10, 2), ("a\n\nb", 10, 3), ("Ａ" * 5, 10, 2), ("a" * 100, 10, 11)],
)  # fmt: skip
def test_how_many_lines_a_text_takes(text, width, lines):
    assert review_sheet._lines(text, width) == lines


def test_a_row_is_never_higher_than_excel_allows(tmp_path):
    write_sheet(tmp_path / "r.xlsx", [{**ROW, "base": "x\n" * 100}], tmp_path / "k.json", "run")
    assert openpyxl.load_workbook(tmp_path / "r.xlsx").worksheets[0].row_dimensions[4].height == 409


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nb\rc\td", "a\nb\nc\td"), ("\x1f\x00 \x7f", "␟␀ \\u007f"), ("\ufffe\ud800\U0001f600", "\ufffd\ufffd\U0001f600"), (" \n", "(the answer is empty)"),
     ("", "(the answer is empty)"), ("x" * 32_000, "x" * 32_000), ("x" * 32_001, "x" * 32_000 + " … (cut here: a cell holds no more)")],
)  # fmt: skip
def test_a_text_as_a_cell_can_hold_it(text, shown):
    assert review_sheet._shown(text) == shown and len(shown) < 32_767


def test_what_the_key_says(tmp_path):
    keys = tmp_path / "k.json"
    rows = [ROW, {**ROW, "base": ROW["adapter"], "adapter": ROW["base"], "where": "row 3"}, {**ROW, "question": "别的？", "group": None}]
    write_sheet(tmp_path / "r.xlsx", rows, keys, "the run", "abc")
    ((number, key),) = known_sheets(keys).items()
    assert (key["run"], key["adapter"], key["name"], len(key["headers"])) == ("the run", "abc", "Your name:", 9) and len(number) == 19
    first, second, third = key["rows"]
    assert [row["number"] for row in key["rows"]] == [1, 2, 3] and [row["where"] for row in key["rows"]] == ["row 2", "row 3", "row 2"]
    assert [row["group"] for row in key["rows"]] == [3, 3, None]
    # The same question with the same two answers, whichever side gave them, is one question that stands there twice.
    assert first["id"][:16] == second["id"][:16] != third["id"][:16] and [row["id"][16:] for row in key["rows"]] == ["-1", "-2", "-1"]
    for row, given in zip(key["rows"], rows, strict=True):
        assert row["sha256"] == {"question": digest(given["question"]), "a": digest(given[row["a"]]), "b": digest(given[row["b"]])}
    write_sheet(tmp_path / "g.xlsx", [{**ROW, "group": tmp_path}], keys, "模型")
    assert "模型" in keys.read_text(encoding="utf-8") and [sheet["rows"][0]["group"] for sheet in known_sheets(keys).values()][1] == str(
        tmp_path
    )
    assert "问" not in json.dumps(key["rows"], ensure_ascii=False), "texts are hashed"


def test_a_hash_ignores_what_office_programs_do_to_blanks():
    import hashlib

    assert digest(" a\r\n b\u3000c ") == digest("a b c") == hashlib.sha256(b"a b c").hexdigest() != digest("ab c")


@pytest.mark.parametrize("name", ["r.xls", "r", "r.xlsx.csv"])
def test_only_a_workbook_and_only_a_new_one(tmp_path, name):
    with pytest.raises(RunError, match=r"let its name end in \.xlsx"):
        review_sheet.refuse_name(tmp_path / name)
    review_sheet.refuse_name(tmp_path / "r.XLSX")


@pytest.mark.parametrize("text", ["[]", '{"sheets": 1}', "{}", "no json", '{"sheets": [1]}'])
def test_a_damaged_key_is_explained(tmp_path, text):
    (tmp_path / "k.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"k\.json cannot be read"):
        known_sheets(tmp_path / "k.json")
