# SPDX-License-Identifier: Apache-2.0
"""How a work begins: a first config for what was brought, what was found in it, and the examples."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from loraforge import command, printable, speaker

from ..problems import Refused
from ..studio import Studio
from ..work.data.making import restore
from ..work.data.places import PICTURES, files_below, remember, source_of, table_of, values_of
from ..work.folders import Work, locked
from .works import shortly, take_config, task_of

say = speaker(__name__)

_PAGE = 500  # names of pictures at once
_MADE = "my.yaml"  # what ``init`` calls a config


class Beginning(BaseModel):
    """What a work begins with: the files that were brought, or a folder or file that the studio may read."""

    task: str = Field(max_length=60)
    path: str = Field("", max_length=4000)


def router(studio: Studio) -> APIRouter:
    """/api/examples, /api/works/NAME/begin, columns, pictures."""
    made = APIRouter(prefix="/api")
    known: dict[str, list[dict[str, Any]]] = {}

    @made.get("/examples")
    def examples() -> list[dict[str, Any]]:
        if studio.language not in known:
            rows = studio.ask(["list", "--json"]).done()
            known[studio.language] = [
                {key: row[key] for key in ("name", "task", "help")} for row in rows if row["kind"] == "example"
            ]  # fmt: skip
        return known[studio.language]

    @made.post("/works/{name}/begin")
    def begin(name: str, wanted: Beginning) -> dict[str, Any]:
        """Writes the first config; a config that was there is kept under another name."""
        return begin_work(studio, studio.folders.work(name), wanted)

    @made.post("/works/{name}/anew")
    def anew(name: str) -> dict[str, Any]:
        """Reads what was brought again, in place of the table in which it was mended; that stays in ``data``."""
        work = studio.folders.work(name)
        restore(work)
        return shortly(studio, work)

    @made.get("/works/{name}/brought")
    def brought(name: str) -> dict[str, Any]:
        """Where the data come from, and whether a table has taken their place."""
        work = studio.folders.work(name)
        table = table_of(work)
        source = source_of(work)
        return {
            "source": os.path.relpath(source, work.folder) if source.is_relative_to(work.folder) else str(source),
            "table": table.relative_to(work.folder).as_posix() if table is not None else None,
            "values": values_of(work),
        }

    @made.get("/works/{name}/columns")
    def columns(name: str) -> dict[str, Any]:
        """The columns of every file as they are, with their first values."""
        work = studio.folders.work(name)
        source = studio.folders.inside(source_of(work), work)
        shown = source.relative_to(work.folder) if source.is_relative_to(work.folder) else source
        said = studio.ask(["metadata", shown, "--look", "--json"], work)
        return {**said.done(), "command": said.command}

    @made.get("/works/{name}/pictures")
    def pictures(name: str, start: int = 0) -> dict[str, Any]:
        """The pictures that were brought, by their names."""
        work = studio.folders.work(name)
        if not work.config.is_file() or task_of(work) == "text":
            return {"total": 0, "files": []}
        root = studio.folders.inside(source_of(work), work)
        root = root if root.is_dir() else root.parent
        found = [os.path.relpath(one.path, root) for one in files_below(root, PICTURES)]
        begin = max(0, start)
        return {"total": len(found), "files": [name.replace(os.sep, "/") for name in found[begin : begin + _PAGE]]}

    return made


def begin_work(studio: Studio, work: Work, wanted: Beginning) -> dict[str, Any]:
    """The work with what ``init`` said of its data.

    Raises:
        Refused: with the command's sentences.
    """
    source = _source(studio, work, wanted.path)
    with locked(work.hidden / "begin.lock", 600):
        return _begin(studio, work, wanted.task, source)


def _begin(studio: Studio, work: Work, task: str, source: Path) -> dict[str, Any]:
    left = work.folder / _MADE
    if left.is_file():  # of a studio that ended in the middle, or the config of a work called so
        kept = work.folder / f"my.{int(time.time())}.yaml"
        left.rename(kept)
        work.append(command("mv", left.name, kept.name))
    said = studio.ask(["init", task, ".", "--data", source, "--json"], work, note=True)
    told = said.done()
    take_config(work, Path(told["config"]))
    remember(work, task=told["task"], brought={})
    return {**shortly(studio, work), "said": told["said"], "command": said.command}


def _source(studio: Studio, work: Work, path: str) -> Path:
    """What ``init`` looks at.

    Raises:
        Refused: if nothing is there.
    """
    if path:
        place = studio.folders.inside(path, work)
        if not place.exists():
            raise Refused(404, say("there is no file {path}.", path=printable(path)))
        return place
    if next(files_below(work.uploads), None) is None:
        raise Refused(422, say("nothing has been brought yet. Drop a file or a folder on the page."))
    return Path("uploads")
