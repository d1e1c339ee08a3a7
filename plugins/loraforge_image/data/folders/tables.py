# SPDX-License-Identifier: Apache-2.0
"""The rows of the metadata files of a folder: which picture each is about, and what it says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import Review, first_few, read_review, speaker

from ..review_columns import review_columns
from .caption_lines import caption_of
from .inventory import Inventory
from .keys import MOST_REPEATS, PictureKeys
from .metadata import COLUMNS, NO, WIDE, YES, doubled_columns, metadata_rows, plain_text, unused_columns
from .names import METADATA, FileNames

say = speaker(__name__)


_UNSEEN = Review()


@dataclass(frozen=True)
class Row:
    """A row of a metadata file that names a picture.

    Attributes:
        where: what the user calls it.
        table: the file in which it stands.
        caption: None where it says nothing.
        cut: how many further lines of the caption are left out.
        repeats: None where it says nothing.
        mask: the file that it names as the mask.
        keep: whether its picture is used.
        group: what it says in the column of ``split_by``.
    """

    where: str
    table: Path
    caption: str | None = None
    cut: int = 0
    repeats: int | None = None
    mask: Path | None = None
    keep: bool = True
    review: Review = _UNSEEN
    group: str | None = None


class Tables:
    """Reads metadata files. ``listed`` are all pictures that they name, ``rows`` what they say of those that can be used.

    Args:
        bad: receives a line for everything that cannot be used.
        named: makes what the user calls a file of its path within the folder.
        split_by: the column that says which pictures stay on one side of the hold-out.
    """

    def __init__(self, keys: PictureKeys, bad: list[str], note: Callable[[str], None], named: Callable[[str], str], split_by: str) -> None:
        self.keys, self.bad, self.note, self.named, self.split_by = keys, bad, note, named, split_by
        self.rows: dict[Path, Row] = {}
        self.listed: set[Path] = set()
        self._names = FileNames()

    def read(self, file: Path, called: str, root: Path) -> int:
        """Adds the rows of a file to ``rows``; how many rows it has.

        Raises:
            DataError: if it cannot be read as a whole.
        """
        rows = list(metadata_rows(file, self.bad, self.note, self.named(called), self.keys.encoding))
        columns = review_columns(self.named(called), [row for _, row in rows], self.note)
        self._tell(called, [row for _, row in rows], [*columns.values(), self.split_by])
        for where, row in rows:
            self._row(where, row, columns, file, root)
        return len(rows)

    def _tell(self, called: str, rows: Sequence[Mapping[str, Any]], known: Sequence[str]) -> None:
        doubled = doubled_columns(rows)
        if doubled:
            names = first_few(doubled)
            self.note(say("{file}: several columns hold captions; not read: {names}", file=self.named(called), names=names))
        unused = unused_columns(rows, known)
        if unused:
            self.note(say("{file}: columns that are not read: {names}", file=self.named(called), names=first_few(unused)))

    def _row(self, where: str, row: Mapping[str, Any], columns: Mapping[str, str], file: Path, root: Path) -> None:
        values = {field: next((row[n] for n in names if row.get(n) not in (None, "")), None) for field, names in COLUMNS.items()}
        if values["file"] is None:
            self.bad.append(say("{where}: it names no picture; the column is called file_name.", where=where))
            return
        if not isinstance(values["file"], str):
            shown = plain_text(values["file"])[:40]
            self.bad.append(say("{where}: the name of its picture is no text but {value}.", where=where, value=shown))
            return
        roots = [file.parent, root]
        if values["keep"] is not None and plain_text(values["keep"]).strip().lower() in NO:
            path = self._names.find(values["file"], roots)
            if path is not None:
                self.rows.setdefault(path, Row(where, file, keep=False))
            else:
                self.rows.setdefault(file.parent / values["file"], Row(where, file, keep=False))
            return
        path = self.inside(where, values["file"], roots)
        if path is None:
            return
        if values["keep"] is not None and plain_text(values["keep"]).strip().lower() not in YES:
            shown = plain_text(values["keep"])[:40]
            self.bad.append(say("{where}: keep must be yes or no; got '{value}'.", where=where, value=shown))
        self.listed.add(path)
        if WIDE in row:
            return
        if path in self.rows and self.rows[path].keep:
            other = self.rows[path].where
            self.bad.append(say("{where}: {name} stands in {other} already.", where=where, name=values["file"], other=other))
            return
        made = self._made(where, row, values, columns, file, roots)
        if made is not None:
            self.rows[path] = made

    def _made(
        self, where: str, row: Mapping[str, Any], values: Mapping[str, Any], columns: Mapping[str, str], file: Path, roots: list[Path]
    ) -> Row | None:
        problems: list[str] = []
        written = plain_text(values["repeats"]).strip() if values["repeats"] is not None else ""
        if written and (not re.fullmatch("[0-9]{1,4}", written) or not 1 <= int(written) <= MOST_REPEATS):
            problems.append(say("repeats must be a whole number from 1 to 1000; got '{value}'.", value=written[:40]))
        try:
            caption, cut = caption_of(values["text"], self.keys.caption_lines)
        except ValueError as error:
            problems.append(say("{problem}.", problem=error))
        review = read_review({field: row.get(column) for field, column in columns.items()}, columns, problems)
        mask = self.inside(where, plain_text(values["mask"]), roots) if values["mask"] is not None else None
        if problems:
            self.bad.extend(f"{where}: {problem}" for problem in problems)
            return None
        caption = caption or None  # blanks say nothing
        said = row.get(self.split_by)
        group = (plain_text(said).strip() if said is not None else "") or None
        return Row(where, file, caption, cut, int(written) if written else None, mask, True, review, group)

    def inside(self, where: str, name: str, roots: list[Path]) -> Path | None:
        """The picture that a row names, which must lie in the folder of the metadata or of the data."""
        path = self._names.find(name, roots)
        if path is None:
            self.bad.append(say("{where}: there is no file {name}.", where=where, name=name))
        elif not any(path.resolve().is_relative_to(root.resolve()) for root in roots):
            self.bad.append(say("{where}: {name} lies outside of the folder; copy the picture into it.", where=where, name=name))
            return None
        return path


def tables_of(there: Inventory) -> list[Path]:
    """The metadata files that are read: that of the folder itself, which then says everything; otherwise one of each folder in it."""
    by: dict[Path, list[Path]] = {}
    for file in there.metadata:
        by.setdefault(file.parent, []).append(file)
    first = {place: min(files, key=lambda file: (METADATA.index(file.name.lower()), file.name)) for place, files in by.items()}
    return [first[there.root]] if there.root in first else [first[place] for place in sorted(first)]
