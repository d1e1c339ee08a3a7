# SPDX-License-Identifier: Apache-2.0
"""CSV and TSV, and the tables of Markdown."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from loraforge import speaker

from .questions import Line
from .rows import (
    Reading,
    Row,
    Source,
    Table,
    another_header,
    find_header,
    header_names,
    repeats,
    row_place,
    some_of,
    tell_repeated,
    tell_titles,
)

say = speaker(__name__)

# The separators that spreadsheets write; the full-width ones come from hand-made files.
SEPARATORS = (",", "\t", ";", "；", "，", "|")
csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than some answers


@dataclass(frozen=True)
class _Record:
    """One record of the file, in the lines ``first`` to ``last``, or why it is none."""

    number: int
    cells: Sequence[str]
    problem: str | None = None
    first: int = 0
    last: int = 0


def read_delimited(source: Source, text: str, reading: Reading) -> list[Table]:
    """The one table of a CSV or TSV file."""
    if not text.strip():
        return [Table(source.name, [])]
    separator = "\t" if source.suffix == ".tsv" else _separator(text, reading)
    if separator not in (",", "\t"):
        reading.note(say("{file}: columns are separated by '{separator}'", file=source.name, separator=separator))
    records = _records(text, separator)
    top = find_header(source, ((r.number, r.cells) for r in records if r.problem is None), reading)
    rows: list[Row] = []
    header: list[str] | None = None
    names: Sequence[str] = ()
    again: list[int] = []
    for record in records:
        where = row_place(source.name, record.number)
        if record.problem is not None:
            rows.append(Row(where, {}, record.problem))
        elif record.number == top:
            header = header_names(source.path, record.cells)
            names = record.cells
        elif header is not None and repeats(names, record.cells):
            again.append(record.number)
        elif header is not None and any(cell.strip() for cell in record.cells):
            swallowed = _swallowed(record, len(header), separator) or another_header(names, record.cells, top or 0, reading)
            rows.append(Row(where, {}, swallowed) if swallowed else _row(where, header, record.cells, separator))
    tell_titles(source, (r.cells for r in records if top is not None and r.number < top), top or 0, reading)
    tell_repeated(source, again, reading)
    return [Table(source.name, rows)]


def _separator(text: str, reading: Reading) -> str:
    """That of the header: the first line that makes known columns of it, else the first line."""
    lines = [line for line in text[:20_000].splitlines() if line.strip()][:20]
    for line in lines:
        likely = max(SEPARATORS, key=line.count)
        if reading.is_header([cell.strip().strip('"').lstrip("\ufeff") for cell in line.split(likely)]):
            return likely
    return max(SEPARATORS, key=lines[0].count) if lines else ","


def _records(text: str, separator: str) -> list[_Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found = []
    number = 0
    while True:
        number += 1
        first = reader.line_num + 1
        try:
            found.append(_Record(number, next(reader), None, first, reader.line_num))
        except StopIteration:
            return found
        except csv.Error as error:
            problem = say("the quotes do not match ({error}). A quote inside a quoted cell is written twice.", error=error)
            if reader.line_num > first:
                problem += " " + say("The lines {first} to {last} are lost by it.", first=first, last=reader.line_num)
            found.append(_Record(number, (), problem, first, reader.line_num))


def _swallowed(record: _Record, columns: int, separator: str) -> str | None:
    """Why a quoted cell of several lines is no text: each of its lines after the first is a row of its own."""
    for cell in record.cells:
        _, *below = [line for line in cell.splitlines() if line.strip()] or [""]
        rows = [next(csv.reader([line], delimiter=separator)) for line in below]
        # 1,000 and a comma before a space are prose.
        prose = any(re.search(rf"{re.escape(separator)}\s|(?<=\d){re.escape(separator)}(?=\d)", line) for line in below)
        if columns > 1 and rows and not prose and all(len(row) == columns and all(part.strip() for part in row[:-1]) for row in rows):
            return say(
                "a quote in line {first} seems never to end, so that the rows below it, down to line {last}, stand in one cell ({sample}). "
                "Take that quote away, or write it twice inside a quoted cell. If that is one text, save the table as .xlsx.",
                first=record.first,
                last=record.last,
                sample=below[0] if len(below[0]) <= 40 else f"{below[0][:37]}...",
            )
    return None


def read_markdown_tables(source: Source, lines: Sequence[Line], reading: Reading) -> list[Table]:
    """The tables of a Markdown file whose headers are known, ``| question | answer |`` above ``|---|---|``; none if there is none."""
    tables: list[Table] = []
    used: set[int] = set()
    fenced = False
    for place, line in enumerate(lines):
        fenced ^= line.text.lstrip().startswith(("```", "~~~"))
        names = _pipes(line.text)
        rule = _pipes(lines[place + 1].text) if place + 1 < len(lines) else []
        if fenced or place in used or len(names) < 2 or len(rule) != len(names) or not all(re.fullmatch(r":?-+:?", cell) for cell in rule):
            continue
        below = list(itertools.takewhile(lambda one: "|" in one.text, lines[place + 2 :]))
        if not reading.is_header(names):
            continue
        header = header_names(source.path, names)
        rows = []
        for one in below:
            where = say("{file}, line {n}", file=source.name, n=one.number)
            cells = _pipes(one.text)
            rows.append(_row(where, header, cells, "|"))
        used |= set(range(place, place + 2 + len(below)))
        tables.append(Table(source.name, rows))
    words = [line.text.strip() for place, line in enumerate(lines) if place not in used and line.text.strip()]
    if tables and words:
        reading.note(
            say(
                "{file}: its tables are read; {n} lines beside them are not: {words}",
                file=source.name,
                n=len(words),
                words=some_of(words),
            )
        )
    return tables


def _pipes(line: str) -> list[str]:
    """The cells of a line of a table. Inside one, ``\\|`` is a bar and ``<br>`` a new line."""
    if "|" not in line:
        return []
    cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|"))
    if not cells[-1].strip():
        cells.pop()
    return [re.sub(r"<br\s*/?>", "\n", cell.strip().replace("\\|", "|")) for cell in cells]


def _row(where: str, header: Sequence[str], cells: Sequence[str], separator: str) -> Row:
    if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
        problem = say(
            "has {n} cells, but the header has {m} columns. A cell that contains '{separator}' must stand in quotes.",
            n=len(cells),
            m=len(header),
            separator=say("tab") if separator == "\t" else separator,
        )
        return Row(where, {}, problem)
    return Row(where, dict(zip(header, cells, strict=False)))
