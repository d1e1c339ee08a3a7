# SPDX-License-Identifier: Apache-2.0
"""Workbooks: .xlsx by openpyxl, which knows how cells are shown; .xls, .xlsb and .ods by calamine."""

from __future__ import annotations

import re

from loraforge import DataError, panics_as_errors, refuse_machines_fault, speaker, why

from ..rows import Reading, Source, Table

say = speaker(__name__)


def read_workbook(source: Source, reading: Reading) -> list[Table]:
    """The tables of the sheets that are wanted, or of the first that has the columns.

    Raises:
        DataError: if it is no workbook that can be read, or unpacks to more than anybody means.
    """
    _refuse_text(source)
    from .excel import read_excel
    from .older import read_older

    try:
        with panics_as_errors():
            return read_excel(source, reading) if source.suffix in (".xlsx", ".xlsm") else read_older(source, reading)
    except (DataError, ImportError):
        raise
    except Exception as error:  # the libraries raise whatever the damage leads to
        refuse_machines_fault(error)
        text = why(error)
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
