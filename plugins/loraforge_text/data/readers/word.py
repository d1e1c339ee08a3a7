# SPDX-License-Identifier: Apache-2.0
"""Word documents: tables whose first row names the columns, and questions and answers in the text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loraforge import DataError, refuse_machines_fault, speaker, why

from .extras import needed
from .packed import refuse_bomb
from .questions import Line, numbered, read_questions
from .rows import Reading, Row, Source, Table, header_names, some_of
from .upright import read_upright
from .word_numbers import Label, Labels, paragraph_labels

say = speaker(__name__)

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
# What stands around blocks, rows and cells and says nothing: content controls, changes that were tracked.
_AROUND = tuple(f"{_W}{name}" for name in ("sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag"))


def read_word(source: Source, reading: Reading, *, only_questions: bool = False) -> list[Table]:
    """The questions and answers of a .docx: those of its tables if one has the columns, otherwise those of its text.

    Raises:
        DataError: if it is damaged, or holds none.
    """
    with needed("office", ".docx"):
        import docx
    try:
        refuse_bomb(source)
        document = docx.Document(io.BytesIO(source.data))
        labels = paragraph_labels(document)
        tables = list(_tables(source, document, labels, reading))
        lines = list(_lines(document, labels, with_tables=not tables))
    except DataError:
        raise
    except Exception as error:  # python-docx raises whatever the damage leads to
        refuse_machines_fault(error)
        text = why(error)
        raise DataError(say("{path}: is no readable Word file (.docx): {error}.", path=source.path, error=text.split("\n")[0])) from None
    for part, what in (("footnotes", say("footnotes")), ("comments", say("comments"))):
        if any(
            rel.reltype.endswith(f"/{part}") and _has_text(rel.target_part.blob)
            for rel in document.part.rels.values()
            if not rel.is_external
        ):
            reading.note(say("{file}: its {what} are not read", file=source.name, what=what))
    if not tables:
        return read_questions(
            source, lines, reading, lambda n: say("{file}, paragraph {n}", file=source.name, n=n), only_questions=only_questions
        )
    words = [line.text.strip() for line in lines if line.text.strip()]
    if words:
        reading.note(
            say(
                "{file}: its tables are read; {n} paragraphs of text beside them are not: {words}",
                file=source.name,
                n=len(words),
                words=some_of(words),
            )
        )
    return tables


def _has_text(blob: bytes) -> bool:
    return re.search(rb"<w:t(?:\s[^>]*)?>[^<]*\S", blob) is not None


@dataclass(frozen=True)
class _Cell:
    """A cell of a table's row: the columns of the grid from ``start`` to before ``end``, and its text."""

    start: int
    end: int
    text: str


def _tables(source: Source, document: Any, labels: Labels, reading: Reading) -> Iterator[Table]:
    """Those with a header that is known. One of as many columns without a header goes on with the one before it."""
    header: list[str] = []
    left = downwards = 0
    sections: list[str] = []
    stray: list[str] = []
    for number, table in enumerate((block for block in _blocks(document.element.body) if block.tag == f"{_W}tbl"), 1):
        rows = _grid(table, labels)
        top = next((i for i, cells in enumerate(rows[:5]) if reading.is_header([cell.text for cell in cells])), None)
        called = [say("{file}, table {t}, row {n}", file=source.name, t=number, n=place) for place in range(1, len(rows) + 1)]
        upright = None if top is not None else read_upright([(w, [c.text for c in r]) for w, r in zip(called, rows, strict=True)], reading)
        if upright is not None:
            sections += upright[1]
            downwards += 1
            yield Table(source.name, upright[0])
            continue
        if top is not None:
            header = header_names(source.path, [cell.text for cell in rows[top]])
            columns = rows[top]
        elif not (header and rows and all(len(cells) == len(header) for cells in rows)):
            left += bool(rows)
            continue
        else:
            columns = rows[0]
        made = []
        for place, cells in enumerate(rows, 1):
            if place <= (-1 if top is None else top) + 1 or not any(cell.text for cell in cells):
                continue
            if len(columns) > 1 and len(cells) == 1 and cells[0].start <= columns[0].start and cells[0].end >= columns[-1].end:
                sections.append(cells[0].text)
                continue
            if [cell.text for cell in cells] == header:
                continue  # repeated, or merged downwards
            stray += [cell.text for cell in cells if cell.text and not any(one.start <= cell.start < one.end for one in columns)]
            made.append(Row(called[place - 1], {name: text for name, text in zip(header, _under(columns, cells), strict=False) if name}))
        yield Table(source.name, made)
    if downwards:
        reading.note(say("{file}: {n} tables are read downwards: their first column names the fields", file=source.name, n=downwards))
    if left and (header or downwards):
        reading.note(say("{file}: {n} tables without the columns are not used", file=source.name, n=left))
    if stray:
        reading.note(say("{file}: cells under no column are not used: {words}", file=source.name, words=some_of(stray)))
    if sections:
        reading.note(say("{file}: rows of one cell are headings, and not used: {words}", file=source.name, words=some_of(sections)))


def _under(columns: list[_Cell], cells: list[_Cell]) -> list[str]:
    """The text under each column: a header over two columns of the grid is one column, and a cell counts where it begins."""
    return ["\n".join(cell.text for cell in cells if column.start <= cell.start < column.end and cell.text).strip() for column in columns]


def _grid(table: Any, labels: Labels) -> list[list[_Cell]]:
    """The rows of a table. A cell that is merged downwards counts for each of its rows."""
    rows: list[list[_Cell]] = []
    for row in _children(table, "tr"):
        marks = row.find(f"{_W}trPr")
        if marks is not None and marks.find(f"{_W}del") is not None:
            continue  # taken away while changes were tracked
        before = marks.find(f"{_W}gridBefore") if marks is not None else None
        start = int(before.get(f"{_W}val", "0")) if before is not None else 0
        cells: list[_Cell] = []
        for cell in _children(row, "tc"):
            span = cell.find(f"{_W}tcPr/{_W}gridSpan")
            end = start + (max(1, int(span.get(f"{_W}val", "1"))) if span is not None else 1)
            merged = cell.find(f"{_W}tcPr/{_W}vMerge")
            text = "\n".join(_block_lines(cell, labels)).strip()
            if merged is not None and merged.get(f"{_W}val") != "restart" and rows and not text:
                text = next((above.text for above in rows[-1] if above.start == start), "")
            cells.append(_Cell(start, end, text))
            start = end
        rows.append(cells)
    return rows


def _block_lines(element: Any, labels: Labels) -> Iterator[str]:
    """The paragraphs of a cell, of several with their automatic numbers; of a table in it each row is a line."""
    blocks = list(_blocks(element))
    several = sum(block.tag == f"{_W}p" and bool(_text(block).strip()) for block in blocks) > 1
    for block in blocks:
        if block.tag == f"{_W}p":
            text = _text(block)
            yield numbered(labels[block].text, text) if several and block in labels else text
        else:
            for cells in _grid(block, labels):
                yield " | ".join(cell.text for cell in cells)


def _blocks(element: Any) -> Iterator[Any]:
    """Paragraphs and tables, also those in content controls, which python-docx passes over."""
    for child in element:
        if child.tag in (f"{_W}p", f"{_W}tbl"):
            yield child
        elif child.tag in _AROUND:
            yield from _blocks(child)


def _children(element: Any, name: str) -> Iterator[Any]:
    for child in element:
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag in _AROUND:
            yield from _children(child, name)


def _lines(document: Any, labels: Labels, *, with_tables: bool) -> Iterator[Line]:
    """The paragraphs; of a table that stands in an answer each row is a line, called like the paragraph above it."""
    from docx.text.paragraph import Paragraph

    number = 0
    for block in _blocks(document.element.body):
        if block.tag == f"{_W}p":
            level = _level(Paragraph(block, document))
            label = labels.get(block, Label())
            for text in _text(block).split("\n"):
                number += 1
                yield Line(number, text, level, label.text, label.list if not level else "")
                label = Label()
        elif with_tables:
            for cells in _grid(block, labels):
                yield Line(number, " | ".join(cell.text for cell in cells))


def _level(paragraph: Any) -> int:
    """1 to 9 for a heading, by its style or the style that this one is made from, whatever the language of its name."""
    style = paragraph.style
    for _ in range(10):
        if style is None:
            return 0
        named = re.match(r"(?:heading|标题)\s*(\d)", style.name or "", re.IGNORECASE)
        if named:
            return int(named[1])
        outline = style.element.find(f"{_W}pPr/{_W}outlineLvl")
        if outline is not None and outline.get(f"{_W}val", "9") in "012345678":
            return int(outline.get(f"{_W}val")) + 1
        style = style.base_style
    return 0


def _text(element: Any) -> str:
    """The text as it reads with all changes accepted. python-docx's own leaves out what was inserted while changes were tracked."""
    pieces: list[str] = []

    def walk(node: Any) -> None:
        for child in node:
            tag = child.tag
            if tag in (f"{_W}del", f"{_W}moveFrom", f"{_W}pPr", f"{_W}rPr", f"{_MC}Fallback", f"{_W}instrText"):
                continue
            if tag == f"{_W}t":
                pieces.append(child.text or "")
            elif tag == f"{_W}tab":
                pieces.append("\t")
            elif tag in (f"{_W}br", f"{_W}cr"):
                pieces.append("\n")
            elif tag == f"{_W}noBreakHyphen":
                pieces.append("-")
            else:
                walk(child)

    walk(element)
    return "".join(pieces)
