# SPDX-License-Identifier: Apache-2.0
"""Cells whose formula failed in .xls, .xlsb and .ods: calamine calls them empty, or 0, so they are looked for in the file itself.

Sources: [MS-XLS] 2.4 (BoolErr, Formula, BoundSheet8), [MS-XLSB] 2.4 (BrtCellError, BrtFmlaError),
OpenDocument 1.3 part 3, 19 (the attributes of table cells).
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from .compound_file import CompoundFile

Cells = Mapping[int, Mapping[int, str]]  # row -> column -> what the cell shows; both from 0

_CODES = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}
_SHOWN = re.compile("|".join(re.escape(text) for text in _CODES.values()))
_OWN = re.compile(r"Err:\d{3}")  # LibreOffice's numbers

# What is raised where a file is built otherwise.
UNKNOWN = (
    ValueError, LookupError, OverflowError, MemoryError, struct.error, zlib.error, ElementTree.ParseError, zipfile.BadZipFile, EOFError,
    NotImplementedError, RuntimeError,
)  # fmt: skip


def error_cells(data: bytes, suffix: str) -> list[Cells]:
    """The failed cells of each sheet, in the order of the workbook.

    Args:
        suffix: ``.xls``, ``.xlsb`` or ``.ods``.

    Raises:
        One of ``UNKNOWN``, if it is built otherwise.
    """
    return {".xls": _xls, ".xlsb": _xlsb, ".ods": _ods}[suffix](data)


def _xls(data: bytes) -> list[Cells]:
    file = CompoundFile(data)
    stream = file.read("workbook" if "workbook" in file.names else "book")
    starts = [struct.unpack_from("<I", body)[0] for kind, body in _biff(stream, 0) if kind == 0x85]
    sheets: list[Cells] = []
    for start in starts:
        found: dict[int, dict[int, str]] = {}
        depth = 0
        for kind, body in _biff(stream, start):
            depth += (kind == 0x809) - (kind == 0x0A)  # a chart in the sheet begins and ends in it
            if depth == 0:
                break
            code = None
            if kind == 0x205 and body[7]:
                code = body[6]
            elif kind in (0x06, 0x206, 0x406) and body[6] == 2 and body[12:14] == b"\xff\xff":
                code = body[8]
            if code is not None and depth == 1:
                row, column = struct.unpack_from("<HH", body)
                found.setdefault(row, {})[column] = _CODES.get(code, "#N/A")
        sheets.append(found)
    return sheets


def _biff(stream: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """(kind, body) of the records of Excel 97; the globals end where the first end stands."""
    depth = 0
    while at + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, at)
        yield kind, stream[at + 4 : at + 4 + size]
        depth += (kind == 0x809) - (kind == 0x0A)
        if depth <= 0:
            return
        at += 4 + size


def _xlsb(data: bytes) -> list[Cells]:
    sheets: list[Cells] = []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        links = ElementTree.fromstring(archive.read("xl/_rels/workbook.bin.rels"))
        target = {link.get("Id"): str(link.get("Target")) for link in links}
        for kind, body in _records(archive.read("xl/workbook.bin")):
            if kind == 156:  # BrtBundleSh: state, number, then the name of its link
                length = struct.unpack_from("<I", body, 8)[0]
                part = target[body[12 : 12 + 2 * length].decode("utf-16-le")]
                sheets.append(_binary_sheet(archive.read(part.lstrip("/") if part.startswith("/") else f"xl/{part}")))
    return sheets


def _binary_sheet(part: bytes) -> Cells:
    found: dict[int, dict[int, str]] = {}
    row = 0
    for kind, body in _records(part):
        if kind == 0:  # BrtRowHdr
            row = struct.unpack_from("<I", body)[0]
        elif kind in (3, 11):  # BrtCellError, BrtFmlaError: column, style, code
            found.setdefault(row, {})[struct.unpack_from("<I", body)[0]] = _CODES.get(body[8], "#N/A")
    return found


def _records(part: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, body) of the records of a binary part; kinds and sizes are written seven bits at a time."""
    at = 0
    while at < len(part):
        kind, at = _number(part, at, 2)
        size, at = _number(part, at, 4)
        yield kind, part[at : at + size]
        at += size


def _number(part: bytes, at: int, most: int) -> tuple[int, int]:
    value = 0
    for place in range(most):
        byte = part[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return value, at


def _ods(data: bytes) -> list[Cells]:
    sheets: list[Cells] = []
    found: dict[int, Mapping[int, str]] = {}
    row = column = depth = 0
    cells: dict[int, str] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("content.xml") as content:
        for event, element in ElementTree.iterparse(content, ("start", "end")):
            name = element.tag.rpartition("}")[2]
            if event == "start":
                if name == "table":
                    depth += 1
                    if depth == 1:
                        found, row = {}, 0
                elif name == "table-row" and depth == 1:
                    column, cells = 0, {}
            elif name in ("table-cell", "covered-table-cell") and depth == 1:
                times = _repeated(element, "columns", 16_384 - column)
                if error := _failed(element):
                    cells |= dict.fromkeys(range(column, column + times), error)
                column += times
                element.clear()
            elif name == "table-row" and depth == 1:
                times = _repeated(element, "rows", 1_048_576 - row)
                if cells:
                    found |= dict.fromkeys(range(row, row + times), cells)
                row += times
                element.clear()
            elif name == "table":
                depth -= 1
                if depth == 0:
                    sheets.append(found)
    return sheets


def _attribute(element: Any, wanted: str) -> str:
    """By the end of its name: ``calcext:value-type`` says error where ``office:value-type`` says float."""
    return " ".join(str(value) for name, value in element.attrib.items() if name.rpartition("}")[2] == wanted)


def _repeated(element: Any, what: str, most: int) -> int:
    return max(0, min(int(_attribute(element, f"number-{what}-repeated") or 1), most))


def _failed(element: Any) -> str | None:
    text = "".join(element.itertext()).strip() if len(element) else ""
    if "error" in _attribute(element, "value-type").split():
        return text or "#N/A"
    return text if _SHOWN.fullmatch(text) or (_attribute(element, "formula") and _OWN.fullmatch(text)) else None
