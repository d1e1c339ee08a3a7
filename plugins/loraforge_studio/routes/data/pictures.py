# SPDX-License-Identifier: Apache-2.0
"""Pictures of a work: small ones, masks, and captions that a model writes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from loraforge import printable, speaker

from ...problems import Refused
from ...studio import Studio
from ...work.data.making import NAME
from ...work.data.masks import keep_mask, proposed
from ...work.data.places import pictures_of, table_of, values_of
from ...work.data.tables import Tables
from ...work.data.thumbs import thumbnail
from ...work.folders import Work

say = speaker(__name__)

_SAFE = {"Cache-Control": "private, no-cache", "Content-Security-Policy": "default-src 'none'; sandbox"}


class Painted(BaseModel):
    """A mask of a picture, in base64."""

    row: int
    file: str = Field(max_length=4000)
    png: str = Field(max_length=12_000_000)


class Captioner(BaseModel):
    """What writes captions."""

    model: str = Field(min_length=1, max_length=1000)
    prompt: str = Field("", max_length=4000)


class Taken(BaseModel):
    """Which captions are taken."""

    job: str = Field(max_length=100)


def router(studio: Studio) -> APIRouter:
    """/api/works/NAME/thumb, mask, captions."""
    made = APIRouter(prefix="/api/works")
    tables = Tables.of(studio)

    def place_of(work: Work) -> Path:
        place = table_of(work)
        if place is None:
            raise Refused(409, say("{work} has no table yet in which its data could be mended.", work=work.name))
        return place

    @made.get("/{name}/thumb")
    def thumb(name: str, file: str, request: Request, side: int = 256) -> Response:
        """A small picture; ``file`` as the table, or the list of the pictures, names it."""
        work = studio.folders.work(name)
        place = thumbnail(work, picture_of(studio, work, file), side)
        tag = f'"{place.stem}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={**_SAFE, "ETag": tag})
        return FileResponse(place, media_type="image/webp", headers={**_SAFE, "ETag": tag})

    @made.get("/{name}/mask")
    def mask(name: str, row: int) -> Response:
        """The mask that the table names for a picture, as a small picture."""
        work = studio.folders.work(name)
        table = tables.read(place_of(work))
        named = table.cell(row, "mask") if 0 <= row < len(table.rows) else ""
        if not named:
            raise Refused(404, say("this picture has no mask."))
        return FileResponse(thumbnail(work, picture_of(studio, work, named), 1024), media_type="image/webp", headers=_SAFE)

    @made.post("/{name}/mask")
    def paint(name: str, wanted: Painted) -> dict[str, str]:
        """Writes a mask; it counts once the row names it."""
        return {"mask": keep_mask(place_of(studio.folders.work(name)).parent, wanted.file, wanted.png)}

    @made.post("/{name}/captions")
    def caption(name: str, wanted: Captioner) -> dict[str, Any]:
        """Lets a model write captions into a table of their own."""
        work = studio.folders.work(name)
        place_of(work)
        out = Path("data") / "captions" / time.strftime("%Y%m%d-%H%M%S")
        words: list[object] = [
            "prepare",
            "image",
            values_of(work).get("train_data_dir") or "uploads",
            "--out",
            out,
            "--captioner",
            wanted.model,
        ]
        words += ["--caption-prompt", wanted.prompt] if wanted.prompt else []
        return studio.start(work, "caption", [*words, "--json"], out=out.as_posix())

    @made.post("/{name}/captions/take")
    def take(name: str, wanted: Taken) -> dict[str, int]:
        """Takes them for pictures that have none."""
        work = studio.folders.work(name)
        place, job = place_of(work), studio.jobs.find(work, wanted.job)
        found = work.folder / str(job.about.get("out", "")) / NAME
        if job.kind != "caption" or not found.is_file():
            raise Refused(404, say("there is no file {path}.", path=printable(str(found))))
        changes = proposed(tables.read(place), tables.read(found))
        if changes:
            tables.change(place, changes)
        return {"taken": len(changes)}

    return made


def picture_of(studio: Studio, work: Work, file: str) -> Path:
    """The picture that a table calls so.

    Raises:
        Refused: if it is not there, or outside of all folders that may be read.
    """
    for root in pictures_of(work):
        place = studio.folders.inside(root / file, work)
        if place.is_file():
            return place
    raise Refused(404, say("there is no file {path}.", path=printable(file)))
