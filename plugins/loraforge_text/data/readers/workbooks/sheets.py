# SPDX-License-Identifier: Apache-2.0
"""The sheets of a workbook: which of them are read, and their rows."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from loraforge import DataError, first_few, speaker

from ..rows import (
    AsStored,
    Reading,
    Row,
    Source,
    Table,
    another_header,
    failed_cell,
    find_header,
    header_names,
    known_header,
    repeats,
    row_place,
    some_of,
    tell_repeated,
    tell_titles,
)
from ..splits import split_called
from ..upright import read_upright

say = speaker(__name__)

_LAST_ROW = 1_048_576  # of a sheet
ALL = "all"
_LOOK = 50  # rows that are looked at to find out whether a sheet holds any


@dataclass(frozen=True)
class Sheet:
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


def read_sheets(source: Source, sheets: Sequence[Sheet], reading: Reading) -> list[Table]:
    """The tables of the sheets that are wanted, or of the first that names the columns.

    Raises:
        DataError: if a sheet that is wanted is not there.
    """
    filled = [sheet for sheet in sheets if any(any(cells) for _, cells in sheet.rows(_LOOK))]
    filled.sort(key=lambda sheet: sheet.hidden)  # what is hidden comes last: old copies, lists of choices
    known = [sheet for sheet in filled if known_header(sheet.rows(_LOOK), reading) is not None or _upright(source, sheet, reading, _LOOK)]
    if reading.sheets == (ALL,) and all(sheet.name.strip() != ALL for sheet in sheets):
        chosen = [sheet for sheet in known if not sheet.hidden] or known or filled
    elif reading.sheets:
        chosen = list({wanted.name: wanted for wanted in (_wanted(source, sheets, called) for called in reading.sheets)}.values())
    else:
        chosen = (known or filled)[:1]
    if not chosen:
        return [Table(source.name, [])]
    _tell(source, chosen, known, filled, reading)
    if len(chosen) == 1:
        return [Table(source.name, _rows(source, chosen[0], reading))]
    return _tables(source, chosen, reading)


def _tables(source: Source, sheets: Sequence[Sheet], reading: Reading) -> list[Table]:
    """Each sheet with its own header, its rows called by sheet and row.

    Raises:
        DataError: for all sheets at once.
    """
    tables: list[Table] = []
    problems: list[str] = []
    for sheet in sheets:
        part = replace(
            source,
            path=say("{file}, sheet {sheet}", file=source.path, sheet=sheet.name),
            name=say("{file}, sheet {sheet}", file=source.name, sheet=sheet.name),
        )
        try:
            tables.append(Table(part.name, _rows(part, sheet, reading), split_called(sheet.name)))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return tables


def _tell(source: Source, chosen: Sequence[Sheet], known: Sequence[Sheet], filled: Sequence[Sheet], reading: Reading) -> None:
    """Names the sheets that are read where there are others, and those others."""
    for sheet in chosen:
        if sheet.hidden:
            reading.note(say("{file}: the sheet '{sheet}' that is read is a hidden one", file=source.name, sheet=sheet.name))
    others = [sheet for sheet in filled if sheet not in chosen]
    names = ", ".join(say("{sheet} (hidden)", sheet=sheet.name) if sheet.hidden else sheet.name for sheet in others)
    if len(chosen) > 1:
        read = ", ".join(sheet.name for sheet in chosen)
        if others:
            reading.note(say("{file}: the sheets {sheets} are read; left out: {others}", file=source.name, sheets=read, others=names))
        else:
            reading.note(say("{file}: the sheets {sheets} are read", file=source.name, sheets=read))
    elif others:
        reading.note(
            say(
                "{file}: the sheet '{sheet}' is read; left out: {others} (sheet: {other} reads that one)",
                file=source.name,
                sheet=chosen[0].name,
                others=names,
                other=others[0].name,
            )
        )
    more = [sheet for sheet in others if sheet in known]
    if more and not reading.sheets:
        reading.note(
            say(
                "{file}: questions and answers stand in {more} as well, which is not read. To read all of them: sheet: {all}",
                file=source.name,
                more=", ".join(sheet.name for sheet in more),
                all=_listed([*chosen, *more]),
            )
        )


def _listed(sheets: Sequence[Sheet]) -> str:
    """The sheets as YAML writes a list."""
    return f"[{', '.join(sheet.name if _plain(sheet.name) else json.dumps(sheet.name, ensure_ascii=False) for sheet in sheets)}]"


def _plain(name: str) -> bool:
    """Whether YAML reads a name in a list as it is: 2024, no and what holds a comma need quotes."""
    try:
        return bool(yaml.safe_load(f"[{name}]") == [name])
    except yaml.YAMLError:
        return False


def _wanted(source: Source, sheets: Sequence[Sheet], called: str) -> Sheet:
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


def _upright(source: Source, sheet: Sheet, reading: Reading, limit: int | None = None) -> tuple[list[Row], list[str]] | None:
    """The rows of a sheet whose first column names the fields; None if it is none, or a row names the columns."""
    if reading.header_row or known_header(sheet.rows(_LOOK), reading) is not None:
        return None
    return read_upright([(row_place(source.name, number), cells) for number, cells in sheet.rows(limit)], reading)


def _rows(source: Source, sheet: Sheet, reading: Reading) -> list[Row]:
    if _upright(source, sheet, reading, _LOOK) and (upright := _upright(source, sheet, reading)):
        made, headings = upright
        reading.note(
            say("{file}: the sheet '{sheet}' is read downwards: its first column names the fields", file=source.name, sheet=sheet.name)
        )
        if headings:
            reading.note(say("{file}: rows of one cell are headings, and not used: {words}", file=source.name, words=some_of(headings)))
        return made
    top = find_header(source, sheet.rows(), reading)
    header: list[str] | None = None
    above: list[list[str]] = []
    rows: list[Row] = []
    concealed: list[int] = []
    hidden = set(sheet.hidden_rows)
    beyond: set[int] = set()
    stored: list[str] = []
    names: Sequence[str] = ()
    again: list[int] = []
    fill = _Filled(sheet.merged, top or 0)
    for number, read in sheet.rows():
        if header is None:
            if number == top:
                header = header_names(source.path, read)
                names = read
            else:
                above.append(read)
            continue
        cells = fill(number, read)
        if not any(cell.strip() for cell in cells):
            continue
        if repeats(names, read):
            again.append(number)
            continue
        concealed += [number] if number in hidden else []
        beyond |= {i for i, cell in enumerate(cells) if cell.strip() and (i >= len(header) or not header[i])}
        stored += [
            f"{_letters(i)}{number} {cell}" for i, cell in enumerate(read[: len(header)]) if header[i] and isinstance(cell, AsStored)
        ]
        rows.append(
            Row(
                row_place(source.name, number),
                {name: cell for name, cell in itertools.zip_longest(header, cells[: len(header)], fillvalue="") if name},
                failed_cell(header, cells) or another_header(names, read, top or 0, reading),
            )
        )
    tell_titles(source, above, top or 0, reading)
    tell_repeated(source, again, reading)
    _remark(source, sheet, reading, top or 0, sorted(beyond), concealed, stored, fill.used)
    return rows


def _remark(
    source: Source,
    sheet: Sheet,
    reading: Reading,
    top: int,
    beyond: Sequence[int],
    concealed: Sequence[int],
    stored: Sequence[str],
    merged: int,
) -> None:
    """What was decided of the cells of a sheet.

    Args:
        top: the row of the header.
        beyond: columns without a name.
        concealed: hidden rows.
        stored: cells that may be shown otherwise.
        merged: how many cells got the text of the one that they are merged with.
    """
    if beyond:
        names = ", ".join(_letters(i) for i in beyond[:20])
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
    if stored:
        reading.note(
            say(
                "{file}: {n} cells are read as stored, as what they show depends on the country of the computer, or their number format is "
                "not understood: {cells}. If that is not what you mean, write them as text.",
                file=source.name,
                n=len(stored),
                cells=first_few(stored, 3),
            )
        )
    if merged:
        reading.note(say("{file}: merged cells count for each of their rows ({n} cells)", file=source.name, n=merged))
    lacking = [place for place in sheet.empty_formulas if int(re.sub(r"\D", "", place)) > top]
    if lacking:
        reading.note(
            say(
                "{file}: {n} formulas have no value, as no spreadsheet program has computed them ({places}). Open the file in one and "
                "save it.",
                file=source.name,
                n=len(lacking),
                places=first_few(lacking),
            )
        )


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
