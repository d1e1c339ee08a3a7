"""Cells of a table that spreadsheets do not take for formulas."""

from __future__ import annotations

import re
from typing import Any

# What a spreadsheet takes for a formula, with whatever blanks before it, or after what another country's spreadsheet takes for a separator.
_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=[\s']*[=+\-@＝＋－＠])")
_QUOTED = re.compile(r"(?:^|(?<=[;\t\r\n]))'(?=[\s']*[=+\-@＝＋－＠])")


def quoted(cell: str) -> str:
    """A cell of a table that no spreadsheet takes for a formula; ``unquoted`` gives back what it was."""
    return _FORMULA.sub("'", cell)


def unquoted(cell: Any) -> Any:
    """A cell as it was before ``quoted``; what is no text stays as it is."""
    return _QUOTED.sub("", cell) if isinstance(cell, str) else cell
