"""Files to raw rows: CSV, TSV, JSONL, JSON, Excel. Knows nothing of questions and answers."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import itertools
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import DataError, speaker

say = speaker(__name__)

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".xlsx", ".xlsm")
# The separators that spreadsheets write; the full-width ones come from hand-made files.
_SEPARATORS = (",", "\t", ";", "；", "，", "|")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # how .xls and encrypted .xlsx begin
_LARGEST = 200 * 10**6  # bytes of an unpacked workbook: millions of long answers
_LAST_ROW = 1_048_576  # of a sheet
csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is less than some answers


@dataclass(frozen=True)
class Row:
    """One raw row: where it stands, and its values by column name. ``problem`` is why it cannot be read."""

    where: str
    values: Mapping[str, Any]
    problem: str | None = None


def read_rows(path: Path, encoding: str, note: Callable[[str], None]) -> list[Row]:
    """The rows of one file.

    Args:
        encoding: ``auto``, or a name that Python knows.
        note: tells the user a decision: the encoding, the separator, the sheet.

    Raises:
        DataError: if the file as a whole cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in (".xlsx", ".xlsm"):
        return _excel(path, note)
    text = decode(path, encoding, note)
    if suffix in (".csv", ".tsv"):
        return list(_csv(path, text, note))
    if suffix in (".jsonl", ".ndjson"):
        return list(_json_lines(path, text))
    if suffix == ".json":
        return list(_json(path, text))
    raise DataError(say("{path}: cannot read files of this kind; there are {kinds}.", path=path, kinds=" ".join(SUFFIXES)))


# --- text --------------------------------------------------------------------------------------------------------------------


def decode(path: Path, encoding: str, note: Callable[[str], None]) -> str:
    """A text file, whatever it was saved as: UTF-8 or UTF-16 with or without BOM, GB18030 (which includes GBK and GB2312)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(say("{path}: cannot be read: {error}.", path=path, error=error.strerror)) from None
    if encoding != "auto":
        try:
            text = data.decode(encoding).removeprefix("\ufeff")
            text.encode("utf-8")  # UTF-7 and others can hold halves of characters
            return text
        except UnicodeDecodeError as error:
            raise DataError(_not_decodable(path, data, encoding, error)) from None
        except UnicodeEncodeError:
            raise DataError(_not_decodable(path, data, encoding, None)) from None
        except (LookupError, ValueError):
            raise DataError(
                say("encoding: Python knows no encoding '{value}'. Usual are utf-8, gb18030, big5, utf-16.", value=encoding)
            ) from None
    for bom, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(bom):
            try:
                text = data.decode(name)
            except UnicodeDecodeError as error:
                raise DataError(_not_decodable(path, data, name, error)) from None
            note(say("{file}: read as {encoding}, because it begins with that byte order mark", file=path.name, encoding=name.upper()))
            return text
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_other(path, data, error, note)
    if "\0" in text:
        return _decode_other(path, data, None, note)
    return text


def _decode_other(path: Path, data: bytes, reason: UnicodeDecodeError | None, note: Callable[[str], None]) -> str:
    """UTF-16 without BOM if every other byte is often zero, otherwise GB18030."""
    zeros = [data[i::2].count(0) / max(1, len(data) // 2) for i in (0, 1)]
    names = (["utf-16-le"] if zeros[1] > zeros[0] else ["utf-16-be"]) if max(zeros) > 0.02 else ["gb18030"]
    for name in names:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            continue
        note(
            say(
                "{file}: read as {encoding}, because it is not UTF-8; if characters look wrong, set encoding",
                file=path.name,
                encoding=name.upper(),
            )
        )
        return text
    raise DataError(_not_decodable(path, data, "UTF-8, UTF-16, GB18030", reason))


def _not_decodable(path: Path, data: bytes, tried: str, error: UnicodeDecodeError | None) -> str:
    line = data[: error.start].count(b"\n") + 1 if error is not None else 1
    return say(
        "{path}:{line}: is not text in {tried}. Save it as UTF-8, or set encoding to what it is (big5, for example).",
        path=path,
        line=line,
        tried=tried,
    )


# --- formats -----------------------------------------------------------------------------------------------------------------


def _csv(path: Path, text: str, note: Callable[[str], None]) -> Iterator[Row]:
    if not text.strip():
        return
    header_line = next(line for line in text.splitlines() if line.strip())
    separator = "\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=header_line.count)
    if separator not in (",", "\t"):
        note(say("{file}: columns are separated by '{separator}'", file=path.name, separator=separator))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        number += 1
        where = _row(path, number)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(where, {}, say("the quotes do not match ({error}). A quote inside a quoted cell is written twice.", error=error))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(path, cells)
        elif len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            yield Row(
                where,
                {},
                say(
                    "has {n} cells, but the header has {m} columns. A cell that contains '{separator}' must stand in quotes.",
                    n=len(cells),
                    m=len(header),
                    separator=say("tab") if separator == "\t" else separator,
                ),
            )
        else:
            yield Row(where, dict(zip(header, cells, strict=False)))


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    """The column names.

    Raises:
        DataError: if one occurs twice.
    """
    names = [cell.strip().lstrip("\ufeff") for cell in cells]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(say("{path}: the column '{name}' occurs twice.", path=path, name=twice[0]))
    return names


def _row(path: Path, number: int) -> str:
    return say("{file}, row {n}", file=path.name, n=number)


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = say("{file}, line {n}", file=path.name, n=number)
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(where, {}, say("is not valid JSON: {error}.", error=error))
            continue
        yield _object(where, value)


def _json(path: Path, text: str) -> Iterator[Row]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(say("{path}:{line}: is not valid JSON: {error}.", path=path, line=error.lineno, error=error.msg)) from None
    except (ValueError, RecursionError) as error:
        raise DataError(say("{path}:{line}: is not valid JSON: {error}.", path=path, line=1, error=error)) from None
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list):
        raise DataError(say("{path}: expected a list of objects, like [{{...}}, {{...}}].", path=path))
    for number, item in enumerate(value, 1):
        yield _object(say("{file}, item {n}", file=path.name, n=number), item)


def _object(where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        return Row(where, {}, say("is no object with named values ({...})."))
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        return Row(where, {}, say("has half a character ({half}), which is no text. Write it out, or take it away.", half=half))
    except RecursionError:
        return Row(where, {}, say("is not valid JSON: {error}.", error=say("nested too deeply")))
    return Row(where, {str(key).strip(): item for key, item in value.items()})


def _excel(path: Path, note: Callable[[str], None]) -> list[Row]:
    """The rows of the first sheet that holds any.

    Raises:
        DataError: if it is no workbook that openpyxl can read, or unpacks to more than anybody means.
    """
    import openpyxl

    try:
        with path.open("rb") as file:
            if file.read(len(_OLE)) == _OLE:
                raise DataError(say("{path}: is an old or a protected workbook. Save it as .xlsx without a password.", path=path))
        _refuse_bomb(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl's remarks on styles
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                return list(_sheet(path, book, note))
            finally:
                book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises whatever the damage leads to
        text = str(error) or type(error).__name__
        raise DataError(say("{path}: is no readable Excel file (.xlsx): {error}.", path=path, error=text.split("\n")[0])) from None


def _refuse_bomb(path: Path) -> None:
    """Before anything is unpacked. zipfile reads no more of a member than the directory promises.

    Raises:
        DataError: if what is packed tightly (texts, not pictures) unpacks to more than anybody means.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist() if info.file_size > 2 * info.compress_size)
    if size > _LARGEST:
        raise DataError(
            say(
                "{path}: unpacks to {n} MB, more than the {most} MB that are read. Copy questions and answers into a new workbook, or save "
                "them as CSV.",
                path=path,
                n=size // 10**6,
                most=_LARGEST // 10**6,
            )
        )


def _sheet(path: Path, book: Any, note: Callable[[str], None]) -> Iterator[Row]:
    filled = []
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # the size that a sheet claims is often that of its formats, a million rows
        if any(any(c is not None for c in row) for row in sheet.iter_rows(max_row=50, values_only=True)):
            filled.append(sheet)
    if not filled:
        return
    if len(filled) > 1:
        note(
            say(
                "{file}: the sheet '{sheet}' is read; left out: {others}",
                file=path.name,
                sheet=filled[0].title,
                others=", ".join(sheet.title for sheet in filled[1:]),
            )
        )
    header: list[str] | None = None
    for number, values in enumerate(filled[0].iter_rows(values_only=True), 1):
        if number > _LAST_ROW:
            raise DataError(say("{path}: is no readable Excel file (.xlsx): {error}.", path=path, error=say("it has a row after the last")))
        cells = [cell_text(value) for value in values[: len(header) if header else None]]
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(path, cells)
        else:
            yield Row(_row(path, number), {name: cell for name, cell in itertools.zip_longest(header, cells, fillvalue="") if name})


def cell_text(value: Any) -> str:
    """A cell as people see it: 12, not 12.0; a day without its midnight."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
