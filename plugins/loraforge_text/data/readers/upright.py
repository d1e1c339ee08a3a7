# SPDX-License-Identifier: Apache-2.0
"""Tables that stand upright: the first column names the fields (问题, 答案), the second holds the texts, again and again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loraforge import speaker

from .rows import FailedCell, Reading, Row, failed_cell

say = speaker(__name__)

_MOST = 8  # different names in the first column
_END = re.compile(r"[\s\d:：.．、]+$")  # 问题1：


def read_upright(rows: Sequence[tuple[str, Sequence[str]]], reading: Reading) -> tuple[list[Row], list[str]] | None:
    """The rows of an upright table, and its headings; None if it is another kind of table.

    A group begins wherever the first name comes again. A row without a name goes on with the text above it.

    Args:
        rows: what each row is called, and its cells.
    """
    plain = [(where, [cell if isinstance(cell, FailedCell) else cell.strip() for cell in cells]) for where, cells in rows]
    filled = [(where, cells) for where, cells in plain if any(cells)]
    if not filled or any(any(cells[2:]) for _, cells in filled):
        return None
    pairs = [(where, _END.sub("", cells[0]), cells[1] if len(cells) > 1 else "") for where, cells in filled]
    names = list(dict.fromkeys(name for _, name, text in pairs if name and text))
    if not 2 <= len(names) <= _MOST or not reading.is_header(names):
        return None
    made: list[Row] = []
    headings: list[str] = []
    group: dict[str, str] = {}
    start, last, problem = "", "", None

    def close() -> None:
        if group:
            made.append(Row(start, {name: group.get(name, "") for name in names}, problem))

    for (where, name, text), (_, cells) in zip(pairs, filled, strict=True):
        failed = failed_cell([name], [text])
        if name and name not in names:
            headings.append(cells[0])
        elif not name:
            if last:
                group[last] = f"{group[last]}\n{text}".strip()
            else:
                headings.append(text)
        elif name == names[0] or not group:
            close()
            group, start, last, problem = {name: text}, where, name, failed
        elif name in group:
            problem = say("'{column}' stands twice below one '{first}'.", column=name, first=names[0])
        else:
            group[name] = text
            last = name
            problem = problem or failed
    close()
    return made, headings
