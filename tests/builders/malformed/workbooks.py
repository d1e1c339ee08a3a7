# SPDX-License-Identifier: Apache-2.0
"""Malformed workbooks."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator

from builders.malformed.case import CHECK, DEEP, QUESTIONS, Case
from builders.malformed.tables import _data

_NS = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def workbook(sheet: str | bytes | None = None, **parts: str | bytes | None) -> bytes:
    """A workbook made by openpyxl, with its sheet's XML or other members exchanged (None: left out; / is written as __)."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in (("instruction", "output"), *QUESTIONS):
        book.active.append(row)
    made = io.BytesIO()
    book.save(made)
    changed = {name.replace("__", "/").replace("_DOT_", "."): value for name, value in parts.items()}
    changed |= {"xl/worksheets/sheet1.xml": sheet} if sheet is not None else {}
    out = io.BytesIO()
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            value = changed.pop(info.filename, old.read(info))
            if value is not None:
                new.writestr(info.filename, value)
        for name, value in changed.items():
            if value is not None:
                new.writestr(name, value)
    return out.getvalue()


def sheet(cells: str, dimension: str = "") -> str:
    """The XML of a sheet."""
    return f'<?xml version="1.0"?><worksheet {_NS}>{dimension}<sheetData>{cells}</sheetData></worksheet>'


def text_row(number: int, *cells: str, first: int = 0) -> str:
    """The XML of a row of inline text."""
    inner = "".join(f'<c r="{chr(65 + first + i)}{number}" t="inlineStr"><is><t>{cell}</t></is></c>' for i, cell in enumerate(cells))
    return f'<row r="{number}">{inner}</row>'


_HEADER = text_row(1, "instruction", "output")


_SHARED = sheet('<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>')


_FORMULA = '<row r="2"><c r="A2"><f>CONCATENATE("a","b")</f></c><c r="B2" t="inlineStr"><is><t>x</t></is></c></row>'


def _bomb(size: int) -> bytes:
    """A workbook whose sheet unpacks to ``size`` bytes."""
    made = io.BytesIO()
    start, end = sheet(_HEADER + text_row(2, "q", "a")).encode().split(b"</sheetData>")
    with zipfile.ZipFile(io.BytesIO(workbook())) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for info in old.infolist():
            if info.filename != "xl/worksheets/sheet1.xml":
                new.writestr(info.filename, old.read(info))
        with new.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as file:
            file.write(start)
            block = b'<row r="3"><c r="A3"/></row>' * 40_000
            for _ in range(size // len(block) + 1):
                file.write(block)
            file.write(b"</sheetData>" + end)
    return made.getvalue()


def _lying(data: bytes) -> bytes:
    """The same archive, whose directory claims that every member is small."""
    out, at = bytearray(data), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        out[at + 24 : at + 28] = struct.pack("<I", 900)
        at += 4
    return bytes(out)


def _entities(inner: str) -> str:
    return (
        f'<?xml version="1.0"?><!DOCTYPE x [{inner}]><worksheet {_NS}><sheetData>{_HEADER}{text_row(2, "&z;", "a")}</sheetData></worksheet>'
    )


_LAUGHING = '<!ENTITY a "haha">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(24)
) + '<!ENTITY z "&y;">'  # fmt: skip


WORKBOOKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "metadata.xlsx"),
    "text": (lambda: b"instruction,output\n", "metadata.xlsx"),
    "a bad archive": (lambda: b"PK\x03\x04 not really", "metadata.xlsx"),
    "truncated": (lambda: workbook()[:-200], "metadata.xlsx"),
    "half": (lambda: workbook()[: len(workbook()) // 2], "metadata.xlsx"),
    "an empty archive": (lambda: b"PK\x05\x06" + bytes(18), "metadata.xlsx"),
    "an old workbook": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "metadata.xlsx"),
    "no sheet": (lambda: workbook(**{"xl__worksheets__sheet1.xml": None}), "metadata.xlsx"),
    "no workbook": (lambda: workbook(**{"xl__workbook.xml": None}), "metadata.xlsx"),
    "no types": (lambda: workbook(**{"[Content_Types].xml": None}), "metadata.xlsx"),
    "no relations": (lambda: workbook(**{"xl___rels__workbook.xml.rels": None}), "metadata.xlsx"),
    "no styles": (lambda: workbook(sheet(text_row(1, "x")), **{"xl__styles.xml": None}), "metadata.xlsx"),
    "a workbook that is none": (lambda: workbook(**{"xl__workbook.xml": "<a/>"}), "metadata.xlsx"),
    "a workbook that is no XML": (lambda: workbook(**{"xl__workbook.xml": "hello"}), "metadata.xlsx"),
    "types that are no XML": (lambda: workbook(**{"[Content_Types].xml": "<<<"}), "metadata.xlsx"),
    "relations that lead nowhere": (
        lambda: workbook(**{"xl___rels__workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'}),
        "metadata.xlsx",
    ),
    "strings that are no XML": (lambda: workbook(_SHARED, **{"xl__sharedStrings.xml": "<sst><si>"}), "metadata.xlsx"),
    "too few strings": (lambda: workbook(_SHARED, **{"xl__sharedStrings.xml": f"<sst {_NS}/>"}), "metadata.xlsx"),
    "a sheet that is no XML": (lambda: workbook("hello"), "metadata.xlsx"),
    "a sheet that is cut": (lambda: workbook(sheet(_HEADER)[:-40]), "metadata.xlsx"),
    "an empty sheet": (lambda: workbook(sheet("")), "metadata.xlsx"),
    "only a header": (lambda: workbook(sheet(_HEADER)), "metadata.xlsx"),
    "the same column twice": (lambda: workbook(sheet(text_row(1, "output", "output"))), "metadata.xlsx"),
    "columns that fit nothing": (lambda: workbook(sheet(text_row(1, "a", "b") + text_row(2, "c", "d"))), "metadata.xlsx"),
    "an empty answer": (lambda: workbook(sheet(_HEADER + text_row(2, "q"))), "metadata.xlsx, row 2"),
    "a formula that was never computed": (lambda: workbook(sheet(_HEADER + _FORMULA)), "metadata.xlsx, row 2"),
    "a cell that claims a string that is not there": (
        lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" t="s"><v>99999</v></c></row>')), "metadata.xlsx",
    ),
    "a string number that is none": (lambda: workbook(sheet('<row r="1"><c r="A1" t="s"><v>x</v></c></row>')), "metadata.xlsx"),
    "a number that is none": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2"><v>abc</v></c></row>')), "metadata.xlsx"),
    "a number of 400 digits": (lambda: workbook(sheet(_HEADER + f'<row r="2"><c r="A2"><v>{"9" * 400}</v></c></row>')), "metadata.xlsx"),
    "a number of 5000 digits": (lambda: workbook(sheet(_HEADER + f'<row r="2"><c r="A2"><v>{"9" * 5000}</v></c></row>')), "metadata.xlsx"),
    "a number that is infinite": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2"><v>1e999</v></c></row>')), "metadata.xlsx, row 2"),
    "a day that is none": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" t="d"><v>yesterday</v></c></row>')), "metadata.xlsx"),
    "a cell of no kind": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" t="zzz"><v>1</v></c></row>')), "metadata.xlsx"),
    "a style that is not there": (lambda: workbook(sheet(_HEADER + '<row r="2"><c r="A2" s="9999"><v>1</v></c></row>')), "metadata.xlsx"),
    "a cell at no place": (lambda: workbook(sheet('<row r="1"><c r="!!" t="n"><v>1</v></c></row>')), "metadata.xlsx"),
    "a row that is no number": (lambda: workbook(sheet('<row r="x"><c><v>1</v></c></row>')), "metadata.xlsx"),
    "a row below 0": (lambda: workbook(sheet('<row r="-5"><c r="A1"><v>1</v></c></row>')), "metadata.xlsx"),
    "a column beyond the last": (lambda: workbook(sheet('<row r="1"><c r="ZZZZ1"><v>1</v></c></row>')), "metadata.xlsx"),
    "a row at 10^15": (lambda: workbook(sheet(_HEADER + '<row r="1000000000000000"><c r="A9"><v>1</v></c></row>')), "metadata.xlsx"),
    "a size that it has not": (
        lambda: workbook(sheet(_HEADER + text_row(2, "q"), '<dimension ref="A1:XFD1048576"/>')), "metadata.xlsx, row 2",
    ),
    "a size that is none": (lambda: workbook(sheet(_HEADER + text_row(2, "q"), '<dimension ref="hello"/>')), "metadata.xlsx"),
    "the last cell of all": (
        lambda: workbook(sheet(_HEADER + '<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>x</t></is></c></row>')), "metadata.xlsx",
    ),
    "a sheet that unpacks to 300 MB": (lambda: _bomb(300_000_000), "metadata.xlsx"),
    "a sheet that unpacks to more than it says": (lambda: _lying(_bomb(20_000_000)), "metadata.xlsx"),
    "billion laughs": (lambda: workbook(_entities(_LAUGHING)), "metadata.xlsx"),
    "an entity that reads a file": (lambda: workbook(_entities('<!ENTITY z SYSTEM "file:///etc/passwd">')), "metadata.xlsx"),
    "an entity from the network": (lambda: workbook(_entities('<!ENTITY z SYSTEM "http://127.0.0.1:9/x">')), "metadata.xlsx"),
    "an entity in the strings": (
        lambda: workbook(_SHARED, **{"xl__sharedStrings.xml": f'<!DOCTYPE x [{_LAUGHING}]><sst {_NS}><si><t>&z;</t></si></sst>'}), "metadata.xlsx",
    ),
    "a name that leads out": (lambda: workbook(sheet(_HEADER), **{"..__..__..__pwned.xml": "<a/>"}), "metadata.xlsx"),
    "deep XML": (lambda: workbook("<a>" * DEEP), "metadata.xlsx"),
    "deep XML in the workbook": (lambda: workbook(**{"xl__workbook.xml": "<a>" * 50_000 + "</a>" * 50_000}), "metadata.xlsx"),
    "encrypted members": (lambda: bytes(_encrypted(workbook())), "metadata.xlsx"),
    "an unknown compression": (lambda: bytes(_encrypted(workbook(), 10, 99)), "metadata.xlsx"),
    "a web page": (lambda: b"<html><table><tr><td>instruction</td></tr></table></html>", "metadata.xlsx"),
}  # fmt: skip


def _encrypted(data: bytes, offset: int = 8, value: int = 1) -> bytearray:
    """The same archive, whose directory says that members are encrypted, or compressed in an unknown way."""
    out, at = bytearray(data), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        out[at + offset] = value
        at += 4
    return out


def _workbook_cases() -> Iterator[Case]:
    for name, (make, says) in WORKBOOKS.items():
        yield Case("xlsx", name, lambda here, base, run, make=make: _data("metadata.xlsx", make())(here, base, run), (says,))  # type: ignore[misc]
    yield Case("xlsx", "an old .xls", _data("metadata.xls", b"\xd0\xcf\x11\xe0" + bytes(600)), ("data",))
    yield Case("xlsx", "named .xls", _data("x.xls", b"\xd0\xcf\x11\xe0"), ("x.xls",), (*CHECK, "--set", "metadata_path=data/x.xls"))
