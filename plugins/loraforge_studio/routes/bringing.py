# SPDX-License-Identifier: Apache-2.0
"""Files that are dropped on the page, and those in folders that it may read."""

from __future__ import annotations

import contextlib
import filecmp
import os
import secrets
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from loraforge import printable, speaker, why

from ..problems import Refused
from ..studio import Studio
from ..work.folders import Work, safe_name

say = speaker(__name__)

# Shown as pictures. Not .svg: that is a page, with scripts. No table of the system is asked, which anyone's program may change.
_PICTURES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp",
    ".avif": "image/avif",
}  # fmt: skip
_MOST = 20_000  # files of one folder that are listed


def router(studio: Studio) -> APIRouter:
    """PUT /api/works/NAME/uploads, GET /api/works/NAME/file, GET /api/browse."""
    made = APIRouter(prefix="/api")

    @made.put("/works/{name}/uploads", status_code=201)
    async def upload(name: str, path: str, request: Request) -> dict[str, Any]:
        """Takes a file under the name that it has, made safe. What is there already is never written over: the same once more changes
        nothing, another one is refused."""
        work = await to_thread.run_sync(studio.folders.work, name)
        place, got = await _received(work, path, request, studio.upload)
        return {"path": place.relative_to(work.folder).as_posix(), "bytes": got}

    @made.get("/works/{name}/uploads")
    def uploads(name: str) -> dict[str, Any]:
        work = studio.folders.work(name)
        found = _files(work.uploads)
        shown = [{"path": one.relative_to(work.folder).as_posix(), "bytes": size} for one, size in found[:_MOST]]
        return {"files": shown, "count": len(found)}

    @made.get("/works/{name}/file")
    def file(name: str, path: str, request: Request) -> Response:
        """A picture or a text of a work or of a folder that may be read; never as a page."""
        place = studio.folders.inside(path, studio.folders.work(name))
        if not place.is_file():
            raise Refused(404, say("there is no file {path}.", path=printable(path)))
        kind = _PICTURES.get(place.suffix.lower(), "text/plain; charset=utf-8")
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
        return _inside(place, path)

    return made


async def _received(work: Work, path: str, request: Request, most: int) -> tuple[Path, int]:
    """Takes a file of at most so many bytes; where it lies now, and its bytes.

    Raises:
        Refused: if it is larger, comes in part, or has no place.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(path, most)
    place = await to_thread.run_sync(_place, work, path)
    aside = place.parent / f".{secrets.token_hex(8)}.part"
    got = 0
    try:
        with aside.open("xb") as out:
            async for piece in request.stream():
                got += len(piece)
                if got > most:
                    raise _too_large(path, most)
                await to_thread.run_sync(out.write, piece)
            out.flush()
            await to_thread.run_sync(os.fsync, out.fileno())
        await to_thread.run_sync(_take, aside, place, path)
    except OSError as error:
        text = say("{file} was not taken: {error}.", file=printable(path), error=why(error))
        raise Refused(507, text) from None
    except ClientDisconnect:
        raise Refused(400, say("{file} came only in part, and was not taken.", file=printable(path))) from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return place, got


def _inside(place: Path, path: str) -> dict[str, Any]:
    """The folders and files of a folder; what is hidden is left out, and of very many the last."""
    try:
        inside = sorted(os.scandir(place), key=lambda one: one.name.lower())
    except OSError as error:
        raise Refused(404, say("{path} cannot be read: {error}.", path=printable(path), error=why(error))) from None
    visible = [one for one in inside if not one.name.startswith(".")]
    folders, files = [], []
    for one in visible[:_MOST]:
        found = {"name": printable(one.name), "path": one.path}
        with contextlib.suppress(OSError):  # a link that leads nowhere, a file that is just being taken away
            if one.is_dir():
                folders.append(found)
            elif one.is_file():
                files.append({**found, "bytes": one.stat().st_size})
    return {"path": str(place), "folders": folders, "files": files, "more": max(0, len(visible) - _MOST)}


def _place(work: Work, path: str) -> Path:
    """Where a file that is brought goes: under ``uploads``, in the folders that its name says, each made safe and made.

    Raises:
        Refused: if no name is left of it, or a file stands where a folder should, or a folder where a file should.
    """
    parts = [safe_name(part) for part in path[:10_000].replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts or not all(parts) or len(parts) > 12:
        raise Refused(400, say("'{name}' cannot be the name of a file here. Rename it, and bring it again.", name=printable(path[:300])))
    place = work.uploads.joinpath(*parts)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Refused(409, say("{file} was not taken: a file has the name of its folder.", file=printable(path))) from None
    except OSError as error:
        raise Refused(507, say("{file} was not taken: {error}.", file=printable(path), error=why(error))) from None
    if place.is_dir() or not place.parent.resolve().is_relative_to(work.folder.resolve()):  # a link that somebody put there
        raise Refused(409, say("{file} was not taken: a folder has its name.", file=printable(path)))
    return place


def _take(aside: Path, place: Path, path: str) -> None:
    """Gives a file that came whole its name.

    Raises:
        Refused: if another file has it.
    """
    try:
        os.link(aside, place)  # unlike a renaming it never replaces
        return
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not place.exists():
            os.replace(aside, place)
            return
    if not (place.is_file() and filecmp.cmp(aside, place, shallow=False)):
        text = say(
            "{file} is there already with other contents, and nothing that was brought is written over. Give the new one another name, or "
            "begin a new work with it.",
            file=printable(path),
        )
        raise Refused(409, text)


def _files(folder: Path) -> list[tuple[Path, int]]:
    """Those below a folder with their bytes."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            with contextlib.suppress(OSError):
                if not name.startswith("."):
                    found.append((Path(place, name), os.stat(os.path.join(place, name)).st_size))
    return found


def _too_large(path: str, most: int) -> Refused:
    text = say("{file} is larger than {n} MB. Start the studio with a larger --max-upload, or with --allow and the file's folder.",
               file=printable(path), n=most // 1_000_000)  # fmt: skip
    return Refused(413, text)
