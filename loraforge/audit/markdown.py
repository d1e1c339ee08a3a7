# SPDX-License-Identifier: Apache-2.0
"""Markdown around text that comes from data: nothing in a name or a path becomes a heading, a link, a tag or a cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def plain(value: object) -> str:
    """One line without characters that do not show: names and paths come from data, and a line break would begin a heading."""
    return "".join(c if c.isprintable() else " " for c in " ".join(str(value).split()))


def text(value: object) -> str:
    """Words in a sentence: nothing in them is a link, an image, a tag or a cell."""
    return re.sub(r"([\\`*_\[\]<>|#~!&$])", r"\\\1", plain(value))


def code(value: object) -> str:
    """A name, a path or a hash as it is written."""
    shown = plain(value)
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}".replace("|", "\\|") if shown else "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of finished cells; none if it has no rows."""
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body] if body else []


def items(pairs: Iterable[tuple[str, str | None]]) -> list[str]:
    """A line for each name with a finished value."""
    return [f"- {name}: {value}" for name, value in pairs if value]


def number(value: object) -> str:
    """A figure for people; anything else as words."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else text(value)
    return str(value) if isinstance(value, int) else f"{value:.3f}"
