# SPDX-License-Identifier: Apache-2.0
"""The workbooks on which people judge blind, read and filled in cell by cell. Which answer is whose stands nowhere in them."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraforge import printable, speaker

from ..problems import Refused
from .folders import Work, safe_name

say = speaker(__name__)

_HEAD = 3  # the row of the headings; questions follow
_COLUMNS = ("number", "question", "reference", "a", "b", "a_ok", "b_ok", "better", "remarks")
_VERDICTS = ("yes", "partly", "no")
_PREFERENCES = ("A", "B", "same")
_KNOWN = {"是": "yes", "部分": "partly", "否": "no", "一样": "same", "a": "A", "b": "B"}
_UNWRITABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold
_LONGEST = 32_000  # characters; a cell holds 32,767
_lock = threading.Lock()


def sheets_of(work: Work) -> list[dict[str, Any]]:
    """The workbooks in ``review/``, and those that somebody brought back: ``path``, ``sheet``, ``grader``, ``judged``, ``count``; or
    ``problems`` where one cannot be read."""
    found = []
    for folder in (work.folder / "review", work.uploads / "review"):
        for place in sorted(folder.glob("*.xlsx")) if folder.is_dir() else ():
            if place.name.startswith((".", "~$")):
                continue
            told: dict[str, Any] = {"path": place.relative_to(work.folder).as_posix(), "brought": folder != work.folder / "review"}
            try:
                told |= {key: value for key, value in read_sheet(place).items() if key != "rows"}
            except Refused as error:
                told["problems"] = error.problems
            found.append(told)
    return found


def read_sheet(file: Path) -> dict[str, Any]:
    """``sheet`` (its number), ``grader``, ``count``, ``judged``, ``incomplete``, and ``rows``: each with ``row`` (in the workbook), the
    texts, and the verdicts as ``yes``, ``partly``, ``no`` and ``A``, ``B``, ``same``; empty where nothing is judged.

    Raises:
        Refused: if it is no sheet as ``eval --sheet`` writes it.
    """
    page, number, _ = _opened(file)
    rows = []
    for cells in page.iter_rows(min_row=_HEAD + 1, max_col=len(_COLUMNS)):
        values = {key: _text(cell.value) for key, cell in zip(_COLUMNS, cells, strict=True)}
        if not values["question"]:
            continue
        for key in ("a_ok", "b_ok", "better"):
            values[key] = _plain(values[key])
        rows.append({**values, "row": cells[0].row, "equal": values["a"] == values["b"]})
    judged = sum(_whole(row) for row in rows)
    begun = sum(any(row[key] for key in ("a_ok", "b_ok", "better")) for row in rows)
    return {"sheet": number, "grader": _text(page["C1"].value), "count": len(rows), "judged": judged, "incomplete": begun - judged,
            "rows": rows}  # fmt: skip


def judge(file: Path, row: int, values: Mapping[str, str]) -> dict[str, Any]:
    """Writes verdicts of one question into the workbook, aside and renamed; the row as it is then.

    Args:
        values: ``a_ok``, ``b_ok``, ``better`` and ``remarks``; what is empty is taken out.

    Raises:
        Refused: if there is no such row, a verdict is none, or the disk takes nothing.
    """
    for key, value in values.items():
        allowed = {"a_ok": _VERDICTS, "b_ok": _VERDICTS, "better": _PREFERENCES}.get(key)
        if allowed is not None and value and value not in allowed:
            raise Refused(400, say("'{value}' is no verdict.", value=printable(value)))
    with _lock:
        page, _, book = _opened(file)
        if not _HEAD < row <= page.max_row or not _text(page.cell(row, 2).value):
            raise Refused(404, say("{file} has no question in row {row}.", file=file.name, row=row))
        words = _words(page)
        for key, value in values.items():
            _put(page.cell(row, _COLUMNS.index(key) + 1), value if key == "remarks" else words.get(value, value))
        _save(book, file)
    return next(one for one in read_sheet(file)["rows"] if one["row"] == row)


def copy_for(work: Work, sheet: Path, grader: str) -> Path:
    """A copy of an empty sheet for one who judges, with the name at its head; one that has been begun is not touched.

    Raises:
        Refused: if the name is none, or taken.
    """
    name = safe_name(grader).replace(".", "_")
    if not name:
        raise Refused(400, say("Write the name of whoever judges: it tells the sheets apart."))
    with _lock:
        page, _, book = _opened(sheet)
        place = work.folder / "review" / f"{sheet.stem}.{name}.xlsx"
        if place.exists():
            raise Refused(409, say("{name} has a sheet already: go on with it.", name=name))
        for row in range(_HEAD + 1, page.max_row + 1):
            for key in ("a_ok", "b_ok", "better", "remarks"):
                page.cell(row, _COLUMNS.index(key) + 1).value = None
        _put(page["C1"], grader.strip()[:200])
        place.parent.mkdir(exist_ok=True)
        _save(book, place)
    return place


def next_sheet(work: Work, run: str) -> str:
    """A name for a new sheet that none has."""
    stem = safe_name(run).replace(".", "_") or "run"
    number = next(n for n in range(1, 10_000) if not (work.folder / "review" / f"{stem}-{n}.xlsx").exists())
    return f"review/{stem}-{number}.xlsx"


def _opened(file: Path) -> tuple[Any, str, Any]:
    """(page, number, workbook)

    Raises:
        Refused: if it cannot be read, or is no sheet.
    """
    import openpyxl

    if not file.is_file():
        raise Refused(404, say("there is no file {path}.", path=printable(file.name)))
    if file.stat().st_size > 50_000_000:
        raise Refused(422, say("{file} is no review sheet as LoRAForge writes it.", file=printable(file.name)))
    try:
        book = openpyxl.load_workbook(file)
        page = book.worksheets[0]
        number = _text(page["I1"].value)
    except Exception as error:  # openpyxl raises whatever its parsers raise
        raise Refused(422, say("{file} cannot be read: {error}.", file=printable(file.name), error=type(error).__name__)) from None
    if not re.fullmatch(r"LF-[0-9a-f]{16}", number) or not all(_text(page.cell(_HEAD, column).value) for column in range(1, 10)):
        text = say(
            "{file} is no review sheet as LoRAForge writes it, or its columns were moved. Open it in a spreadsheet program instead.",
            file=printable(file.name),
        )
        raise Refused(422, text)
    return page, number, book


def _words(page: Any) -> dict[str, str]:
    """The words of the sheet's own lists, which its language has."""
    lists = [str(rule.formula1).strip('"').split(",") for rule in page.data_validations.dataValidation if rule.type == "list"]
    found: dict[str, str] = {}
    for words, own in ((_VERDICTS, 0), (_PREFERENCES, 1)):
        if own < len(lists) and len(lists[own]) == 3:
            found |= dict(zip(words, lists[own], strict=True))
    return found


def _plain(text: str) -> str:
    """A verdict as the page has it; what is none stays as it was written, to be seen."""
    low = text.lower().strip(" .")
    return low if low in (*_VERDICTS, "same") else _KNOWN.get(low, text)


def _whole(row: Mapping[str, Any]) -> bool:
    ok = [bool(row[key]) for key in ("a_ok", "b_ok")]
    return any(ok) if row["equal"] else all(ok)


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _put(cell: Any, text: str) -> None:
    text = _UNWRITABLE.sub("\ufffd", text.replace("\r\n", "\n"))[:_LONGEST].strip()
    cell.value = text or None
    if text:
        cell.data_type = "s"  # "=1+1" is what somebody wrote, and no formula
        cell.quotePrefix = text[:1] in "=+-@"


def _save(book: Any, file: Path) -> None:
    aside = file.parent / f".{secrets.token_hex(6)}.xlsx"
    try:
        book.save(aside)
        if file.exists():
            shutil.copymode(file, aside)
        os.replace(aside, file)
    except OSError as error:
        text = say("{path} cannot be written: {error}. What stood there still does.", path=file, error=error)
        raise Refused(507, text) from None
    finally:
        aside.unlink(missing_ok=True)
