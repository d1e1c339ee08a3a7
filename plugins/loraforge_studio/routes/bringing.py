# SPDX-License-Identifier: Apache-2.0
"""Files that are dropped on the page, and those in folders that it may read."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import secrets
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from loraforge import printable, speaker

from ..problems import Refused
from ..studio import Studio
from ..work.folders import Work, safe_name

say = speaker(__name__)

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif"}
_MOST = 20_000  # files of one folder that are listed


def router(studio: Studio) -> APIRouter:
    """PUT /api/works/NAME/uploads, GET /api/works/NAME/file, GET /api/browse."""
    made = APIRouter(prefix="/api")

    @made.put("/works/{name}/uploads", status_code=201)
    async def upload(name: str, path: str, request: Request) -> dict[str, Any]:
        work = await to_thread.run_sync(studio.folders.work, name)
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > studio.upload:
            raise _too_large(path, studio.upload)
        place = _place(work, path)
        aside = place.parent / f".{secrets.token_hex(8)}.part"
        got = 0
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("xb") as out:
                async for piece in request.stream():
                    got += len(piece)
                    if got > studio.upload:
                        raise _too_large(path, studio.upload)
                    await to_thread.run_sync(out.write, piece)
                out.flush()
                os.fsync(out.fileno())
            os.replace(aside, place)
        except OSError as error:
            text = say("{file} was not taken: {error}.", file=printable(path), error=error)
            raise Refused(507, text) from None
        except ClientDisconnect:
            raise Refused(400, say("{file} came only in part, and was not taken.", file=printable(path))) from None
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
        return {"path": place.relative_to(work.folder).as_posix(), "bytes": got}

    @made.get("/works/{name}/uploads")
    def uploads(name: str) -> dict[str, Any]:
        work = studio.folders.work(name)
        found = _files(work.uploads)
        return {"files": [{"path": one.relative_to(work.folder).as_posix(), "bytes": one.stat().st_size} for one in found[:_MOST]],
                "count": len(found)}  # fmt: skip

    @made.get("/works/{name}/file")
    def file(name: str, path: str, request: Request) -> Response:
        """A picture or a text of a work or of a folder that may be read; never as a page."""
        place = studio.folders.inside(path, studio.folders.work(name))
        if not place.is_file():
            raise Refused(404, say("there is no file {path}.", path=printable(path)))
        kind = mimetypes.guess_type(place.name)[0] if place.suffix.lower() in _PICTURES else "text/plain; charset=utf-8"
        found = place.stat()
        tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Content-Security-Policy": "default-src 'none'; sandbox"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return FileResponse(place, media_type=kind, headers=headers)

    @made.get("/browse")
    def browse(path: str = "") -> dict[str, Any]:
        if not path:
            roots = [studio.folders.home, *studio.folders.allowed]
            return {"path": "", "folders": [{"name": str(root), "path": str(root)} for root in roots], "files": []}
        place = studio.folders.inside(path)
        try:
            inside = sorted(place.iterdir(), key=lambda one: one.name.lower())
        except OSError as error:
            raise Refused(404, say("{path} cannot be read: {error}.", path=printable(path), error=error)) from None
        shown = [one for one in inside if not one.name.startswith(".")][:_MOST]
        return {
            "path": str(place),
            "folders": [{"name": printable(one.name), "path": str(one)} for one in shown if one.is_dir()],
            "files": [{"name": printable(one.name), "path": str(one), "bytes": one.stat().st_size} for one in shown if one.is_file()],
        }

    return made


def _place(work: Work, path: str) -> Path:
    """Where a file that is brought goes: under ``uploads``, in the folders that its name says, each made safe.

    Raises:
        Refused: if no name is left of it.
    """
    parts = [safe_name(part) for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts or not all(parts) or len(parts) > 12:
        raise Refused(400, say("'{name}' cannot be the name of a file here. Rename it, and bring it again.", name=printable(path)))
    return work.uploads.joinpath(*parts)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.rglob("*") if one.is_file() and not one.name.startswith("."))


def _too_large(path: str, most: int) -> Refused:
    text = say("{file} is larger than {n} MB. Start the studio with a larger --max-upload, or with --allow and the file's folder.",
               file=printable(path), n=most // 1_000_000)  # fmt: skip
    return Refused(413, text)
