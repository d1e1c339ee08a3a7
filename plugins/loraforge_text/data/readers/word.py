"""Word documents: tables whose first row names the columns, and questions and answers in the text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from loraforge import DataError, speaker

from .extras import needed
from .packed import refuse_bomb
from .questions import Line, read_questions
from .rows import Reading, Row, Source, Table, header_names

say = speaker(__name__)

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"


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
        tables = list(_tables(source, document, reading))
        lines = list(_lines(document))
    except DataError:
        raise
    except Exception as error:  # python-docx raises whatever the damage leads to
        text = str(error) or type(error).__name__
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
                words=_short(words),
            )
        )
    return tables


def _short(words: list[str]) -> str:
    text = " / ".join(words[:5])
    return text if len(text) <= 120 else f"{text[:117]}..."


def _has_text(blob: bytes) -> bool:
    return re.search(rb"<w:t(?:\s[^>]*)?>[^<]*\S", blob) is not None


def _tables(source: Source, document: Any, reading: Reading) -> Iterator[Table]:
    """Those with a header that is known. One of as many columns without a header goes on with the one before it."""
    header: list[str] = []
    left = 0
    for number, table in enumerate(document.tables, 1):
        rows = [[_cell(cell) for cell in row.cells] for row in table.rows]
        top = next((i for i, cells in enumerate(rows[:5]) if reading.is_header([cell.strip() for cell in cells])), None)
        if top is not None:
            header = header_names(source.path, rows[top])
        elif not (header and rows and all(len(cells) == len(header) for cells in rows)):
            left += bool(rows)
            continue
        yield Table(
            source.name,
            [
                Row(
                    say("{file}, table {t}, row {n}", file=source.name, t=number, n=place),
                    {name: cell for name, cell in zip(header, cells, strict=False) if name},
                )
                for place, cells in enumerate(rows, 1)
                if place > (-1 if top is None else top) + 1 and any(cell.strip() for cell in cells)
            ],
        )
    if left and header:
        reading.note(say("{file}: {n} tables without the columns are not used", file=source.name, n=left))


def _cell(cell: Any) -> str:
    return "\n".join(_text(paragraph._p) for paragraph in cell.paragraphs).strip()


def _lines(document: Any) -> Iterator[Line]:
    from docx.text.paragraph import Paragraph

    number = 0
    for block in document.iter_inner_content():
        if isinstance(block, Paragraph):
            for text in _text(block._p).split("\n"):
                number += 1
                yield Line(number, text, _level(block))


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
