"""Workbooks and documents as the programs of an office write them."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A workbook of Excel 97, written by xlwt 1.3.0: sheets 封面 (a title) and 问答 (a title row over merged cells, 问题 and 答案, five questions;
# the answers 20, 2024年5月1日, 15%, and one merged over two rows).
_XLS = (
    r"c-rk)T}V_x6#nM!y?1|Db^Qx8&}Ab_^TB=|da<pb?4?Czp&vxkTq-n;MFJDbvVE#R2+N`u!5(_Cg6M}L>LKVMFp3C*U@e3w5Q2gp)Z3Y}v!-"
    r"?f7fev@xy(5;XTF&^bLPy??(5Oq<j~#XG0dZFaADf=!kncOl)ULe090>TGMknjN|r;*io70LNYlXMtXFQihH|~fpy7`GoH+1_QUgvP(%BIUE+Oq?8=8f*p<3"
    r"t^dm3&~%0>~}mB;)r^L*yF8T*9!cGg^CUQO7fIEc}3q++Xz<NaEQ>#~UpJm5ATShEp@cq!xfOutBB4eW>?Yi?gD6(zbK!=SaUiFL%{vb+X2kpt0<)E7cmV+h"
    r"AddX9w9N^(3FLJ|cO8^ic%1%V&wL*QA^(J!rDfb_rS>fQg)duU<p^j`Yr>o03M&<pF3kUJs)Kkn(WMiZi;<*F?E%v5<|AlfsDlkic=$2Wp_*M6Z%s)N{sDoR"
    r"^u=ozKQO4NPn_gd8N#K7PniD=KBqb`VKT~}kNMVYVB@&lYHK9Ji`DuIYh43M};!i4Zg5vhpCR$3L0$Y)ky&Y6|PJK0aXm4aF3b9p}p$dt)j-"
    r"{0(QsSP)=rkC%j)NQs_&KefZ$`;f(d!{DEE4al5=I6NA)toP8UO;<_WLa&Y%IxlA%z3UYqj5Gfy$!FMm0wT!#J9SKC5g}Ba>|d?jGZbNc^@94o#rL$1%G|06"
    r"qVxoHA#=cX(`mX_mO$gUuU343n<$yb!F#ZidPBb55Cv6JlvO1IwSwkQh1d+W$beGs%Gm|Ipe21d%-"
    r"1%7B*<XXxU$?B+)L_yJmye7%x3}TJtI2*DJis2Jd3Lq42buXjWHVXpGlw@H*p7g_k#MKEkSh!v=3K-"
    r"mUC6*dDLKn>Kip@gC(JQ+a2ceQj`A%)Bc(Dq$Cu4msqILk>CQ(BhL&Z!-CMkS_v5z5Lwjf1N2x)6U-"
    r"{E0*ffNnaQJ8r+2rl5uor6hEtAh;(0Kfo;<N7fRYkqsP&P7Pg};<M^f5q?kRQ1vd;V-WJMq{OL^W{Lkb62AI(`NB"
)


def xls(path: Path) -> Path:
    path.write_bytes(zlib.decompress(base64.b85decode(_XLS)))
    return path


def xlsx(
    path: Path, rows: Sequence[Sequence[Any]], formats: dict[str, str] | None = None, merged: Sequence[str] = (), sheet: str = ""
) -> Path:
    """A workbook by openpyxl; ``formats``: the number formats of cells, by place."""
    import openpyxl

    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet or "Sheet"
    for row in rows:
        page.append(list(row))
    for place, code in (formats or {}).items():
        page[place].number_format = code
    for cells in merged:
        page.merge_cells(cells)
    book.save(path)
    return path


def ods(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """The smallest OpenDocument spreadsheet."""
    cells = "".join(
        "<table:table-row>"
        + "".join(f'<table:table-cell office:value-type="string"><text:p>{c}</text:p></table:table-cell>' for c in row)
        + "</table:table-row>"
        for row in rows
    )
    names = " ".join(f'xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in ("office", "table", "text"))
    content = f'<?xml version="1.0"?><office:document-content {names} office:version="1.2"><office:body><office:spreadsheet><table:table table:name="T">{cells}</table:table></office:spreadsheet></office:body></office:document-content>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml", '<?xml version="1.0"?><m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
        )
        archive.writestr("content.xml", content)
    return path


def docx(path: Path, blocks: Sequence[Any]) -> Path:
    """A document by python-docx: a string is a paragraph, (level, text) a heading, a list of rows a table."""
    import docx as library

    document = library.Document()
    for block in blocks:
        if isinstance(block, str):
            document.add_paragraph(block)
        elif isinstance(block, tuple):
            document.add_heading(block[1], block[0])
        else:
            table = document.add_table(len(block), len(block[0]))
            for row, texts in zip(table.rows, block, strict=True):
                for cell, text in zip(row.cells, texts, strict=True):
                    cell.text = text
    document.save(path)
    return path


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()
