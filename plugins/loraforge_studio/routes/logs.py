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
from ..work.curve import Curves, identity
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
    async def log(name: str, run: str, request: Request, log: str = "", offset: int = 0) -> StreamingResponse:
        """``events``, a list of what was added; the id is which log that is and how many of its bytes the page knows, so that it goes on
        after a pause. ``anew``: another log has taken the place of ``log``; ask for the curve again."""
        file = await to_thread.run_sync(run_of, name, run) / "log.jsonl"
        known, _, place = request.headers.get("last-event-id", "").partition("-")
        if place.isdigit():
            log, offset = known, int(place)
        return streamed(_followed(file, log, max(0, offset), request))

    return made


async def _followed(file: Path, log: str, offset: int, request: Request) -> AsyncIterator[str]:
    quiet = 0.0
    while not await request.is_disconnected():
        found, size = await to_thread.run_sync(_looked_at, file)
        if found and not log:
            log = found
        if log and (found != log or size < offset):
            yield event("anew", {}, f"{found}-0")
            return
        if size > offset:
            lines, offset = await to_thread.run_sync(_added, file, offset)
            if lines:
                quiet = 0.0
                yield event("events", lines, f"{log}-{offset}")
                continue
        quiet += _PAUSE
        if quiet > 15:
            quiet = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(_PAUSE)


def _looked_at(file: Path) -> tuple[str, int]:
    """Which log it is, and its bytes; ("", 0) while there is none."""
    try:
        return identity(file), file.stat().st_size
    except OSError:
        return "", 0


def _added(file: Path, offset: int) -> tuple[list[Any], int]:
    """The whole lines after ``offset``, and where they end."""
    try:
        with file.open("rb") as data:
            data.seek(offset)
            read = data.read(_MOST)
            whole, mark, _ = read.rpartition(b"\n")
            if not mark and len(read) == _MOST:
                return [], offset + _MOST  # no line of ours is as long
    except OSError:
        return [], offset
    found = []
    for line in whole.split(b"\n") if mark else ():
        try:
            found.append(json.loads(line, parse_constant=lambda _: None))  # a browser knows no NaN
        except ValueError:
            continue
    return found, offset + (len(whole) + 1 if mark else 0)
