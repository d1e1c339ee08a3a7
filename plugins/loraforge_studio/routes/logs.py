# SPDX-License-Identifier: Apache-2.0
"""A run while it runs: its curve, and every event of its log from a place on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ..studio import Studio
from ..work.curve import Curves
from .jobs import event, streamed

_PAUSE = 0.4  # seconds between two looks at the file
_MOST = 1 << 20  # bytes of a log in one event


def router(studio: Studio) -> APIRouter:
    """GET /api/works/NAME/curve and /api/works/NAME/log, ``run``: the folder of the run."""
    made = APIRouter(prefix="/api/works")
    curves = Curves()

    def run_of(name: str, run: str) -> Path:
        return studio.folders.inside(run, studio.folders.work(name))

    @made.get("/{name}/curve")
    def curve(name: str, run: str, points: int = 1500) -> dict[str, Any]:
        return curves.of(run_of(name, run)).as_json(min(max(points, 10), 5000))

    @made.get("/{name}/log")
    async def log(name: str, run: str, request: Request, offset: int = 0) -> StreamingResponse:
        """``events``, a list of what was added; the id is how many bytes of the log the page knows, so that it goes on after a pause.
        ``anew``: another log has taken its place."""
        file = await to_thread.run_sync(run_of, name, run) / "log.jsonl"
        known = request.headers.get("last-event-id", "")
        begin = int(known) if known.isdigit() else max(0, offset)
        return streamed(_followed(file, begin, request))

    return made


async def _followed(file: Path, offset: int, request: Request) -> AsyncIterator[str]:
    node: int | None = None
    quiet = 0.0
    while not await request.is_disconnected():
        try:
            found = file.stat()
        except OSError:
            found = None
        if found is not None and ((node is not None and found.st_ino != node) or found.st_size < offset):
            offset, node = 0, found.st_ino
            yield event("anew", {}, "0")
        if found is not None and found.st_size > offset:
            node = found.st_ino
            lines, offset = await to_thread.run_sync(_added, file, offset)
            if lines:
                quiet = 0.0
                yield event("events", lines, str(offset))
                continue
        quiet += _PAUSE
        if quiet > 15:
            quiet = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(_PAUSE)


def _added(file: Path, offset: int) -> tuple[list[Any], int]:
    """The whole lines after ``offset``, and where they end."""
    try:
        with file.open("rb") as data:
            data.seek(offset)
            whole, mark, _ = data.read(_MOST).rpartition(b"\n")
            if not mark and data.tell() - offset >= _MOST:
                return [], offset + _MOST  # no line of ours is as long
    except OSError:
        return [], offset
    found = []
    for line in whole.split(b"\n") if mark else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found, offset + (len(whole) + 1 if mark else 0)
