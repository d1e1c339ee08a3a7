# SPDX-License-Identifier: Apache-2.0
"""What every reader takes and gives: a file's bytes, tables of raw rows, and the row that names the columns."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from loraforge import LARGEST as LARGEST  # of an unpacked file: millions of long answers
from loraforge import DataError, read_file, refuse_machines_fault, speaker

say = speaker(__name__)

_FILE = 4_000_000_000  # bytes of a file that is not packed
_LONGEST_NAME = 20  # characters of a name in a row that may be one of names; a single one (q, a) is a placeholder
_TITLES = 20  # rows above a header: a title, who made it, when


@dataclass(frozen=True)
class Source:
    """The bytes of one file.

    Attributes:
        path: what the user calls it in errors about the whole file.
        name: the same for its rows, without folders.
    """

    path: str
    name: str
    data: bytes = field(repr=False)

    @classmethod
    def of(cls, path: Path, name: str = "") -> Source:
        """A file of this machine.

        Raises:
            DataError: if it cannot be read.
        """
        try:
            return cls(str(path), name or path.name, read_file(path, _FILE))
        except OSError as error:
            refuse_machines_fault(error)
            raise DataError(say("{path}: cannot be read: {error}.", path=path, error=error)) from None

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


@dataclass(frozen=True)
class Row:
    """One raw row: where it stands, and its values by column name. ``problem`` is why it cannot be read."""

    where: str
    values: Mapping[str, Any]
    problem: str | None = None


@dataclass(frozen=True)
class Table:
    """The rows of one file, sheet or part that share their columns.

    Attributes:
        name: what notes call it.
        split: what the file calls it, ``train`` or ``test``, where it holds several parts; otherwise empty.
    """

    name: str
    rows: Sequence[Row]
    split: str = ""


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        encoding: of text files: ``auto``, or a name that Python knows.
        sheets: of a workbook: names, or numbers from 1; ``all`` for each that has the columns, none for the first that has them.
        header_row: the row that names the columns, from 1; 0 finds it.
        is_header: whether these cells are the names of columns that are needed.
        note: tells the user a decision.
    """

    encoding: str = "auto"
    sheets: tuple[str, ...] = ()
    header_row: int = 0
    is_header: Callable[[Sequence[str]], bool] = field(default=lambda names: False)
    note: Callable[[str], None] = field(default=lambda text: None)


def row_place(name: str, number: int) -> str:
    """What a row of a table is called."""
    return say("{file}, row {n}", file=name, n=number)


class Repeated(str):
    """The name of a column whose own name stands further left already: ``备注 (2)``. ``of`` is that name."""

    of: str = ""

    def __str__(self) -> str:  # stays one where a reader tidies its keys
        return self

    def strip(self, chars: str | None = None, /) -> str:
        return self


def some_of(pieces: Sequence[str]) -> str:
    """A few pieces of text for a note: the first five, 120 characters at most."""
    text = " / ".join(pieces[:5])
    return text if len(text) <= 120 else f"{text[:117]}..."


class FailedCell(str):
    """What a cell shows whose formula failed: #N/A, #REF!, Err:502."""


class AsStored(str):
    """What a cell holds that may be shown otherwise: its number format depends on the country, or is not understood."""


def failed_cell(header: Sequence[str], cells: Sequence[str]) -> str | None:
    """What is wrong where a cell under a name shows an error."""
    for name, cell in zip(header, cells, strict=False):
        if name and isinstance(cell, FailedCell):
            return say(
                "'{column}' shows {error}: Excel could not compute that cell. Mend its formula, or write the text.", column=name, error=cell
            )
    return None


def header_names(path: str, cells: Sequence[str]) -> list[str]:
    """The column names; of those that occur twice the later ones are ``Repeated``, an error only where the name is used."""
    names: list[str] = []
    times: Counter[str] = Counter()
    for name in (cell.strip().lstrip("\ufeff") for cell in cells):
        times[name] += 1
        if name and times[name] > 1:
            again = Repeated(f"{name} ({times[name]})")
            again.of = name
            names.append(again)
        else:
            names.append(name)
    return names


def find_header(source: Source, rows: Iterable[tuple[int, Sequence[str]]], reading: Reading) -> int | None:
    """The number of the row that names the columns: ``header_row``, else the first that names known ones, else the first that is filled.

    Raises:
        DataError: if ``header_row`` is empty or not there.
    """
    rows = _filled(rows)
    if reading.header_row:
        for number, _ in rows:
            if number == reading.header_row:
                return number
        raise DataError(say("{path}: header_row: row {n} is empty, or not there.", path=source.path, n=reading.header_row))
    first = list(itertools.islice(rows, _TITLES))
    known = known_header(first, reading)
    return known if known is not None or not first else first[0][0]


def known_header(rows: Iterable[tuple[int, Sequence[str]]], reading: Reading) -> int | None:
    """The number of the row that names known columns: ``header_row``, or one of the first twenty that are filled; None if none does."""
    filled = itertools.islice(_filled(rows), None if reading.header_row else _TITLES)
    for number, cells in filled:
        if reading.header_row in (0, number) and _named(cells, reading):
            below, under = next(filled, (number, cells))
            lower = not reading.header_row and another_header(cells, under, number, reading)
            return below if lower else number  # of two rows of names the lower one stands right above what it names
    return None


def _named(cells: Sequence[str], reading: Reading) -> bool:
    return reading.is_header([cell.strip() for cell in cells])


def repeats(header: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether a row says what the header says, as where tables were put below each other."""
    return [cell.strip() for cell in cells if cell.strip()] == [cell.strip() for cell in header if cell.strip()]


def another_header(header: Sequence[str], cells: Sequence[str], top: int, reading: Reading) -> str | None:
    """What is wrong with a row below the header that names columns too, and others."""
    if any(len(cell.strip()) == 1 or len(cell) > _LONGEST_NAME for cell in cells) or not _named(cells, reading) or repeats(header, cells):
        return None
    return say("names columns anew, and otherwise than row {n}: a second table. Put it into a sheet or a file of its own.", n=top)


def tell_repeated(source: Source, numbers: Sequence[int], reading: Reading) -> None:
    """Says which rows repeat the header, which nobody learns."""
    if numbers:
        shown = ", ".join(map(str, numbers[:10]))
        reading.note(say("{file}: {n} rows repeat the header, and are not used: {places}", file=source.name, n=len(numbers), places=shown))


def _filled(rows: Iterable[tuple[int, Sequence[str]]]) -> Iterator[tuple[int, Sequence[str]]]:
    return ((number, cells) for number, cells in rows if any(cell.strip() for cell in cells))


def tell_titles(source: Source, above: Iterable[Sequence[str]], header: int, reading: Reading) -> None:
    """Names the rows above the header, which nobody learns."""
    words = " / ".join(dict.fromkeys(cell.strip() for cells in above for cell in cells if cell.strip()))
    if words:
        reading.note(
            say(
                "{file}: row {n} names the columns (header_row: {n}); above it, not used: {words}",
                file=source.name,
                n=header,
                words=words if len(words) <= 80 else f"{words[:77]}...",
            )
        )
