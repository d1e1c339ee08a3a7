# SPDX-License-Identifier: Apache-2.0
"""The same complaint about many rows as one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..messages import speaker

say = speaker(__name__)

_MOST = 5  # rows with the same complaint that get a line each; of more, this many are named


def condense(lines: Iterable[str]) -> list[str]:
    """Lines such as ``d.csv, row 3: 'output' is empty.``; where more than five say the same, one of them with a count of the rows.

    Numbers in what is said may differ: ``is 620 tokens long`` and ``is 618 tokens long`` are the same complaint. The order stays, with the
    one line where the first of them stood.
    """
    lines = list(lines)
    groups: dict[str, list[str]] = {}
    for line in lines:
        groups.setdefault(_complaint(line), []).append(line)
    made = []
    for line in lines:
        group = groups.get(_complaint(line), [])
        if 0 < len(group) <= _MOST:
            made.append(line)
        elif group:
            del groups[_complaint(line)]
            _, *others = dict.fromkeys(one.partition(": ")[0] for one in group)
            if not others:
                made.append(say("{line} The same holds {n} times more there.", line=line, n=len(group) - 1))
                continue
            rows = "; ".join([*others[:_MOST], "..."] if len(others) > _MOST else others)
            made.append(say("{line} The same holds for {n} more rows: {rows}", line=line, n=len(others), rows=rows))
    return made


def _complaint(line: str) -> str:
    _, colon, complaint = line.partition(": ")
    return re.sub(r"\d+", "#", complaint) if colon else line
