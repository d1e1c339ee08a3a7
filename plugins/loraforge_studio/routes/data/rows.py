# SPDX-License-Identifier: Apache-2.0
"""A work's data: what is found in them, the table in which they are mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from loraforge import speaker

from ...problems import Refused
from ...studio import Studio
from ...work.data.checked import Checked
from ...work.data.making import NAME, adopt, free_folder, keep_copies, words_for_pictures, words_for_text
from ...work.data.places import table_of, values_of
from ...work.data.tables import Change, Table, Tables
from ...work.folders import Work
from ..works import task_of

say = speaker(__name__)

_MOST = 500  # rows at once


class RowChange(BaseModel):
    """One row as somebody wants it; see ``Change``."""

    row: int
    seen: dict[str, str]
    values: dict[str, str]


class Changes(BaseModel):
    """Rows that are changed together."""

    changes: list[RowChange] = Field(max_length=100_000)


class Review(BaseModel):
    """What somebody decides of many rows at once."""

    rows: list[int] = Field(max_length=1_000_000)
    version: str
    values: dict[Literal["approved", "reviewer", "keep"], str]


def router(studio: Studio) -> APIRouter:
    """/api/works/NAME/check, table, rows, where."""
    made = APIRouter(prefix="/api/works")
    tables = Tables.of(studio)
    checked = Checked(lambda words, work: studio.ask(words, work, seconds=3600))

    def table_place(work: Work) -> Path:
        place = table_of(work)
        if place is None:
            raise Refused(409, say("{work} has no table yet in which its data could be mended.", work=work.name))
        return place

    @made.get("/{name}/check")
    def check(name: str) -> dict[str, Any]:
        work = _begun(studio, name)
        return checked.of(work, task_of(work), studio.language)

    @made.get("/{name}/table")
    def table(name: str) -> dict[str, Any]:
        return _told(studio, tables, _begun(studio, name))

    @made.post("/{name}/table")
    def make(name: str) -> dict[str, Any]:
        """Makes the table: of texts at once, of pictures in a job."""
        work = _begun(studio, name)
        told = _told(studio, tables, work)
        if told["state"] in ("ready", "making"):
            return told
        out = free_folder(work)
        if task_of(work) == "image":
            job = studio.start(
                work, "prepare", words_for_pictures(work, out), out=out.as_posix(), source=str(values_of(work).get("train_data_dir", ""))
            )
            return {**told, "state": "making", "job": job}
        said = studio.ask(words_for_text(work, out), work, note=True, seconds=3600)
        notes = said.done()["notes"]
        adopt(work, out / NAME, task_of(work))
        return {**_told(studio, tables, work), "command": said.command, "notes": notes}

    @made.get("/{name}/rows")
    def rows(name: str, start: int = 0, count: int = 100) -> dict[str, Any]:
        found = tables.read(table_place(_begun(studio, name)))
        begin = max(0, start)
        return _rows(found, range(begin, min(begin + min(max(count, 1), _MOST), len(found.rows))))

    @made.put("/{name}/rows")
    def change(name: str, wanted: Changes) -> dict[str, Any]:
        place = table_place(_begun(studio, name))
        changes = [Change(one.row, one.seen, one.values) for one in wanted.changes]
        return _rows(tables.change(place, changes), [one.row for one in changes[:_MOST]])

    @made.put("/{name}/rows/all")
    def review(name: str, wanted: Review) -> dict[str, Any]:
        place = table_place(_begun(studio, name))
        return _rows(tables.set_all(place, wanted.version, wanted.rows, {str(key): value for key, value in wanted.values.items()}), [])

    @made.get("/{name}/where")
    def where(name: str, q: str = "", state: Literal["", "open", "approved", "rejected", "out", "bare"] = "") -> dict[str, Any]:
        found = tables.read(table_place(_begun(studio, name)))
        return {"rows": found.where(q[:1000], state), "version": found.version}

    return made


def _begun(studio: Studio, name: str) -> Work:
    work = studio.folders.work(name)
    if not work.config.is_file():
        raise Refused(409, say("{work} has no config yet: bring data first.", work=name))
    return work


def _told(studio: Studio, tables: Tables, work: Work) -> dict[str, Any]:
    """``state``: ``ready``, ``making`` with the ``job``, ``failed`` with it, or ``none``.

    A table of pictures is taken once its job is done."""
    job = next((one for one in studio.jobs.of(work) if one.kind == "prepare"), None)
    source = str(values_of(work).get("train_data_dir", ""))
    if job is not None and job.about.get("source", source) != source:
        job = None  # of pictures that another folder has replaced
    if job is not None and job.state == "done" and table_of(work) is None:
        out = Path(str(job.about.get("out", "data"))) / NAME
        taken = job.folder / "taken"
        if not taken.exists() and (work.folder / out).is_file():
            keep_copies(tables, work.folder / out, (job.result or {}).get("findings", []))
            adopt(work, out, "image")
            taken.touch()
    place = table_of(work)
    if place is not None:
        found = tables.read(place)
        return {"state": "ready", "path": place.relative_to(work.folder).as_posix(), "version": found.version, "columns": found.columns,
                "total": len(found.rows), "counts": found.counts}  # fmt: skip
    if job is not None and job.state != "done":
        return {"state": "making" if job.state == "running" else "failed", "job": job.as_json()}
    return {"state": "none"}


def _rows(table: Table, numbers: Any) -> dict[str, Any]:
    return {
        "version": table.version, "total": len(table.rows), "columns": table.columns, "counts": table.counts,
        "rows": [{"row": number, "cells": table.cells(number)} for number in numbers],
    }  # fmt: skip
