"""Workbooks: .xlsx by openpyxl, which knows how cells are shown; .xls, .xlsb and .ods by calamine."""

from __future__ import annotations

import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loraforge import DataError, refuse_machines_fault, speaker

from .extras import needed
from .number_formats import cell_text, shown
from .packed import refuse_bomb
from .rows import Reading, Row, Source, Table, find_header, header_names, row_place, tell_titles

say = speaker(__name__)

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # how .xls and encrypted .xlsx begin
_LAST_ROW = 1_048_576  # of a sheet
_MOST_CELLS = 20_000_000  # of a sheet that is held in memory
_LOOK = 50  # rows that are looked at to find out whether a sheet holds any
# <c r="B2"><f>…</f><v/></c>, with or without a prefix
_CELL = re.compile(
    rb'<(?:\w+:)?c\s[^>]*?\br="([A-Z]+[0-9]+)"[^>]*>\s*<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*'
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_HIDDEN = re.compile(rb'<(?:\w+:)?row\s[^>]*?\br="([0-9]+)"(?=[^>]*?\bhidden="(?:1|true)")')
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]+)([0-9]+):([A-Z]+)([0-9]+)"')


class _Error(str):
    """What a cell shows whose formula failed: #N/A, #REF!"""


@dataclass(frozen=True)
class _Sheet:
    """One sheet.

    Attributes:
        cells: (number from 1, cells) of its rows, read anew each time.
        merged: (first row, column, last row) of cells that stand for several rows, from 1 and 0.
        hidden: whether the workbook hides it.
        hidden_rows: the numbers of the rows that it hides, as a filter does.
        empty_formulas: places of formulas without a value: whoever wrote the file did not compute them.
    """

    name: str
    read: Any
    merged: Sequence[tuple[int, int, int]] = ()
    empty_formulas: Sequence[str] = field(default=())
    hidden: bool = False
    hidden_rows: Sequence[int] = ()

    def rows(self, limit: int | None = None) -> Iterator[tuple[int, list[str]]]:
        for number, cells in enumerate(self.read(limit), 1):
            if number > _LAST_ROW:
                raise ValueError(say("it has a row after the last"))
            yield number, cells


def read_workbook(source: Source, reading: Reading) -> list[Table]:
    """The table of the sheet that holds the columns.

    Raises:
        DataError: if it is no workbook that can be read, or unpacks to more than anybody means.
    """
    _refuse_text(source)
    try:
        return _excel(source, reading) if source.suffix in (".xlsx", ".xlsm") else _calamine(source, reading)
    except (DataError, ImportError):
        raise
    except Exception as error:  # the libraries raise whatever the damage leads to
        refuse_machines_fault(error)
        text = str(error) or type(error).__name__
        raise DataError(
            say("{path}: is no readable Excel file ({kind}): {error}.", path=source.path, kind=source.suffix, error=text.split("\n")[0])
        ) from None


def _refuse_text(source: Source) -> None:
    """Many programs call a web page or a CSV file .xls, for Excel to open it.

    Raises:
        DataError: if this is one.
    """
    start = source.data[:4000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] == b"<":
        raise DataError(
            say(
                "{path}: is called {kind}, but is a web page (HTML) or XML. Open it in Excel or WPS and save it as .xlsx.",
                path=source.path,
                kind=source.suffix,
            )
        )
    wide = start.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16
    if start and not start.startswith(b"PK") and (wide or not re.search(rb"[\x00-\x08\x0e-\x1f]", start)):
        raise DataError(
            say(
                "{path}: is called {kind}, but is plain text, such as a CSV file. Rename it to .csv (.tsv if tabs separate its columns), "
                "or open it in Excel or WPS and save it as .xlsx.",
                path=source.path,
                kind=source.suffix,
            )
        )


def _excel(source: Source, reading: Reading) -> list[Table]:
    import openpyxl

    if source.data.startswith(_OLE):
        raise DataError(say("{path}: is an old or a protected workbook. Save it as .xlsx without a password.", path=source.path))
    refuse_bomb(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl's remarks on styles
        book = openpyxl.load_workbook(io.BytesIO(source.data), read_only=True, data_only=True)
        try:
            return _chosen(source, [_excel_sheet(source, sheet) for sheet in book.worksheets], reading)
        finally:
            book.close()


def _excel_sheet(source: Source, sheet: Any) -> _Sheet:
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
    return _Sheet(sheet.title, read, merged, formulas, sheet.sheet_state != "visible", hidden_rows)


def _cell(cell: Any) -> str:
    if cell.value is None:
        return ""
    if cell.data_type == "e":
        return _Error(cell.value)
    from openpyxl.utils.escape import unescape

    text = shown(cell.value, cell.number_format)
    # Excel writes a carriage return as _x000D_.
    return unescape(text).replace("\r\n", "\n").replace("\r", "\n") if isinstance(cell.value, str) and "_x" in text else text


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number - 1


def _calamine(source: Source, reading: Reading) -> list[Table]:
    with needed("office", ".xls, .xlsb, .ods"):
        import python_calamine
    if source.suffix != ".xls":
        refuse_bomb(source)
    book = python_calamine.load_workbook(io.BytesIO(source.data))
    sheets = []
    for meta in book.sheets_metadata:
        if meta.typ is not python_calamine.SheetTypeEnum.WorkSheet:
            continue
        sheet = book.get_sheet_by_name(meta.name)
        if sheet.height * sheet.width > _MOST_CELLS:
            raise ValueError(say("the sheet '{sheet}' has {n} cells", sheet=meta.name, n=sheet.height * sheet.width))
        values = sheet.to_python(skip_empty_area=False)
        if any(isinstance(cell, float) and not cell.is_integer() for row in values for cell in row):
            reading.note(
                say(
                    "{file}: in this kind of file numbers are read as stored, 15% as 0.15. Save it as .xlsx to have them as shown.",
                    file=source.name,
                )
            )
        merged = [(top + 1, left, bottom + 1) for (top, left), (bottom, _) in sheet.merged_cell_ranges or () if bottom > top]

        def read(limit: int | None, values: Sequence[Sequence[Any]] = values) -> Iterator[list[str]]:
            return ([cell_text(cell) for cell in row] for row in values[:limit])

        sheets.append(_Sheet(meta.name, read, merged, hidden=meta.visible is not python_calamine.SheetVisibleEnum.Visible))
    return _chosen(source, sheets, reading)


def _chosen(source: Source, sheets: Sequence[_Sheet], reading: Reading) -> list[Table]:
    filled = [sheet for sheet in sheets if any(any(cells) for _, cells in sheet.rows(_LOOK))]
    if reading.sheet:
        sheet = _wanted(source, sheets, reading.sheet)
    elif not filled:
        return [Table(source.name, [])]
    else:
        filled.sort(key=lambda sheet: sheet.hidden)  # what is hidden comes last: old copies, lists of choices
        sheet = next((sheet for sheet in filled if any(reading.is_header(cells) for _, cells in sheet.rows(_LOOK))), filled[0])
    if sheet.hidden:
        reading.note(say("{file}: the sheet '{sheet}' that is read is a hidden one", file=source.name, sheet=sheet.name))
    others = [other.name for other in filled if other is not sheet]
    if others:
        reading.note(
            say(
                "{file}: the sheet '{sheet}' is read; left out: {others} (sheet: {other} reads that one)",
                file=source.name,
                sheet=sheet.name,
                others=", ".join(
                    say("{sheet} (hidden)", sheet=other.name) if other.hidden else other.name for other in filled if other is not sheet
                ),
                other=others[0],
            )
        )
    return [Table(source.name, _rows(source, sheet, reading))]


def _wanted(source: Source, sheets: Sequence[_Sheet], called: str) -> _Sheet:
    for sheet in sheets:
        if sheet.name.strip() == called.strip():
            return sheet
    if called.isdigit() and 1 <= int(called) <= len(sheets):
        return sheets[int(called) - 1]
    raise DataError(
        say(
            "{path}: sheet: there is no sheet '{sheet}'. There are: {names}.",
            path=source.path,
            sheet=called,
            names=", ".join(sheet.name for sheet in sheets),
        )
    )


def _rows(source: Source, sheet: _Sheet, reading: Reading) -> list[Row]:
    top = find_header(source, sheet.rows(), reading)
    header: list[str] | None = None
    above: list[list[str]] = []
    rows: list[Row] = []
    concealed: list[int] = []
    hidden = set(sheet.hidden_rows)
    beyond: set[int] = set()
    fill = _Filled(sheet.merged, top or 0)
    for number, read in sheet.rows():
        if header is None:
            if number == top:
                header = header_names(source.path, read)
            else:
                above.append(read)
            continue
        cells = fill(number, read)
        if not any(cell.strip() for cell in cells):
            continue
        concealed += [number] if number in hidden else []
        beyond |= {i for i, cell in enumerate(cells) if cell.strip() and (i >= len(header) or not header[i])}
        rows.append(
            Row(
                row_place(source.name, number),
                {name: cell for name, cell in itertools.zip_longest(header, cells[: len(header)], fillvalue="") if name},
                _failed(header, cells),
            )
        )
    tell_titles(source, above, top or 0, reading)
    if beyond:
        names = ", ".join(_letters(i) for i in sorted(beyond)[:20])
        reading.note(say("{file}: columns without a name in row {n} are not used: {names}", file=source.name, n=top, names=names))
    if concealed:
        reading.note(
            say(
                "{file}: {n} hidden rows are read as well ({places}). Delete those that you do not mean.",
                file=source.name,
                n=len(concealed),
                places=", ".join(map(str, concealed[:10])),
            )
        )
    if fill.used:
        reading.note(say("{file}: merged cells count for each of their rows ({n} cells)", file=source.name, n=fill.used))
    lacking = [place for place in sheet.empty_formulas if int(re.sub(r"\D", "", place)) > (top or 0)]
    if lacking:
        reading.note(
            say(
                "{file}: {n} formulas have no value, as no spreadsheet program has computed them ({places}). Open the file in one and "
                "save it.",
                file=source.name,
                n=len(lacking),
                places=", ".join(lacking[:5]),
            )
        )
    return rows


def _failed(header: Sequence[str], cells: Sequence[str]) -> str | None:
    for name, cell in zip(header, cells, strict=False):
        if name and isinstance(cell, _Error):
            return say(
                "'{column}' shows {error}: Excel could not compute that cell. Mend its formula, or write the text.", column=name, error=cell
            )
    return None


class _Filled:
    """Gives the rows of a merged cell its text. Only downwards: a cell that spans columns is a title, not an answer to itself."""

    def __init__(self, merged: Sequence[tuple[int, int, int]], header: int) -> None:
        self._starts: Mapping[int, list[tuple[int, int]]] = {}
        starts: dict[int, list[tuple[int, int]]] = {}
        for top, column, bottom in merged:
            if top > header:
                starts.setdefault(top, []).append((column, bottom))
        self._starts = starts
        self._open: dict[int, tuple[str, int]] = {}  # column -> text, last row
        self.used = 0

    def __call__(self, number: int, cells: list[str]) -> list[str]:
        made = list(cells)
        for column, (text, last) in list(self._open.items()):
            if number > last:
                del self._open[column]
                continue
            made += [""] * (column + 1 - len(made))
            if not made[column].strip() and text.strip():
                made[column] = text
                self.used += 1
        for column, bottom in self._starts.get(number, ()):
            self._open[column] = (made[column] if column < len(made) else "", bottom)
        return made


def _letters(column: int) -> str:
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name
