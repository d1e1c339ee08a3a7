# SPDX-License-Identifier: Apache-2.0
"""Failed formulas in files whose reader does not tell of them."""

from __future__ import annotations

import contextlib

import pytest
from builders import office
from builders.text_data import load, problems
from loraforge_text.data.readers.workbooks import older
from loraforge_text.data.readers.workbooks.error_cells import UNKNOWN, error_cells

HEAD = ["问题", "答案", "背景"]
ERRORS = {0x2A: "#N/A", 0x17: "#REF!", 0x07: "#DIV/0!", 0x0F: "#VALUE!", 0x1D: "#NAME?", 0x24: "#NUM!", 0x00: "#NULL!"}


def cell(shown: str, attributes: str, value: str = 'office:value-type="string" office:string-value=""') -> str:
    return f"<table:table-cell {attributes} {value}><text:p>{shown}</text:p></table:table-cell>"


def test_old_excel(tmp_path):
    told = problems(office.xls_with_errors(tmp_path / "d.xls"), sheet="劳动")
    assert [line.split(":")[:2] for line in told[: len(ERRORS)]] == [
        [f"d.xls, row {row}", f" '答案' shows {error}"] for row, error in enumerate(ERRORS.values(), 3)
    ]


def test_nothing_is_told_of_a_workbook_without_any(tmp_path):
    records, notes = load(office.xls(tmp_path / "d.xls"))
    assert len(records) == 5 and not any("cannot be told" in note for note in notes)


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("column", [1, 2])
def test_binary_workbooks(tmp_path, code, column):
    row: list[str | int] = ["一？", "答", "背景"]
    row[column] = code
    assert problems(office.xlsb(tmp_path / "d.xlsb", [HEAD, row, ["二？", "答", ""]]))[0].startswith(
        f"d.xlsb, row 2: '{HEAD[column]}' shows {ERRORS[code]}"
    )


@pytest.mark.parametrize(
    ("made", "error"),
    [(cell("#N/A", 'table:formula="of:=NA()" calcext:value-type="error"'), "#N/A"),
     (cell("Err:502", 'table:formula="of:=A()" calcext:value-type="error"', 'office:value-type="float" office:value="0"'), "Err:502"),
     (cell("Err:508", 'table:formula="of:=A("', 'office:value-type="float" office:value="0"'), "Err:508"),
     (cell("", 'table:formula="of:=A()" calcext:value-type="error"'), "#N/A"),
     (cell("#REF!", "", 'office:value-type="string"'), "#REF!")],
)  # fmt: skip
def test_opendocument_as_libreoffice_and_excel_write_it(tmp_path, made, error):
    rows = [["标题"], HEAD, ["一？", "答", made], ["二？", "答", ""]]
    assert problems(office.ods(tmp_path / "d.ods", rows))[0].startswith(f"d.ods, row 3: '背景' shows {error}")
    assert [r.instruction for r in load(tmp_path / "d.ods", on_bad_row="skip")[0]] == ["二？"]


def test_repeated_cells_and_rows_of_opendocument_are_counted(tmp_path):
    empty = '<table:table-cell table:number-columns-repeated="2"/>'
    wrong = cell("#N/A", 'calcext:value-type="error" table:formula="of:=NA()"')
    rows = [["问题", empty, "答案"], ["一？", empty, wrong], ["二？", empty, "Err:502 是什么意思"]]
    file = office.ods(tmp_path / "d.ods", rows)
    assert problems(file)[0].startswith("d.ods, row 2: '答案' shows #N/A")
    assert [r.output for r in load(file, on_bad_row="skip")[0]] == ["Err:502 是什么意思"]


@pytest.mark.parametrize("name", ["d.xls", "d.xlsb", "d.ods"])
def test_a_file_that_is_built_otherwise_is_read_and_said(tmp_path, name, monkeypatch):
    def fail(data: bytes, suffix: str):
        raise ValueError

    monkeypatch.setattr(older, "error_cells", fail)
    file = tmp_path / name
    {"d.xls": lambda: office.xls(file), "d.xlsb": lambda: office.xlsb(file, [HEAD, ["一？", "答", ""]]), "d.ods": lambda: office.ods(file, [HEAD, ["一？", "答", ""]])}[name]()  # fmt: skip
    records, notes = load(file)
    assert records and any("cannot be told, and such cells are read as empty" in note for note in notes)


def test_cut_and_changed_workbooks_are_read_or_said_to_be_damaged(tmp_path):
    whole = office.xls_with_errors(tmp_path / "d.xls").read_bytes()
    binary = office.xlsb(tmp_path / "d.xlsb", [HEAD, ["一？", 42, ""]]).read_bytes()
    for data, suffix in ((whole, ".xls"), (binary, ".xlsb")):
        for at in range(0, len(data), max(1, len(data) // 300)):
            for changed in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
                with contextlib.suppress(*UNKNOWN):
                    error_cells(changed, suffix)
