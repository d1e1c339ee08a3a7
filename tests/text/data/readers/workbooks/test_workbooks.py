# SPDX-License-Identifier: Apache-2.0
"""Workbooks as people make them: titles above the header, covers, merged cells, several programs."""

from __future__ import annotations

import datetime

import pytest
from builders import office
from builders.text_data import load, problems
from builders.text_data import write as write_text

HEAD = ["问题", "答案"]


def answers(path, **keys):
    return [record.output for record in load(path, **keys)[0]]


def test_a_title_row_and_a_cover_sheet(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "封面"
    book.active.append(["2024 年法律问答（内部）"])
    book.active.append(["问题请联系张律师"])
    page = book.create_sheet("问答")
    for row in (["2024 年法律问答（内部）"], [], ["制表：王", "日期：5月"], HEAD, ["一？", "答"]):
        page.append(row)
    book.create_sheet("备注").append(["x"])
    book.save(tmp_path / "d.xlsx")
    records, notes = load(tmp_path / "d.xlsx")
    assert [(r.instruction, r.output, r.where) for r in records] == [("一？", "答", "d.xlsx, row 5")]
    assert any("sheet '问答' is read; left out: 封面, 备注 (sheet: 封面" in note for note in notes)
    assert any("row 4 names the columns" in note and "2024 年法律问答（内部） / 制表：王" in note for note in notes)


def test_the_sheet_and_the_header_can_be_named(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for name in ("一", "二"):
        page = book.create_sheet(name)
        for row in (["题", "解"], [f"{name}a", "x"], ["Q2", "A2"], [f"{name}b", "y"]):
            page.append(row)
    book.remove(book.worksheets[0])
    book.save(tmp_path / "d.xlsx")
    file = tmp_path / "d.xlsx"
    columns = {"instruction": "题", "output": "解"}
    assert [r.instruction for r in load(file, sheet="二", columns=columns)[0]] == ["二a", "Q2", "二b"]
    assert [r.instruction for r in load(file, sheet="2", columns=columns)[0]] == ["二a", "Q2", "二b"]
    made, _ = load(file, sheet="二", header_row=3, columns={"instruction": "Q2", "output": "A2"})
    assert [r.instruction for r in made] == ["二b"]
    assert "there is no sheet '三'. There are: 一, 二" in problems(file, sheet="三")[0]
    assert "header_row: row 9 is empty" in problems(file, header_row=9)[0]


def test_a_title_above_the_header_of_a_csv(tmp_path):
    text = '法律问答，内部,\n;;\n"问题";答案;备注\n一？;"答;案";x\n'
    records, notes = load(write_text(tmp_path / "d.csv", text))
    assert [(r.instruction, r.output, r.where) for r in records] == [("一？", "答;案", "d.csv, row 4")]
    assert any("row 3 names the columns" in note for note in notes)


def test_an_answer_merged_over_rows_belongs_to_all_of_them_and_a_section_to_none(tmp_path):
    rows = [["法律问答", None], HEAD, ["一？", "同一个答案。"], ["二？", None], ["三？", None], ["四？", "另一个。"]]
    file = office.xlsx(tmp_path / "d.xlsx", rows, merged=["A1:B1", "B3:B5"])
    records, notes = load(file)
    assert [r.output for r in records] == ["同一个答案。"] * 3 + ["另一个。"] and any(
        "merged cells" in note and "2 cells" in note for note in notes
    )
    section = office.xlsx(tmp_path / "e.xlsx", [HEAD, ["第一章", None], ["一？", "答"]], merged=["A2:B2"])
    assert problems(section)[0] == "e.xlsx, row 2: '答案' is empty."


def test_formulas_that_nobody_computed_are_said(tmp_path):
    file = office.xlsx(tmp_path / "d.xlsx", [HEAD, ["一？", "=1+1"], ["二？", "答"]])
    records, notes = load(file, on_bad_row="skip")
    assert len(records) == 1 and any("1 formula has no value" in note and "B2" in note for note in notes)


def test_cells_under_no_name_are_said(tmp_path):
    _, notes = load(office.xlsx(tmp_path / "d.xlsx", [[*HEAD, None], ["一？", "答", "这是什么", "x"]]))
    assert any("columns without a name in row 1 are not used: C, D" in note for note in notes)


# What Excel itself shows for these.
SHOWN = [
    (0.15, "0%", "15%"), (0.1534, "0.00%", "15.34%"), (12.5, '"¥"#,##0.00', "¥12.50"), (12.5, "¥#,##0.00", "¥12.50"),
    (1234567, "#,##0", "1,234,567"), (12.5, "[$¥-804]#,##0.00", "¥12.50"), (-3, "0.0", "-3.0"), (-3, "0;(0)", "(3)"), (7, "000", "007"),
    (12.5, '0.0"元"', "12.5元"), (3, "General", "3"), (2.50, "0.##", "2.5"), (0.5, "# ?/?", "0.5"), (1.5, "0.00E+00", "1.5"),
    (datetime.date(2024, 5, 1), 'yyyy"年"m"月"d"日"', "2024年5月1日"), (datetime.date(2024, 5, 1), "yyyy/m/d", "2024/5/1"),
    (datetime.datetime(2024, 5, 1, 9, 5), "yyyy-mm-dd hh:mm", "2024-05-01 09:05"), (datetime.time(14, 30), "h:mm AM/PM", "2:30 PM"),
    (datetime.timedelta(hours=30), "[h]:mm", "30:00"), (datetime.datetime(2024, 5, 1), 'm"月"d"日"', "5月1日"),
    (datetime.datetime(2021, 1, 1), "yyyy-mm-dd h:mm:ss", "2021-01-01"), (0.15, "General", "0.15"),
]  # fmt: skip


def test_cells_are_read_as_the_workbook_shows_them(tmp_path):
    rows = [HEAD, *([f"{i}？", value] for i, (value, _, _) in enumerate(SHOWN))]
    file = office.xlsx(tmp_path / "d.xlsx", rows, {f"B{i}": code for i, (_, code, _) in enumerate(SHOWN, 2)})
    assert answers(file) == [shown for _, _, shown in SHOWN]


def test_the_old_excel_format(tmp_path):
    records, notes = load(office.xls(tmp_path / "d.xls"))
    assert [(r.instruction, r.output) for r in records] == [
        ("几年？", "20"), ("哪天？", "2024-05-01"), ("多少？", "0.15"), ("一问", "同一个答案。"), ("二问", "同一个答案。"),
    ]  # fmt: skip
    assert any("15% as 0.15" in note for note in notes) and any("left out: 封面" in note for note in notes)


def test_opendocument(tmp_path):
    assert answers(office.ods(tmp_path / "d.ods", [["标题"], HEAD, ["一？", "答\u3000案"]])) == ["答\u3000案"]


@pytest.mark.parametrize("name", ["d.xls", "d.ods", "d.xlsx", "d.xlsb"])
@pytest.mark.parametrize("kind", ["cut", "noise", "empty"])
def test_damaged_workbooks_end_in_a_sentence(tmp_path, name, kind):
    whole = office.xls(tmp_path / "w.xls").read_bytes() if name == "d.xls" else office.ods(tmp_path / "w.ods", [HEAD]).read_bytes()
    data = {"cut": whole[: len(whole) // 2], "noise": b"PK\x03\x04" + bytes(range(256)) * 4, "empty": b""}[kind]
    (tmp_path / name).write_bytes(data)
    assert f"{name}: is no readable Excel file" in problems(tmp_path / name)[0]


def test_an_old_workbook_called_xlsx_and_one_behind_a_password(tmp_path):
    file = tmp_path / "d.xlsx"
    file.write_bytes(office.xls(tmp_path / "w.xls").read_bytes())
    assert "old or a protected workbook" in problems(file)[0]


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "python_calamine", None)
    assert "pip install 'loraforge[office]'" in problems(office.ods(tmp_path / "d.ods", [HEAD]))[0]


@pytest.mark.parametrize("error", ["#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!"])
def test_cells_that_excel_could_not_compute_are_bad_rows(tmp_path, error):
    file = office.xlsx(tmp_path / "d.xlsx", [HEAD, ["一？", error], ["二？", "答"]])
    assert problems(file)[0].startswith(f"d.xlsx, row 2: '答案' shows {error}: Excel could not compute")
    assert answers(file, on_bad_row="skip") == ["答"]


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
def test_hidden_sheets_come_last_and_hidden_rows_are_said(tmp_path, state):
    import openpyxl

    book = openpyxl.Workbook()
    for name in ("旧", "新"):
        page = book.create_sheet(name)
        for row in (HEAD, [f"{name}？", "答"], ["二？", "答"]):
            page.append(row)
    book.remove(book.worksheets[0])
    book["旧"].sheet_state = state
    book["新"].row_dimensions[3].hidden = True
    book.active = 1
    book.save(tmp_path / "d.xlsx")
    records, notes = load(tmp_path / "d.xlsx")
    assert [r.instruction for r in records] == ["新？", "二？"]
    assert any("1 hidden row is read as well (3)" in n for n in notes) and any("left out: 旧 (hidden)" in n for n in notes)
    records, notes = load(tmp_path / "d.xlsx", sheet="1")
    assert records[0].instruction == "旧？" and any("'旧' that is read is a hidden one" in n for n in notes)


@pytest.mark.parametrize("name", ["d.xls", "d.xlsx", "d.ods"])
@pytest.mark.parametrize(("text", "said"), [("<html><table><tr><td>问题</td></tr></table></html>", "is a web page"), ('\ufeff<?xml version="1.0"?>', "is a web page"),
                                            ("问题,答案\n一？,好\n", "is plain text"), ("问题\t答案\n一？\t好\n", "is plain text")])  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_text_called_a_workbook_is_called_by_its_name(tmp_path, name, text, said, encoding):
    assert said in problems(write_text(tmp_path / name, text.lstrip("\ufeff") if encoding != "utf-8" else text, encoding))[0]


@pytest.mark.parametrize(
    ("written", "read"), [("一_x000D_\n二", "一\n二"), ("一_x000D_二", "一\n二"), ("a_x005F_x", "a_x"), ("a_x000b", "a_x000b")]
)
def test_characters_that_excel_spells_out(tmp_path, written, read):
    assert answers(office.xlsx(tmp_path / "d.xlsx", [HEAD, ["一？", written]])) == [read]


@pytest.mark.parametrize("named", [2, "2", "二"])
def test_a_sheet_is_named_by_its_number_as_yaml_reads_it(tmp_path, named):
    import openpyxl

    book = openpyxl.Workbook()
    for name in ("一", "二"):
        page = book.create_sheet(name)
        page.append(HEAD)
        page.append([f"{name}？", "答"])
    book.remove(book.worksheets[0])
    book.save(tmp_path / "d.xlsx")
    assert load(tmp_path / "d.xlsx", sheet=named)[0][0].instruction == "二？"


def test_cells_that_depend_on_the_country_are_counted(tmp_path):
    day = datetime.date(2024, 5, 1)
    rows = [[*HEAD, "备注"], ["一？", day, day], ["二？", 0.5, None], ["三？", day, None], ["四？", 0.15, None]]
    file = office.xlsx(tmp_path / "d.xlsx", rows, {"B2": "mm-dd-yy", "C2": "mm-dd-yy", "B3": "# ?/?", "B4": "yyyy/m/d", "B5": "0%"})
    assert answers(file) == ["2024-05-01", "0.5", "2024/5/1", "15%"]
    told = [note for note in load(file)[1] if "depends on the country" in note]
    assert len(told) == 1 and "d.xlsx: 3 cells" in told[0] and "B2 2024-05-01, C2 2024-05-01, B3 0.5" in told[0]


@pytest.mark.parametrize(
    ("number", "value", "text"), [(31, 45413, "2024-05-01"), (57, 45413, "2024-05-01"), (32, 0.375, "09:00:00"), (14, 45413, "2024-05-01")]
)
def test_days_that_only_the_excel_of_a_country_knows_are_days(tmp_path, number, value, text):
    import re
    import zipfile

    whole = office.xlsx(tmp_path / "w.xlsx", [HEAD, ["一？", value]], {"B2": "0.000"})
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "d.xlsx", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(
                name, re.sub(rb'(<xf [^>]*?numFmtId=)"164"', rb'\1"%d"' % number, data) if name.endswith("styles.xml") else data
            )
    assert answers(tmp_path / "d.xlsx") == [text]
    assert any("1 cell is read as stored" in note and f"B2 {text}" in note for note in load(tmp_path / "d.xlsx")[1])


def table(path, rows):
    if path.suffix == ".csv":
        return write_text(path, "".join(",".join(row) + "\n" for row in rows))
    return office.xlsx(path, rows)


@pytest.mark.parametrize("name", ["d.csv", "d.xlsx"])
def test_tables_that_were_put_below_each_other(tmp_path, name):
    records, notes = load(table(tmp_path / name, [HEAD, ["一？", "好"], HEAD, ["二？", "行"]]))
    assert [r.instruction for r in records] == ["一？", "二？"] and any("1 row repeats the header, and is not used: 3" in n for n in notes)
    assert (
        "row 3: names columns anew, and otherwise than row 1"
        in problems(table(tmp_path / name, [HEAD, ["一？", "好"], HEAD[::-1], ["行", "二？"]]))[0]
    )


@pytest.mark.parametrize("name", ["d.csv", "d.xlsx"])
def test_of_two_rows_of_names_the_lower_one_counts(tmp_path, name):
    file = table(tmp_path / name, [["咨询", "", "答复", ""], ["问题", "日期", "答案", "律师"], ["一？", "2024", "好", "王"]])
    records, notes = load(file)
    assert [(r.instruction, r.output) for r in records] == [("一？", "好")] and any("row 2 names the columns" in note for note in notes)
    assert len(load(table(tmp_path / name, [["instruction", "output"], ["q", "a"]]))[0]) == 1
