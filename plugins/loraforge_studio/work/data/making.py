# SPDX-License-Identifier: Apache-2.0
"""How the table comes to be in which data are mended: ``loraforge metadata`` makes it of questions and answers, ``loraforge prepare image``
of pictures. The config then names it; what was brought stays as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loraforge import speaker

from ...problems import Refused
from ..configs import changed, note_changes, read_config
from ..folders import Work, locked, replace_text
from .places import remember, remembered, values_of
from .tables import Change, Tables

say = speaker(__name__)

NAME = "metadata.csv"
_BROUGHT = ("train_data_dir", "metadata_path", "columns", "encoding", "sheet", "header_row")
"""Keys that say where data as they were brought lie, and how they are read; the new table needs the first two alone."""
_NO_COLUMNS = ("", "auto", "answer", "question")


def free_folder(work: Work) -> Path:
    """Where the next table goes, from the work's folder: ``data``, or a numbered folder in it."""
    places = (Path("data"), *(Path("data") / str(number) for number in range(2, 10_000)))
    return next(place for place in places if not (work.folder / place / NAME).exists())


def words_for_text(work: Work, out: Path) -> list[object]:
    """The command that makes a table of what the config names."""
    values = values_of(work)
    words: list[object] = ["metadata", values.get("metadata_path") or values.get("train_data_dir") or "uploads", "--out", out / NAME]
    for field, column in _mapping(values.get("columns")).items():
        words += ["--columns", f"{field}={column}"]
    for sheet in _listed(values.get("sheet")):
        words += ["--sheet", sheet]
    for key in ("encoding", "header_row"):
        if values.get(key):
            words += [f"--{key.replace('_', '-')}", values[key]]
    return [*words, *(["--skip"] if values.get("on_bad_row") == "skip" else []), "--json"]


def words_for_pictures(work: Work, out: Path) -> list[object]:
    """The command that makes a table of pictures and their captions."""
    return ["prepare", "image", values_of(work).get("train_data_dir") or "uploads", "--out", out, "--json"]


def keep_copies(tables: Tables, place: Path, findings: Sequence[Mapping[str, Any]]) -> None:
    """Takes pictures in again that ``prepare`` proposes to leave out as copies of others: ``check`` shows them side by side, and a person
    decides."""
    copies = {str(one["file"]) for one in findings if one["kind"] in ("duplicate", "near_duplicate")}
    gone = {str(one["file"]) for one in findings if not one["keep"] and one["kind"] not in ("duplicate", "near_duplicate")}
    table = tables.read(place)
    rows = [row for row in range(len(table.rows)) if table.cell(row, "file_name").removeprefix("./") in copies - gone]
    if rows:
        tables.change(place, [Change(row, {}, {"keep": "yes"}) for row in rows])


def adopt(work: Work, table: Path, task: str) -> None:
    """Lets the config name a table.

    Args:
        table: from the work's folder.

    Raises:
        Refused: if the table lacks what the config needs of the data.
    """
    with locked(work.hidden / "config.lock"):
        _adopt(work, table, task)


def _adopt(work: Work, table: Path, task: str) -> None:
    text = read_config(work.config)
    values = values_of(work)
    new: dict[str, Any] = {"metadata_path": f"./{table.as_posix()}"}
    if task != "image":
        wanted = values.get("split_by", "")
        head = (work.folder / table).read_text(encoding="utf-8-sig").partition("\n")[0]
        if wanted not in _NO_COLUMNS and wanted not in head.split(","):
            raise Refused(422, say("rows are grouped by the column '{column}' (split_by), which a table made here would not have. "
                                   "Mend the rows in the file that you brought, and bring it again.", column=wanted))  # fmt: skip
        new = {**new, "train_data_dir": f"./{table.parent.as_posix()}", **dict.fromkeys(_BROUGHT[2:])}
    if not remembered(work).get("brought"):
        remember(work, brought={key: values[key] for key in _BROUGHT if values.get(key)})
    after = changed(text, new)
    replace_text(work.config, after)
    note_changes(work, text, after)


def restore(work: Work) -> None:
    """Lets the config name again what was brought; the table stays where it is."""
    brought = remembered(work).get("brought")
    if not isinstance(brought, dict) or not brought:
        return
    values: dict[str, Any] = dict.fromkeys(_BROUGHT)
    for key, value in brought.items():
        values[key] = _mapping(value) if key == "columns" else (_listed(value) or None) if key == "sheet" else value
    if values.get("header_row"):
        values["header_row"] = int(values["header_row"])
    with locked(work.hidden / "config.lock"):
        before = read_config(work.config)
        after = changed(before, values)
        replace_text(work.config, after)
        note_changes(work, before, after)
    remember(work, brought={})


def _mapping(value: Any) -> Mapping[str, str]:
    """What the config gives as a mapping; empty for anything else."""
    return {str(key): str(one) for key, one in value.items()} if isinstance(value, dict) else {}


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []
