# SPDX-License-Identifier: Apache-2.0
"""The columns of a metadata file in which people say that they looked at a picture. They have the names and rules of every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loraforge import REVIEW_COLUMNS, DataError, decides, match_columns, speaker

say = speaker(__name__)


def review_columns(file: str, rows: Sequence[Mapping[str, Any]], note: Callable[[str], None]) -> dict[str, str]:
    """The columns that say who looked at the pictures, by field.

    Raises:
        DataError: if several could be the same one.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    found, doubtful = match_columns(names, REVIEW_COLUMNS, {}, {name for name in names if decides(row.get(name) for row in rows)})
    if doubtful:
        raise DataError(
            [
                say(
                    "{file}: the columns {names} could all be '{field}'. Leave one of them, or rename the others.",
                    file=file,
                    names=", ".join(f"'{name}'" for name in candidates),
                    field=field,
                )
                for field, candidates in doubtful.items()
            ]
        )
    renamed = [f"{column} -> {field}" for field, column in found.items() if column != field]
    if renamed:
        note(say("{file}: columns {renamed}", file=file, renamed=", ".join(renamed)))
    return found
