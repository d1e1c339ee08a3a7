# SPDX-License-Identifier: Apache-2.0
"""The workbook for blind judging: both answers to each question, in hidden order.

Which answer is whose never stands in the workbook. It is written to a key file in the run's folder, under a random number that the
workbook carries, with hashes of the texts that were shown, so that an edited row is noticed and not counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError, printable
from ..files import read_text
from ..messages import catalogue, speaker
from ..runs.disk import usual_rights
from ..runs.folder import write_text
from ..terminal import quoted

say = speaker(__name__)

SIDES = ("base", "adapter")
_LONGEST = 32_000  # a cell holds 32,767 characters, and openpyxl cuts the rest without a word
_UNPRINTABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold
_WIDTHS = {"number": 5, "question": 26, "reference": 30, "a": 38, "b": 38, "a_ok": 10, "b_ok": 10, "better": 9, "remarks": 20}


def write_sheet(path: Path, rows: Sequence[Mapping[str, Any]], keys: Path, run: str, adapter: str = "") -> int:
    """Writes a workbook for blind judging, and adds its key to ``keys``.

    Args:
        path: the workbook, ``.xlsx``; never overwritten.
        rows: with ``question``, ``reference``, ``base`` and ``adapter`` (texts), ``where``, and ``group`` if near-identical
            questions are known: those of one group count as one; and ``ended`` by side, where it is known: ``repetition`` is marked.
        keys: JSON in the run's folder; sheets written earlier stay in it.
        run: the run's name, for the key.
        adapter: SHA-256 of the adapter that answered: grades of another one do not count for it.

    Returns:
        How many questions it holds.

    Raises:
        RunError: if the workbook exists, has another ending, or cannot be written.
    """
    refuse_name(path)
    number = f"LF-{secrets.token_hex(8)}"
    first = secrets.randbelow(2)
    flips = [(i + first) % 2 for i in range(len(rows))]  # half of each, so that a taste for the left column favours nobody
    secrets.SystemRandom().shuffle(flips)
    headers, name = _headers(), say("Your name:")
    shown: list[dict[str, str]] = []
    entries: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for position, (row, flip) in enumerate(zip(rows, flips, strict=True)):
        order = SIDES[::-1] if flip else SIDES
        texts = {key: _shown(str(row[source])) for key, source in zip(("question", "a", "b"), ("question", *order), strict=True)}
        repeating = [key for key, side in zip(("a", "b"), order, strict=True) if (row.get("ended") or {}).get(side) == "repetition"]
        texts |= {key: texts[key] + say(" … (ended here: it only repeats itself)") for key in repeating}
        shown.append({**texts, "reference": _shown(str(row["reference"]))})
        same = digest("\n".join([texts["question"], *sorted([texts["a"], texts["b"]])]))
        seen[same] = seen.get(same, 0) + 1
        entry = {"number": position + 1, "where": str(row["where"]), "group": row.get("group"), "id": f"{same[:16]}-{seen[same]}"}
        entry["answer_learned"] = bool(row.get("answer_learned"))
        entries.append({**entry, "a": order[0], "b": order[1], "sha256": {key: digest(text) for key, text in texts.items()}})
    sheets = known_sheets(keys) if keys.exists() else {}
    sheets[number] = {"run": run, "adapter": adapter, "headers": headers, "name": name, "rows": entries}
    workbook = _workbook(shown, headers, name, number)
    try:
        keys.parent.mkdir(parents=True, exist_ok=True)
        write_text(keys, json.dumps({"sheets": sheets}, ensure_ascii=False, indent=1, default=str) + "\n")
        _save(workbook, path)
    except OSError as error:
        raise RunError(say("cannot write to {path}: {error}.", path=error.filename or path, error=error)) from None
    return len(rows)


def refuse_name(path: Path) -> None:
    """Raises RunError where no workbook can be written under this name: for asking before the answers are made."""
    if path.suffix.lower() != ".xlsx":
        raise RunError(say("{path}: the review sheet is an Excel workbook; let its name end in .xlsx.", path=path))
    if path.exists():
        raise RunError(
            say(
                "{path} exists already and may hold somebody's verdicts. Choose another name, or read it with --grade {word}.",
                path=path,
                word=quoted(path),
            )
        )


def known_sheets(keys: Path) -> dict[str, Any]:
    """The sheets in a key file, by number.

    Raises:
        RunError: if the file is missing or damaged.
    """
    try:
        return dict(json.loads(read_text(keys))["sheets"])
    except FileNotFoundError:
        raise RunError(say("{path} does not exist: no review sheet was written for this run. Write one with --sheet.", path=keys)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(say("{path} cannot be read: {error}.", path=keys, error=repr(error))) from None


def digest(text: str) -> str:
    """A hash that survives what office programs do to line ends and spaces."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()


def _headers() -> dict[str, str]:
    return {
        "number": say("No."),
        "question": say("Question"),
        "reference": say("Reference answer"),
        "a": say("Answer A"),
        "b": say("Answer B"),
        "a_ok": say("A factually accurate?"),
        "b_ok": say("B factually accurate?"),
        "better": say("Better answer"),
        "remarks": say("Remarks"),
    }


def _guide(say: Callable[[str], str]) -> list[str]:
    """How to judge, in the language of ``say``."""
    return [
        say("How to judge"),
        say("Each row has a question, a reference answer and two answers, A and B: one by the base model, one by the trained model."),
        say("Which is which changes from row to row and stands nowhere in this file, so that nobody can be swayed by it."),
        say("Judge the facts, not the fluency: is what the answer says true? Length, tone and wording do not count."),
        say("yes: all that matters is right. partly: the core is right, something is missing. no: something that matters is wrong."),
        say("An article, dose or figure that is wrong or invented makes an answer 'no', however well it reads."),
        say("The reference is a help, not the law: an answer that differs from it and is right counts as right."),
        say("Better answer: A, B or same, again by the facts. Where both answers are the same text, one verdict is enough."),
        say("Do not change questions or answers: such a row is not counted. You may sort the rows and leave rows empty."),
        say("A text that is longer than its cell is shown whole by a double click."),
        say("Judge alone, before you talk to other judges. Write your name at the head, save as .xlsx, and send the file back."),
    ]


def _shown(text: str) -> str:
    """The text as a cell can hold it: control characters become visible, because they are the answer's fault and not the sheet's."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = printable(_UNPRINTABLE.sub(lambda found: chr(0x2400 + ord(found[0])) if ord(found[0]) < 32 else "\ufffd", text))
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + say(" … (cut here: a cell holds no more)")
    return text if text.strip() else say("(the answer is empty)")


def _put(cell: Any, text: str) -> None:
    cell.value = text
    cell.data_type = "s"  # openpyxl makes a formula of "=1+1" and an error of "#N/A"
    if text.lstrip()[:1] in tuple("=+-@＝＋－＠"):
        cell.quotePrefix = True  # so that an office program does not make one either when the cell is edited


def _workbook(shown: Sequence[Mapping[str, str]], headers: Mapping[str, str], name: str, number: str) -> Any:
    import openpyxl  # imported lazily: only the review needs it
    from openpyxl.packaging.custom import StringProperty
    from openpyxl.styles import Alignment, Border, Font, PatternFill, Side

    line, wrap = Side(style="thin", color="BFBFBF"), Alignment(wrap_text=True, vertical="top")
    box, bold = Border(left=line, right=line, top=line, bottom=line), Font(name="Calibri", bold=True)
    yellow, grey = (PatternFill("solid", start_color=color) for color in ("FFF9D9", "E7E6E6"))
    book = openpyxl.Workbook()
    book.custom_doc_props.append(StringProperty(name="LoRAForge review", value=number))
    sheet = book.active
    sheet.title = say("Review")
    for place, text in (("B1", name), ("C2", say("Fill in the yellow cells. The other page says how to judge.")), ("I1", number)):
        _put(sheet[place], text)
    sheet["B1"].font, sheet["B1"].alignment, sheet["I1"].font = (
        bold,
        Alignment(horizontal="right"),
        Font(name="Calibri", color="808080", size=8),
    )
    sheet["C1"].fill, sheet["C1"].border = yellow, box
    for column, (key, header) in enumerate(headers.items(), start=1):
        cell = sheet.cell(3, column)
        _put(cell, header)
        cell.font, cell.fill, cell.border, cell.alignment = bold, grey, box, wrap
        sheet.column_dimensions[cell.column_letter].width = _WIDTHS[key]
    for position, texts in enumerate(shown, start=1):
        for column, key in enumerate(headers, start=1):
            cell = sheet.cell(position + 3, column)
            cell.border, cell.alignment = box, wrap
            if key in texts:
                _put(cell, texts[key])
            elif key == "number":
                cell.value = position
            else:
                cell.fill = yellow
        lines = max(_lines(text, _WIDTHS[key]) for key, text in texts.items())
        sheet.row_dimensions[position + 3].height = min(409, 14 * lines + 8)  # 409 points: Excel's limit
    last = len(shown) + 3
    _choices(sheet, f"F4:G{last}", [say("yes"), say("partly"), say("no")])
    _choices(sheet, f"H4:H{last}", ["A", "B", say("same")])
    sheet.freeze_panes, sheet.auto_filter.ref = "B4", f"A3:I{last}"
    sheet.row_dimensions[3].height, sheet.print_title_rows = 32, "3:3"
    _for_printing(sheet)
    page = book.create_sheet(say("How to judge"))
    page.column_dimensions["A"].width = 120
    chinese = catalogue("loraforge", "zh")
    translated, english = _guide(lambda text: chinese.get(text, text)), _guide(lambda text: text)
    for row, text in enumerate([*translated, "", *english], start=1):
        _put(page.cell(row, 1), text)
        title = text in (translated[0], english[0])
        page.cell(row, 1).alignment, page.cell(row, 1).font = wrap, Font(name="Calibri", bold=title, size=12)
        page.row_dimensions[row].height = 18 * _lines(text, 135)
    _for_printing(page)
    return book


def _choices(sheet: Any, cells: str, words: Sequence[str]) -> None:
    from openpyxl.worksheet.datavalidation import DataValidation

    rule = DataValidation(type="list", formula1=f'"{",".join(words)}"', allow_blank=True, showErrorMessage=True)
    rule.error = say("Please choose one of: {words}.", words=", ".join(words))
    sheet.add_data_validation(rule)
    rule.add(cells)


def _for_printing(sheet: Any) -> None:
    sheet.page_setup.orientation, sheet.page_setup.paperSize = "landscape", sheet.PAPERSIZE_A4
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.oddFooter.center.text = "&P / &N"
    sheet.page_margins.left = sheet.page_margins.right = 0.4


def _lines(text: str, width: int) -> int:
    """How many lines a wrapped cell takes; 汉字 are two wide."""
    wide = [sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) for line in text.split("\n")]
    return sum(max(1, -(-length * 11 // (width * 10))) for length in wide)  # a tenth more: words break early


def _save(workbook: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".xlsx", dir=path.parent)
    os.close(handle)
    try:
        workbook.save(partial)
        usual_rights(Path(partial))
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
