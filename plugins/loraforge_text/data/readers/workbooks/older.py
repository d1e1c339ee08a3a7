# SPDX-License-Identifier: Apache-2.0
"""Workbooks of other programs: .xls, .xlsb and .ods, by calamine."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator, Sequence
from typing import Any

from loraforge import speaker

from ..extras import needed
from ..number_formats import cell_text
from ..packed import refuse_bomb
from ..rows import FailedCell, Reading, Source, Table
from .compound_file import refuse_endless
from .error_cells import UNKNOWN, Cells, error_cells
from .sheets import Sheet, read_sheets

say = speaker(__name__)

_MOST_CELLS = 20_000_000  # of a sheet that is held in memory


def read_older(source: Source, reading: Reading) -> list[Table]:
    """The tables of an .xls, .xlsb or .ods.

    Raises:
        DataError: if it unpacks to more than anybody means, or the library for it is not installed.
        ValueError: if a sheet has too many cells, or the sectors of an .xls lead back to themselves.
    """
    with needed("office", ".xls, .xlsb, .ods"):
        import python_calamine
    if source.suffix == ".xls":
        refuse_endless(source.data)
    else:
        refuse_bomb(source)
    book = python_calamine.load_workbook(io.BytesIO(source.data))
    failed = _failed_cells(source, reading)
    sheets = []
    stored = False
    for place, meta in enumerate(book.sheets_metadata):
        if meta.typ is not python_calamine.SheetTypeEnum.WorkSheet:
            continue
        sheet = book.get_sheet_by_name(meta.name)
        if sheet.height * sheet.width > _MOST_CELLS:
            raise ValueError(say("the sheet '{sheet}' has {n} cells", sheet=meta.name, n=sheet.height * sheet.width))
        values = sheet.to_python(skip_empty_area=False)
        errors: Cells = failed[place] if place < len(failed) else {}
        stored |= any(
            _as_stored(cell) and column not in errors.get(row, {}) for row, cells in enumerate(values) for column, cell in enumerate(cells)
        )
        merged = [(top + 1, left, bottom + 1) for (top, left), (bottom, _) in sheet.merged_cell_ranges or () if bottom > top]
        hidden = meta.visible is not python_calamine.SheetVisibleEnum.Visible
        sheets.append(Sheet(meta.name, _reader(values, errors), merged, hidden=hidden))
    if stored:
        reading.note(
            say(
                "{file}: in this kind of file numbers and days are read as stored, 15% as 0.15, May 1 2024 as 2024-05-01. Save it "
                "as .xlsx to have them as shown.",
                file=source.name,
            )
        )
    return read_sheets(source, sheets, reading)


def _as_stored(cell: Any) -> bool:
    return isinstance(cell, datetime.date) or (isinstance(cell, float) and not cell.is_integer())


def _reader(values: Sequence[Sequence[Any]], errors: Cells) -> Any:
    def read(limit: int | None) -> Iterator[list[str]]:
        width = len(values[0]) if values else 0
        for number, row in enumerate(values[:limit]):
            cells = [cell_text(cell) for cell in row]
            for column, shown in errors.get(number, {}).items():
                if column < width:
                    cells[column] = FailedCell(shown)
            yield cells

    return read


def _failed_cells(source: Source, reading: Reading) -> Sequence[Cells]:
    try:
        return error_cells(source.data, source.suffix)
    except UNKNOWN:
        reading.note(
            say(
                "{file}: whether cells of it failed (#N/A, #REF!) cannot be told, and such cells are read as empty. Save it as .xlsx to "
                "have them named.",
                file=source.name,
            )
        )
        return ()
