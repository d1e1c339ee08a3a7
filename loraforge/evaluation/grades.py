# SPDX-License-Identifier: Apache-2.0
"""What an expert wrote into a review sheet: read tolerantly, counted strictly.

Rows may be sorted or deleted, columns inserted, and the file saved by any office program. A row counts if its question and both answers are
what was shown; a verdict that is not understood is named by its cell, all of them at once.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..errors import RunError
from ..messages import speaker
from .review_sheet import digest

say = speaker(__name__)

# No letter x: in some countries it ticks a box, in others it strikes out.
_ACCURATE = {
    1.0: "yes y 1 true correct right accurate ok √ ✓ ✔ ☑ 是 是的 对 对的 正确 准确 属实",
    0.5: "partly partial partially part half 0.5 部分 部分正确 部分准确 部分是 部分对 半对",
    0.0: "no n 0 false incorrect wrong inaccurate × ✗ ✘ ✕ 否 不 不是 错 错误 错的 不对 不正确 不准确",
}
_BETTER = {
    "a": "a a好 a更好 答案a",
    "b": "b b好 b更好 答案b",
    "same": "same equal equals tie both neither = 一样 同样 相同 相当 平 平手 差不多",
}
_VERDICTS = {word: value for value, words in _ACCURATE.items() for word in words.split()}
_PREFERENCES = {word: value for value, words in _BETTER.items() for word in words.split()}
_SHOWN = ("question", "a", "b")


@dataclass(frozen=True)
class Grade:
    """One verdict on one question: 1 accurate, 0.5 partly, 0 not; ``better`` is 1 for the adapter, -1 for the base, 0 for neither."""

    base: float
    adapter: float
    better: int
    remark: str


@dataclass
class GradedFile:
    """What one workbook says. Cells and questions are named as the user sees them."""

    file: str
    sheet: str
    grader: str
    rows: list[dict[str, Any]]
    grades: dict[str, Grade] = field(default_factory=dict)
    edited: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    blank: int = 0
    missing: int = 0


def read_file(path: Path, sheets: Mapping[str, Any], keys: Path, problems: list[str]) -> GradedFile:
    """Reads one filled workbook.

    Args:
        sheets: what ``known_sheets`` found in ``keys``.
        problems: gains a sentence for every cell that is not understood.

    Raises:
        RunError: if the file is no workbook, none of this run, or lacks a column.
    """
    import openpyxl  # imported lazily: only the review needs it

    try:
        data = files.read_file(path)
        size = files.unpacked_size(data)
        if size > files.LARGEST:
            raise RunError(
                say(
                    "{path}: unpacks to {n} MB, more than the {most} MB that are read.",
                    path=path,
                    n=size // 10**6,
                    most=files.LARGEST // 10**6,
                )
            )
        book = openpyxl.load_workbook(io.BytesIO(data), data_only=True)
    except FileNotFoundError:
        raise RunError(say("{path}: there is no such file.", path=path.absolute())) from None
    except RunError:
        raise
    except OSError as error:
        raise RunError(say("{path} cannot be read: {error}.", path=path, error=error)) from None
    except Exception as error:  # openpyxl raises whatever its parsers raise
        hint = say("Save it as .xlsx, without a password, and try again.")
        raise RunError(say("{path} cannot be read: {error}.", path=path, error=repr(error)) + " " + hint) from None
    number = _sheet_number(book)
    if not number:
        raise RunError(say("{path}: this is no review sheet; its number (LF-...) is nowhere in it.", path=path))
    if number not in sheets:
        problem = say("{path}: review sheet {number} is not in {keys}, so it belongs to another run.", path=path, number=number, keys=keys)
        raise RunError(problem + " " + say("Name the run that the sheet was written for."))
    key = sheets[number]
    page, top, columns = _find_columns(path, book, key["headers"])
    file = GradedFile(path.name, number, _grader(page, top, key["name"]) or path.stem, key["rows"])
    _read_rows(file, page, top, columns, problems)
    return file


def _sheet_number(book: Any) -> str:
    for page in book.worksheets:
        for row in page.iter_rows(max_row=20, values_only=True):
            for value in row:
                if isinstance(value, str) and re.fullmatch(r"LF-[0-9a-f]{16}", value.strip()):
                    return value.strip()
    return next((str(p.value) for p in book.custom_doc_props.props if p.name == "LoRAForge review"), "")


def _find_columns(path: Path, book: Any, headers: Mapping[str, str]) -> tuple[Any, int, dict[str, int]]:
    best: tuple[Any, int, dict[str, int]] = (None, 0, {})
    for page in book.worksheets:
        for number, row in enumerate(page.iter_rows(max_row=30, values_only=True), start=1):
            titles = [_plain(value) for value in row]
            found = {key: titles.index(_plain(title)) for key, title in headers.items() if _plain(title) in titles}
            best = max(best, (page, number, found), key=lambda candidate: len(candidate[2]))
    lacking = [headers[key] for key in (*_SHOWN, "a_ok", "b_ok") if key not in best[2]]
    if lacking:
        names = ", ".join(f"'{title}'" for title in lacking)
        raise RunError(say("{path}: no column is headed {names}. Put the headings back as they were written.", path=path, names=names))
    return best


def _grader(page: Any, top: int, label: str) -> str:
    for row in page.iter_rows(max_row=max(top - 1, 1), values_only=True):
        texts = [_text(value) for value in row]
        if label in texts:
            after = texts[texts.index(label) + 1 :]
            return next((text for text in after[:2] if text), "") if after else ""
    return ""


def _read_rows(file: GradedFile, page: Any, top: int, columns: Mapping[str, int], problems: list[str]) -> None:
    by_text: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in file.rows:
        by_text.setdefault(tuple(row["sha256"][key] for key in _SHOWN), []).append(row)
    by_number = {str(row["number"]): row for row in file.rows}
    seen: dict[str, str] = {}
    touched: set[str] = set()
    for cells in page.iter_rows(min_row=top + 1):
        named = {key: cells[column] for key, column in columns.items()}
        texts = {key: _text(cell.value) for key, cell in named.items()}
        if not any(texts[key] for key in _SHOWN) and not texts["a_ok"] + texts["b_ok"]:
            continue
        hashes = {key: digest(texts[key]) for key in _SHOWN}
        twins = by_text.get(tuple(hashes.values()), [])
        number = texts.get("number", "").removesuffix(".0")
        exact = [twin for twin in twins if str(twin["number"]) == number]
        fresh = [twin for twin in twins if twin["id"] not in seen]
        match = next(iter(exact + fresh + twins), None)
        place = _place(file, page, named["question"])
        if match is None:
            changed = [key for key in _SHOWN if number in by_number and hashes[key] != by_number[number]["sha256"][key]]
            file.edited += [_place(file, page, named[key]) for key in changed or ["question"]]
            touched.add(number)
        elif match["id"] in seen:
            problems.append(
                say("{cell}: the same question stands at {other} too. Delete one of the two rows.", cell=place, other=seen[match["id"]])
            )
        else:
            seen[match["id"]] = place
            _read_verdicts(file, match, {key: (_place(file, page, cell), texts[key]) for key, cell in named.items()}, problems)
    file.missing = sum(row["id"] not in seen and str(row["number"]) not in touched for row in file.rows)


def _read_verdicts(file: GradedFile, row: Mapping[str, Any], cells: Mapping[str, tuple[str, str]], problems: list[str]) -> None:
    verdicts: dict[str, float | None] = {}
    for key in ("a_ok", "b_ok"):
        place, text = cells[key]
        verdicts[key] = _VERDICTS.get(_plain(text))
        if verdicts[key] is None and text:
            problems.append(say("{cell}: '{found}' is not understood. Write yes, partly or no.", cell=place, found=text))
    place, text = cells.get("better", ("", ""))
    preferred = _PREFERENCES.get(_plain(text))
    if preferred is None and text:
        problems.append(say("{cell}: '{found}' is not understood. Write A, B or same.", cell=place, found=text))
    a, b = verdicts["a_ok"], verdicts["b_ok"]
    equal = row["sha256"]["a"] == row["sha256"]["b"]
    if equal and a is not None and b is not None and a != b:
        problems.append(say("{cell}: both answers are the same text, and the verdicts differ. Give both the same.", cell=cells["b_ok"][0]))
    if equal:
        a, b, preferred = (b if a is None else a), (a if b is None else b), "same"
    if a is None and b is None and (not text or equal):
        file.blank += 1
    elif a is None or b is None:
        file.incomplete.append(cells["a_ok" if a is None else "b_ok"][0])
    else:
        side = {"same": 0, "a": 1 if row["a"] == "adapter" else -1, "b": 1 if row["b"] == "adapter" else -1}
        better = side[preferred] if preferred else ((a > b) - (a < b)) * side["a"]
        judged = {row["a"]: a, row["b"]: b}
        file.grades[row["id"]] = Grade(judged["base"], judged["adapter"], better, cells.get("remarks", ("", ""))[1])


def _place(file: GradedFile, page: Any, cell: Any) -> str:
    return f"{file.file}: {page.title}!{cell.coordinate}"


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _plain(value: object) -> str:
    """Full-width letters, capitals, blanks and full stops make no difference."""
    return re.sub(r"[\s。!?,;:]|\.$", "", unicodedata.normalize("NFKC", _text(value))).casefold()
