"""CSV and TSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from loraforge import speaker

from .rows import Reading, Row, Source, Table, find_header, header_names, row_place, tell_titles

say = speaker(__name__)

# The separators that spreadsheets write; the full-width ones come from hand-made files.
_SEPARATORS = (",", "\t", ";", "；", "，", "|")
csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than some answers


@dataclass(frozen=True)
class _Record:
    """One record of the file, or why it is none."""

    number: int
    cells: Sequence[str]
    problem: str | None = None


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
    for record in records:
        where = row_place(source.name, record.number)
        if record.problem is not None:
            rows.append(Row(where, {}, record.problem))
        elif record.number == top:
            header = header_names(source.path, record.cells)
        elif header is not None and any(cell.strip() for cell in record.cells):
            rows.append(_row(where, header, record.cells, separator))
    tell_titles(source, (r.cells for r in records if top is not None and r.number < top), top or 0, reading)
    return [Table(source.name, rows)]


def _separator(text: str, reading: Reading) -> str:
    """That of the header: the first line that makes known columns of it, else the first line."""
    lines = [line for line in text[:20_000].splitlines() if line.strip()][:20]
    for line in lines:
        likely = max(_SEPARATORS, key=line.count)
        if reading.is_header([cell.strip().strip('"').lstrip("\ufeff") for cell in line.split(likely)]):
            return likely
    return max(_SEPARATORS, key=lines[0].count) if lines else ","


def _records(text: str, separator: str) -> list[_Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found = []
    number = 0
    while True:
        number += 1
        try:
            found.append(_Record(number, next(reader)))
        except StopIteration:
            return found
        except csv.Error as error:
            problem = say("the quotes do not match ({error}). A quote inside a quoted cell is written twice.", error=error)
            found.append(_Record(number, (), problem))


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
