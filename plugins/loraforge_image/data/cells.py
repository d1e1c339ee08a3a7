# SPDX-License-Identifier: Apache-2.0
"""Cells of tables that no spreadsheet takes for formulas, and that are read again as they were."""

from __future__ import annotations

import re
from typing import Any

from loraforge import UNSEEN

# What a spreadsheet takes for a formula, with whatever blanks before it, or after what another country's spreadsheet takes for a separator.
_FORMULA = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?=[{UNSEEN}']*[=+\-@＝＋－＠])")
_QUOTED = re.compile(rf"(?:^|(?<=[;\t\r\n]))'(?=[{UNSEEN}']*[=+\-@＝＋－＠])")


def quoted(cell: str) -> str:
    """A cell of a table that no spreadsheet takes for a formula; ``unquoted`` gives back what it was."""
    return _FORMULA.sub("'", cell)


def unquoted(cell: Any) -> Any:
    """A cell as it was before ``quoted``; what is no text stays as it is."""
    return _QUOTED.sub("", cell) if isinstance(cell, str) else cell
