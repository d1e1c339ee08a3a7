# SPDX-License-Identifier: Apache-2.0
"""Several sheets of one workbook: those that are named, or all with questions and answers; each with its own header."""

from __future__ import annotations

import pytest
from builders import office
from builders.text_data import load, problems, write
from click.testing import CliRunner
from loraforge_text.cli.metadata import metadata

HEAD = ["问题", "答案"]
BOOK = {
    "封面": [["2024 年法律问答"]],
    "合同": [HEAD, ["合同一？", "甲"], ["合同二？", "乙"]],
    "劳动": [["劳动问答", None], [None, None], ["编号", "Question", "Answer"], [1, "劳动一？", "丙"]],
    "旧": [HEAD, ["旧一？", "丁"]],
}


@pytest.fixture
def book(tmp_path):
    return office.workbook(tmp_path / "d.xlsx", BOOK, hidden=["旧"])


CONTRACTS = [("合同一？", "甲", "d.xlsx, sheet 合同, row 2"), ("合同二？", "乙", "d.xlsx, sheet 合同, row 3")]
LABOUR = [("劳动一？", "丙", "d.xlsx, sheet 劳动, row 4")]


@pytest.mark.parametrize(
    ("sheet", "rows"),
    [("all", [*CONTRACTS, *LABOUR]), (["合同", "劳动"], [*CONTRACTS, *LABOUR]), (["劳动", "合同"], [*LABOUR, *CONTRACTS]),
     ([3, "合同", 3], [*LABOUR, *CONTRACTS]), (["all"], [*CONTRACTS, *LABOUR]), (["合同", "旧"], [*CONTRACTS, ("旧一？", "丁", "d.xlsx, sheet 旧, row 2")])],
)  # fmt: skip
def test_rows_of_several_sheets_are_called_by_sheet_and_row(book, sheet, rows):
    records, notes = load(book, sheet=sheet)
    assert [(r.instruction, r.output, r.where) for r in records] == rows
    left = [name for name in BOOK if not any(name in where for *_, where in rows)]
    told = next(note for note in notes if note.startswith("d.xlsx: the sheets "))
    assert all(name in told.partition("left out: ")[2] for name in left)
    assert ("旧 (hidden)" in told) == ("旧" in left)
    assert not any("To read all of them" in note for note in notes)


def test_one_sheet_in_a_list_is_that_sheet(book):
    assert [r.where for r in load(book, sheet=["劳动"])[0]] == ["d.xlsx, row 4"]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("合同", "劳动", "婚姻"), "[合同, 劳动, 婚姻]"),
        (("2023", "2024"), '["2023", "2024"]'),
        (("a, b", "no", "x y"), '["a, b", "no", x y]'),
    ],
)
def test_several_tables_of_which_one_is_read_are_told_with_the_line_that_reads_all(tmp_path, names, line):
    import yaml

    file = office.workbook(tmp_path / "d.xlsx", {name: [HEAD, [f"{name}？", "答"]] for name in names})
    records, notes = load(file)
    assert [r.instruction for r in records] == [f"{names[0]}？"]
    told = next(note for note in notes if "To read all of them" in note)
    assert told.endswith(f"sheet: {line}") and ", ".join(names[1:]) in told
    keys = yaml.safe_load(told.partition("read all of them: ")[2])
    assert [r.instruction for r in load(file, **keys)[0]] == [f"{name}？" for name in names]


def test_a_sheet_called_all_is_that_sheet(tmp_path):
    file = office.workbook(tmp_path / "d.xlsx", {"一": [HEAD, ["一？", "答"]], "all": [HEAD, ["二？", "答"]]})
    assert [r.instruction for r in load(file, sheet="all")[0]] == ["二？"]


def test_all_problems_of_all_sheets_are_told_at_once(book):
    told = problems(book, sheet=["封面", "合同", "劳动"], columns={"instruction": "问题", "output": "答案"})
    assert any("sheet 封面" in line for line in told) and not any("sheet 合同" in line for line in told)
    assert "there is no sheet '婚姻'. There are: 封面, 合同, 劳动, 旧" in problems(book, sheet=["合同", "婚姻"])[0]
    file = office.workbook(book.with_name("e.xlsx"), {"一": [HEAD, ["一？", None]], "二": [HEAD, [None, "答"]]})
    assert [line.partition(":")[0] for line in problems(file, sheet="all")[:2]] == ["e.xlsx, sheet 一, row 2", "e.xlsx, sheet 二, row 2"]


def test_where_no_sheet_is_understood_all_are_named(tmp_path):
    file = office.workbook(tmp_path / "d.xlsx", {"一": [["甲", "乙"], ["x", "y"]], "二": [["丙", "丁"], ["x", "y"]]})
    told = problems(file, sheet="all")
    assert len(told) == 2 and "sheet 一" in told[0] and "甲, 乙" in told[0] and "sheet 二" in told[1] and "丙, 丁" in told[1]


def test_sheets_called_train_and_test_are_what_they_are_called(tmp_path):
    file = office.workbook(tmp_path / "d.xlsx", {"训练集": [HEAD, ["一？", "答"]], "测试集": [HEAD, ["二？", "答"]]})
    records, notes = load(file, sheet="all")
    assert {r.instruction: r.side for r in records} == {"一？": "train", "二？": "held-out"}
    assert any("held out, as the name says" in note for note in notes)


def test_old_workbooks_too(tmp_path):
    records, _ = load(office.xls_with_errors(tmp_path / "d.xls"), sheet="all", on_bad_row="skip")
    assert [r.instruction for r in records] == ["合同一？", "劳动一？"]
    assert any("sheet: [合同, 劳动]" in note for note in load(tmp_path / "d.xls")[1])


def test_a_sheet_that_no_workbook_has_is_said(tmp_path):
    _, notes = load(write(tmp_path / "d.csv", "问题,答案\n一？,答\n"), sheet=["合同", "劳动"])
    assert any("sheet: 合同, 劳动: none of the files is a workbook" in note for note in notes)


def test_metadata_takes_several_sheets_and_gives_its_advice_as_options(book):
    made = CliRunner().invoke(metadata, [str(book), "--out", str(book.with_name("a.csv"))])
    assert "--sheet '合同' --sheet '劳动'" in made.output
    made = CliRunner().invoke(metadata, [str(book), "--out", str(book.with_name("b.csv")), "--sheet", "合同", "--sheet", "3"])
    assert made.exit_code == 0 and "3 rows" in made.output
