# SPDX-License-Identifier: Apache-2.0
"""``loraforge metadata --look``: the columns of every file as they are, for whoever has to say which is what."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from loraforge import DataError, RunConfig, show, speaker

from ..data.columns import FIELDS, is_header
from ..data.files import find_files
from ..data.readers import read_tables
from ..data.readers.number_formats import cell_text
from ..data.readers.rows import Reading, Source
from ..data.table_loader import TableKeys

say = speaker(__name__)

_FIRST = 3  # values of a column that are shown
_LONGEST = 120  # characters of each


def tell_columns(source: Path, keys: TableKeys, as_json: bool) -> None:
    """Prints the columns of every file of ``source`` with their first values, and what cannot be read.

    Raises:
        DataError: if no file can be read.
    """
    notes: list[str] = []
    files: list[dict[str, Any]] = []
    problems: list[str] = []
    sheets = tuple(keys.sheet) if not isinstance(keys.sheet, str) else ()
    reading = Reading(keys.encoding, sheets, keys.header_row, lambda names: is_header(names, {}), notes.append)
    for file in find_files(RunConfig(train_data_dir=str(source), base_model="none"), notes.append):
        try:
            tables = read_tables(Source.of(file.path, file.name), reading, only_questions=file.only_if_data)
        except DataError as error:
            problems += error.problems
            continue
        for table in tables:
            values: dict[str, list[str]] = {}
            for name in dict.fromkeys(name for row in table.rows for name in row.values if name):
                cells = (cell for row in table.rows if (cell := _shown(row.values.get(name))))
                values[name] = list(itertools.islice(cells, _FIRST))
            files.append({"file": table.name, "rows": len(table.rows), "columns": values})
    if problems and not files:
        raise DataError(problems)
    if as_json:
        show(json.dumps({"files": files, "fields": list(FIELDS), "problems": problems, "notes": notes}, ensure_ascii=False))
        return
    for one in files:
        show(say("{file}: {n} rows", file=one["file"], n=one["rows"]))
        for name, first in one["columns"].items():
            show(f"  {name}: {' | '.join(first)}")
    for line in (*problems, *notes):
        show(say("note: {text}", text=line))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else cell_text(value)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
