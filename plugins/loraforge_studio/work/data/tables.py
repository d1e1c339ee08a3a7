# SPDX-License-Identifier: Apache-2.0
"""The table in which a work's data are mended: a CSV file that the loaders read. What was brought is never touched.

A change names the row as it was seen; if it stands otherwise by now, nothing is written, so that two people never overwrite each other.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

from loraforge import DataError, decode_text, speaker

from ...problems import Refused
from ..folders import replace_text

say = speaker(__name__)

LONGEST = 200_000
"""Characters of a cell that a page may write."""
_MARK = "\ufeff"  # by which Excel knows UTF-8
_YES = ("yes", "true", "1", "是", "通过")
_NO = ("no", "false", "0", "否", "不通过")


@dataclass(frozen=True)
class Change:
    """One row as somebody wants it.

    Attributes:
        row: its number, from 0.
        seen: the cells that the page showed.
        values: the new ones of some columns; a column that is not there yet is added.
    """

    row: int
    seen: Mapping[str, str]
    values: Mapping[str, str]


@dataclass
class Table:
    """A table in memory. ``rows`` have a cell for each of ``columns``."""

    columns: list[str]
    rows: list[list[str]]
    version: str
    marked: bool = False
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers = {name: number for number, name in enumerate(self.columns)}

    def cells(self, row: int) -> dict[str, str]:
        """One row by its columns."""
        return dict(zip(self.columns, self.rows[row], strict=True))

    def cell(self, row: int, column: str) -> str:
        """Empty where there is no such column."""
        number = self.numbers.get(column)
        return "" if number is None else self.rows[row][number]

    def where(self, words: str, state: str) -> list[int]:
        """The rows in which all of these words stand, and which are ``open``, ``approved``, ``rejected``, ``out`` or ``bare``."""
        wanted = words.lower().split()
        found = []
        for number, row in enumerate(self.rows):
            text = "\n".join(row).lower() if wanted else ""
            if all(word in text for word in wanted) and (not state or self._is(number, state)):
                found.append(number)
        return found

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many rows are in each of these states."""
        return {state: len(self.where("", state)) for state in ("open", "approved", "rejected", "out", "bare")}

    def _is(self, row: int, state: str) -> bool:
        approved, keep = self.cell(row, "approved").strip().lower(), self.cell(row, "keep").strip().lower()
        if state == "open":
            return not approved and not self.cell(row, "reviewer").strip()
        if state == "bare":
            return not self.cell(row, "text").strip()
        if state == "out":
            return keep in _NO
        return approved in (_YES if state == "approved" else _NO)


class Tables:
    """Reads tables, and remembers the last one of every place."""

    _shared: ClassVar[WeakKeyDictionary[object, Tables]] = WeakKeyDictionary()

    @classmethod
    def of(cls, owner: object) -> Tables:
        """Those of one studio, whose routes share them."""
        return cls._shared.setdefault(owner, cls())

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, int, int], Table]] = {}
        self._locks: dict[Path, threading.RLock] = defaultdict(threading.RLock)

    def read(self, place: Path) -> Table:
        """
        Raises:
            Refused: if it cannot be read.
        """
        try:
            found = place.stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            kept = self._kept.get(place)
            if kept is not None and kept[0] == state:
                return kept[1]
            table = parsed(place.read_bytes(), place.name)
        except OSError as error:
            raise Refused(404, say("{path} cannot be read: {error}.", path=place, error=error)) from None
        while len(self._kept) > 3:
            self._kept.pop(next(iter(self._kept)))
        self._kept[place] = (state, table)
        return table

    def change(self, place: Path, changes: Sequence[Change]) -> Table:
        """Writes all changes or none; the table as it is then.

        Raises:
            Refused: 409 if a row is no longer as it was seen.
        """
        with self._locks[place]:
            before = self.read(place)
            columns = list(before.columns)
            columns += [name for name in dict.fromkeys(name for one in changes for name in one.values) if name not in before.numbers]
            wide = len(columns) - len(before.columns)
            rows = [[*row, *[""] * wide] for row in before.rows] if wide else list(before.rows)
            numbers = {name: number for number, name in enumerate(columns)}
            gone = [one.row for one in changes if not _as_seen(before, one)]
            if gone:
                raise Refused(409, say("row {n} has been changed meanwhile, in another tab or by somebody else: nothing was overwritten. "
                                       "Look at it as it is now, and write again what you want to change.", n=gone[0] + 2))  # fmt: skip
            for one in changes:
                row = list(rows[one.row])
                for name, value in one.values.items():
                    row[numbers[name]] = cleaned(value)
                rows[one.row] = row
            return self._write(place, Table(columns, rows, "", before.marked))

    def set_all(self, place: Path, version: str, rows: Sequence[int], values: Mapping[str, str]) -> Table:
        """Gives many rows the same values in some columns.

        Args:
            version: of the table as it was seen.

        Raises:
            Refused: 409 if it is another one by now.
        """
        with self._locks[place]:
            before = self.read(place)
            if before.version != version:
                raise Refused(409, say("the table has been changed meanwhile, in another tab or by somebody else: nothing was overwritten. "
                                       "Load the page again."))  # fmt: skip
            chosen = [row for row in dict.fromkeys(rows) if 0 <= row < len(before.rows)]
            return self.change(place, [Change(row, {}, values) for row in chosen])

    def _write(self, place: Path, table: Table) -> Table:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(table.rows)
        data = (_MARK if table.marked else "") + text.getvalue()
        replace_text(place, data)
        made = Table(table.columns, table.rows, _version(data.encode()), table.marked)
        found = os.stat(place)
        self._kept[place] = ((found.st_mtime_ns, found.st_size, found.st_ino), made)
        return made


def parsed(data: bytes, name: str) -> Table:
    """A table of its bytes.

    Raises:
        Refused: if it is none that the studio can write again as it was.
    """
    try:
        text = decode_text(data, "auto", lambda note: None, name)
    except DataError as error:
        raise Refused(422, list(error.problems)) from None
    marked = text.startswith(_MARK) or data.startswith(_MARK.encode())
    csv.field_size_limit(1 << 24)
    try:
        lines = [row for row in csv.reader(io.StringIO(text.removeprefix(_MARK), newline=""), strict=True) if row]
    except csv.Error as error:
        raise Refused(422, say("{path} cannot be read: {error}.", path=name, error=error)) from None
    head = lines[0] if lines else []
    if not head or len(set(head)) != len(head) or any(len(row) > len(head) for row in lines[1:]):
        raise Refused(422, say("{path} is no table with one name for each column; it cannot be mended here.", path=name))
    rows = [[*row, *[""] * (len(head) - len(row))] for row in lines[1:]]
    return Table(head, rows, _version(data), marked)


def cleaned(text: str) -> str:
    """A cell as a text file can hold it: one kind of line ends, and no characters that end or hide something.

    Raises:
        Refused: if it is longer than a cell may be.
    """
    if len(text) > LONGEST:
        raise Refused(413, say("a cell holds at most {n} characters.", n=LONGEST))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 0xD800 <= ord(c) < 0xE000))


def _as_seen(table: Table, change: Change) -> bool:
    if not 0 <= change.row < len(table.rows):
        return False
    now = table.cells(change.row)
    return all(now.get(name, "") == value for name, value in change.seen.items())


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
