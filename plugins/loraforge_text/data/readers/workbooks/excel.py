# SPDX-License-Identifier: Apache-2.0
"""Workbooks of Excel since 2007, cell by cell as they are shown."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

from loraforge import DataError, speaker

from ..number_formats import as_shown, cell_text
from ..packed import refuse_bomb
from ..rows import AsStored, FailedCell, Reading, Source, Table
from .sheets import Sheet, read_sheets

say = speaker(__name__)

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # how .xls and encrypted .xlsx begin
# <c r="B2"><f>…</f><v/></c>, with or without a prefix
_CELL = re.compile(
    rb'<(?:\w+:)?c\s[^>]*?\br="([A-Z]+[0-9]+)"[^>]*>\s*<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*'
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_HIDDEN = re.compile(rb'<(?:\w+:)?row\s[^>]*?\br="([0-9]+)"(?=[^>]*?\bhidden="(?:1|true)")')
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]+)([0-9]+):([A-Z]+)([0-9]+)"')

# Formats that Excel knows by number alone, and shows by the country of the computer (ISO/IEC 29500-1, 18.8.30): 2024年5月1日, 2024/5/1.
_EAST_ASIAN = frozenset((*range(27, 37), *range(50, 59)))
_OF_COUNTRY = "[$-F800]"


def read_excel(source: Source, reading: Reading) -> list[Table]:
    """The tables of an .xlsx or .xlsm.

    Raises:
        DataError: if it has a password, or unpacks to more than anybody means.
    """
    import openpyxl

    if source.data.startswith(_OLE):
        raise DataError(say("{path}: is an old or a protected workbook. Save it as .xlsx without a password.", path=source.path))
    refuse_bomb(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl's remarks on styles
        book = openpyxl.load_workbook(io.BytesIO(source.data), read_only=True, data_only=True)
        try:
            return read_sheets(source, [_excel_sheet(source, sheet) for sheet in book.worksheets], reading)
        finally:
            book.close()


def _excel_sheet(source: Source, sheet: Any) -> Sheet:
    sheet.reset_dimensions()  # the size that a sheet claims is often that of its formats, a million rows

    def read(limit: int | None) -> Iterator[list[str]]:
        for row in sheet.iter_rows(max_row=limit):
            yield [_cell(cell) for cell in row]

    with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
        # openpyxl tells of merged cells and of formulas only where it holds the whole workbook in memory, fifty times its size.
        name = next((n for n in archive.namelist() if n.lower() == str(sheet._worksheet_path).lower().lstrip("/")), None)
        raw = archive.read(name) if name else b""
    merged = [
        (int(top), _column(left), int(bottom))
        for left, top, _, bottom in (match.groups() for match in _MERGED.finditer(raw))
        if int(bottom) > int(top)
    ]
    formulas = [match[1].decode() for match in _CELL.finditer(raw)]
    hidden_rows = [int(match[1]) for match in _HIDDEN.finditer(raw)]
    return Sheet(sheet.title, read, merged, formulas, sheet.sheet_state != "visible", hidden_rows)


def _cell(cell: Any) -> str:
    if cell.value is None:
        return ""
    if cell.data_type == "e":
        return FailedCell(cell.value)
    from openpyxl.utils.escape import unescape

    value, code = _dated(cell)
    told = as_shown(value, code)
    text = AsStored(cell_text(value)) if told is None else told
    # Excel writes a carriage return as _x000D_.
    return unescape(text).replace("\r\n", "\n").replace("\r", "\n") if isinstance(cell.value, str) and "_x" in text else text


def _dated(cell: Any) -> tuple[Any, str]:
    """(value, number format) of a cell; a day where openpyxl gives a number, as it does not know the formats of East Asia's Excel."""
    number = cell.style_array.numFmtId if cell.has_style else 0
    if number not in _EAST_ASIAN or cell.number_format != "General" or isinstance(cell.value, bool | str):
        return cell.value, cell.number_format
    if not isinstance(cell.value, int | float):
        return cell.value, _OF_COUNTRY
    from openpyxl.utils.datetime import from_excel

    try:
        return from_excel(cell.value, cell.parent.parent.epoch), _OF_COUNTRY
    except (ValueError, OverflowError):
        return cell.value, "General"


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number - 1
