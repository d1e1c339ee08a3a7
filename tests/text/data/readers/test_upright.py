# SPDX-License-Identifier: Apache-2.0
"""Tables whose first column names the fields."""

from __future__ import annotations

import pytest
from builders import office
from builders.text_data import load, problems

TWO = [["问题", "一？"], ["答案", "好。"], ["问题", "二？"], ["答案", "行。"]]


def rows(path, **keys):
    return [(r.instruction, r.input, r.output) for r in load(path, **keys)[0]]


def write(path, tables):
    if path.suffix == ".docx":
        return office.docx(path, tables)
    return office.ods(path, tables[0]) if path.suffix == ".ods" else office.xlsx(path, tables[0])


@pytest.mark.parametrize("name", ["d.docx", "d.xlsx", "d.ods"])
@pytest.mark.parametrize(
    ("table", "read"),
    [(TWO, [("一？", "", "好。"), ("二？", "", "行。")]),
     ([["Question 1:", "一？"], ["Answer 1:", "好。"], ["Question 2:", "二？"], ["Answer 2:", "行。"]], [("一？", "", "好。"), ("二？", "", "行。")]),
     ([["编号", "7"], ["问题", "一？"], ["背景", "x"], ["答案", "好。"]], [("一？", "x", "好。")]),
     ([*TWO[:2], ["", "第二段"], *TWO[2:]], [("一？", "", "好。\n第二段"), ("二？", "", "行。")]),
     ([["合同", ""], *TWO[:2], ["婚姻", ""], *TWO[2:]], [("一？", "", "好。"), ("二？", "", "行。")])],
)  # fmt: skip
def test_upright_tables(tmp_path, name, table, read):
    file = write(tmp_path / name, [table])
    assert rows(file) == read
    notes = load(file)[1]
    assert any("read downwards" in note for note in notes)
    assert any("headings, and not used: 合同 / 婚姻" in note for note in notes) == (table[0][0] == "合同")


def test_a_table_for_each_question(tmp_path):
    file = office.docx(tmp_path / "d.docx", [TWO[:2], "其间", TWO[2:], [["甲", "乙"]]])
    records, notes = load(file)
    assert [(r.output, r.where) for r in records] == [("好。", "d.docx, table 1, row 1"), ("行。", "d.docx, table 2, row 1")]
    assert any("1 table without the columns" in note for note in notes) and any("其间" in note for note in notes)


@pytest.mark.parametrize("name", ["d.docx", "d.xlsx"])
def test_what_is_missing_or_twice_is_a_bad_row(tmp_path, name):
    file = write(tmp_path / name, [[["问题", "一？"], ["问题", "二？"], ["答案", "行。"], ["答案", "也行。"]]])
    place = "d.docx, table 1, row" if name == "d.docx" else "d.xlsx, row"
    assert problems(file)[:2] == [f"{place} 1: '答案' is empty.", f"{place} 2: '答案' stands twice below one '问题'."]


def test_failed_cells_there_are_bad_rows(tmp_path):
    assert "'答案' shows #REF!" in problems(office.xlsx(tmp_path / "d.xlsx", [["问题", "一？"], ["答案", "#REF!"]]))[0]


@pytest.mark.parametrize("table", [[["问题", "答案"], ["一？", "好"]], [["问题", "答案"], ["问题", "好"], ["答案", "好"]]])
def test_a_header_row_comes_first(tmp_path, table):
    assert [r.instruction for r in load(office.xlsx(tmp_path / "d.xlsx", table))[0]] == [row[0] for row in table[1:]]


@pytest.mark.parametrize("table", [[["甲", "x"], ["乙", "y"]], [["问题", "x", "z"], ["答案", "y", "z"]], [["问题", "x"], ["备注", "y"]]])
def test_other_tables_are_none(tmp_path, table):
    assert "no column is" in problems(office.xlsx(tmp_path / "d.xlsx", table))[0]


def test_sheets_that_stand_upright_count_as_known(tmp_path):
    file = office.workbook(tmp_path / "d.xlsx", {"封面": [["x"]], "一": TWO, "二": [["问题", "答案"], ["三？", "好"]]})
    assert [r.instruction for r in load(file, sheet="all")[0]] == ["一？", "二？", "三？"]
    assert any("sheet: [一, 二]" in note for note in load(file)[1])
