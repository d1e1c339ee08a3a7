# SPDX-License-Identifier: Apache-2.0
"""Metadata files: rows that name pictures, as tables of any separator, lines of JSON, or one list in JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import REVIEW_COLUMNS, DataError, decode_text, first_few, read_file, require_file, speaker

from ..cells import unquoted

say = speaker(__name__)

COLUMNS = {
    "file": ("file_name", "file", "image", "path", "filename", "image_path", "文件名", "图片"),
    "text": ("text", "caption", "prompt", "additional_feature", "标题", "描述", "标注", "说明"),
    "keep": ("keep", "保留"),
    "repeats": ("repeats", "num_repeats", "重复"),
    "mask": ("mask", "mask_file", "mask_path", "蒙版", "遮罩"),
}
NO = ("no", "n", "false", "0", "0.0", "否", "不")
YES = ("yes", "y", "true", "1", "1.0", "是", "")
WIDE = "\0"  # under which a row holds cells that no column is for
# More than anyone writes, and less than fills a machine's memory: bytes of all metadata.
_TABLE = 100_000_000
# What spreadsheets put between columns, by the country; the full-width ones come from hand-made files.
_SEPARATORS = (",", ";", "\t", "|", "；", "，")
_KNOWN = frozenset(name for names in COLUMNS.values() for name in names) | {n.lower() for n in REVIEW_COLUMNS}


def metadata_rows(
    file: Path,
    bad: list[str],
    note: Callable[[str], None] = lambda text: None,
    called: str = "",
    encoding: str = "auto",
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, columns in lower case) of every row of a metadata file. One that is told as bad, as it has more cells than there are
    columns, has these under ``WIDE``.

    Args:
        called: what the file is called in ``where``; by default its name.
        encoding: ``auto``, or a name that Python knows.

    Raises:
        DataError: if the file as a whole cannot be read.
    """
    try:
        if require_file(file).st_size > _TABLE:
            raise DataError(
                say("{path} is larger than {n} MB; divide it, or leave out what is no caption.", path=file, n=_TABLE // 1_000_000)
            )
        data = read_file(file)
    except OSError as error:
        raise DataError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
    called = called or file.name
    text = decode_text(data, encoding, note, str(file), called)
    if file.suffix.lower() in (".csv", ".tsv"):
        yield from _table(file, text, called, bad, note)
    else:
        yield from _objects(file, text, called, bad)


def _table(file: Path, text: str, called: str, bad: list[str], note: Callable[[str], None]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(1 << 24)
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    first, separator, text = _separator(text, usual)
    if separator != usual:
        shown = "Tab" if separator == "\t" else separator
        note(say("{file}: columns are separated by '{separator}'", file=called, separator=shown))
    reader = csv.DictReader(io.StringIO(text, newline=None), delimiter=separator, strict=False)
    try:
        for number, row in enumerate(reader, first + 1):
            where = f"{called}, row {number}"
            more = [cell for cell in row.pop(None, None) or [] if cell.strip()]
            if more:
                bad.append(
                    say(
                        "{where}: it has more cells than there are columns ({cells}). A text with '{separator}' in it stands in quotes.",
                        where=where,
                        cells=first_few(more),
                        separator=separator,
                    )
                )
            if any(cell and cell.strip() for cell in row.values()):
                yield where, {**{str(k).strip().lower(): unquoted(v) for k, v in row.items()}, **({WIDE: more} if more else {})}
    except csv.Error as error:
        raise DataError(say("{path} cannot be read: {error}.", path=file, error=error)) from None


def _separator(text: str, usual: str) -> tuple[int, str, str]:
    """(the row of the header, what separates its columns, the text from there): the separator that makes most known columns of it."""
    text = text.removeprefix("\ufeff")
    said = re.match(r"sep=(.)\r?\n", text, re.IGNORECASE)  # Excel's own
    if said:
        return 2, said[1], text[said.end() :]
    header = next((line for line in text.splitlines() if line.strip()), "")

    def known(separator: str) -> int:
        return sum(cell.strip().strip('"').strip().lower() in _KNOWN for cell in header[:5000].split(separator))

    best = max((usual, *_SEPARATORS), key=known)
    return 1, best if known(best) > known(usual) else usual, text


def _objects(file: Path, text: str, called: str, bad: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    whole = file.suffix.lower() == ".json"
    text = text.removeprefix("\ufeff")
    try:
        entries: Any = json.loads(text) if whole else text.split("\n")
    except (ValueError, RecursionError) as error:
        raise DataError(say("{path} cannot be read: {error}.", path=file, error=error)) from None
    if _is_by_name(entries):
        entries = [{"file_name": name, **value} for name, value in entries.items()]
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        where = f"{called}, {'entry' if whole else 'line'} {number}"
        if not whole and not entry.strip():
            continue
        try:
            value = entry if whole else json.loads(entry)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield where, {str(k).strip().lower(): v for k, v in value.items()}
        else:
            bad.append(say("{where}: it is no JSON object like {example}.", where=where, example='{"file_name": "a.png", "text": "..."}'))


def _is_by_name(entries: Any) -> bool:
    """Whether JSON says of each picture by its name what there is to say, as sd-scripts writes it."""
    if not isinstance(entries, dict) or not entries or _KNOWN & {str(key).strip().lower() for key in entries}:
        return False
    return all(isinstance(value, dict) for value in entries.values())


def unused_columns(rows: Sequence[Mapping[str, Any]], known: Sequence[str]) -> list[str]:
    """The columns in which something stands that nothing is made of.

    Args:
        known: names of columns that mean something besides those of ``COLUMNS``.
    """
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value not in (None, "") and name)
    meant = {name for names in COLUMNS.values() for name in names} | set(known) | {"why", WIDE}
    return [name for name in names if name not in meant]


def doubled_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns of captions that are not used, as another one of the same row is."""
    found: dict[str, None] = {}
    for row in rows:
        said = [name for name in COLUMNS["text"] if row.get(name) not in (None, "")]
        found.update(dict.fromkeys(said[1:]))
    return list(found)


def plain_text(value: Any) -> str:
    """A value of a cell as text; what is no text as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
