# SPDX-License-Identifier: Apache-2.0
"""Workbooks and documents as the programs of an office write them."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
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

# Of the same program: sheets 合同 and 劳动 with 问题 and 答案 and one question each; below that of 劳动 seven answers that are the errors
# #N/A, #REF!, #DIV/0!, #VALUE!, #NAME?, #NUM!, #NULL!.
_XLS_ERRORS = (
    r"c-"
    r"rllPe>F|9LIlec4lYRR(IFdL?aU^tIbQ<A1}5RlwA@Np+5wrxlkw?OP7ksvONYt1QuNc4@F=_&>!khw+?|(had>FjzJI<bWo???>lc}%{jPGOU3+#_xru~d!IM+X5R0;"
    r"H#4s$6H{aNYNzQJ*+wCnb0ZWk@F`A_d?8L;@4AxBTZfYy$Uh|!hX*oj(UbC*wv3^S_cR%F*L=>J=mV!ibb>mD1~c^~lpW|pkCHyLDwAW+pc|Yjs0RJ2ggy$r6#5R>r_g"
    r"QiT!L<8c1j(j$#h4mMaS`eqXBgltQ9>(n|JVRpelMHaeVHw@>q+uXOH&`{GAnbW|YQ>N3K0Hn924GOi_}DaGbum^+aFubM;w$;4iIT5&OT-_uD@HD~3rlOzsgSftaHxR"
    r"hv>{D5pExE#=#mSH9nMvulQWDaNI!cu0M|Iy%ax`^@fRJVB%Zb*yw1sj~;TEDfa0#72T?_RJ>FZ1&6+&usNf3!5@o=CLfq=Pe86m@HA&ecTJlCopB=yztN5`to{DZ)f^"
    r"2Jj2)uybWWu+#$JiURrSD3e*@sbqabt^aY%CIr6p8Ne*<jjh$6Gvugy*MbtL(b($e>(rXIxYdN3$wD(b6?qhl#=O@~yPbVkdrpKs(H?Tf#FUJTqsU~&(n#kjH-YUJcyo"
    r"at?u*^6{T=(78yJC!HsSMc!v{#a+qcpF4cm>|jyaFGRjn}B82Y5Vf1zT?^#v~Gq33zkCm<Vt9@CJC9pqAn2r=L<nhkWP|=&+_kpsPWfKC}ti*0c%Q25tG!7HCJ)7U&r0"
    r"un!#u9no|c^a{|n4{d`k)3gnG6==tYc0e!Dv;&$HqMH1oI*>pD2_%p}0x7vD{mLgVC-TZ+=@&~||JRx2G#C6P`ER9*hWI$ipQSr#kZqPu6%{|r$Wr-"
    r"psYSNQ|1T8T$5+o%KY!RtKl+P~U;Z#qh4-`QhVkDwg^IoYTrvIp!`J@-w6zmW"
)


def xls(path: Path) -> Path:
    path.write_bytes(zlib.decompress(base64.b85decode(_XLS)))
    return path


def xls_with_errors(path: Path) -> Path:
    path.write_bytes(zlib.decompress(base64.b85decode(_XLS_ERRORS)))
    return path


def xlsb(path: Path, rows: Sequence[Sequence[str | int]]) -> Path:
    """The smallest binary workbook by [MS-XLSB]: texts, and numbers for the codes of errors."""

    def record(kind: int, body: bytes = b"") -> bytes:
        return (
            (bytes([kind]) if kind < 128 else bytes([kind & 127 | 128, kind >> 7])) + bytes([len(body) & 127 | 128, len(body) >> 7]) + body
        )

    def text(words: str) -> bytes:
        return struct.pack("<I", len(words)) + words.encode("utf-16-le")

    book = record(131) + record(143) + record(156, struct.pack("<II", 0, 1) + text("rId1") + text("T")) + record(144) + record(132)
    sheet = record(129) + record(148, struct.pack("<4I", 0, len(rows) - 1, 0, len(rows[0]) - 1)) + record(145)
    for number, row in enumerate(rows):
        sheet += record(0, struct.pack("<II", number, 0) + bytes(9))
        for column, value in enumerate(row):
            head = struct.pack("<II", column, 0)
            sheet += record(6, head + text(value)) if isinstance(value, str) else record(3, head + bytes([value]))
    links = "http://schemas.openxmlformats.org/package/2006/relationships"
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"
    path.write_bytes(
        zipped(
            {
                "[Content_Types].xml": b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
                "xl/_rels/workbook.bin.rels": f'<Relationships xmlns="{links}"><Relationship Id="rId1" Type="{kind}" Target="worksheets/sheet1.bin"/></Relationships>'.encode(),
                "xl/workbook.bin": book,
                "xl/worksheets/sheet1.bin": sheet + record(146) + record(130),
            }
        )
    )
    return path


def workbook(path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]], hidden: Sequence[str] = ()) -> Path:
    """A workbook of several sheets by openpyxl."""
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        page = book.create_sheet(name)
        for row in rows:
            page.append(list(row))
        page.sheet_state = "hidden" if name in hidden else "visible"
    book.active = next(i for i, page in enumerate(book.worksheets) if page.sheet_state == "visible")
    book.save(path)
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
    """The smallest OpenDocument spreadsheet; a text that begins with ``<`` is a cell as it is."""
    cells = "".join(
        "<table:table-row>"
        + "".join(
            c if c.startswith("<") else f'<table:table-cell office:value-type="string"><text:p>{c}</text:p></table:table-cell>' for c in row
        )
        + "</table:table-row>"
        for row in rows
    )
    names = " ".join(f'xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in ("office", "table", "text"))
    names += ' xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"'
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
