# SPDX-License-Identifier: Apache-2.0
"""Long commands: what became of them, what they print, and stopping them."""

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

_PAUSE = 0.4  # seconds between two looks at a file


def router(studio: Studio) -> APIRouter:
    """/api/jobs, /api/works/NAME/jobs/ID."""
    made = APIRouter(prefix="/api")

    @made.get("/jobs")
    def running() -> list[dict[str, Any]]:
        return [job.as_json() for job in studio.jobs.all() if job.state == "running"]

    @made.get("/works/{name}/jobs/{id}")
    def one(name: str, id: str) -> dict[str, Any]:
        job = studio.jobs.find(studio.folders.work(name), id)
        return {**job.as_json(), "lines": job.lines()}

    @made.post("/works/{name}/jobs/{id}/stop")
    def stop(name: str, id: str, now: bool = False) -> dict[str, Any]:
        """It saves what it has and ends; with ``now`` it only ends."""
        job = studio.jobs.find(studio.folders.work(name), id)
        job.stop(now=now)
        return job.as_json()

    @made.get("/works/{name}/jobs/{id}/events")
    async def events(name: str, id: str, request: Request) -> StreamingResponse:
        """``lines`` when it prints something, ``job`` when its state changes; ends with the job."""
        job = await to_thread.run_sync(lambda: studio.jobs.find(studio.folders.work(name), id))

        async def told() -> AsyncIterator[str]:
            last: Any = None
            size = -1
            while not await request.is_disconnected():
                now = await to_thread.run_sync(_size, job.folder / "err.txt")
                if now != size:
                    size = now
                    yield event("lines", await to_thread.run_sync(job.lines))
                state = await to_thread.run_sync(lambda: job.state)
                if (state, job.stopping) != last:
                    last = (state, job.stopping)
                    yield event("job", await to_thread.run_sync(job.as_json))
                if state != "running":
                    return
                await asyncio.sleep(_PAUSE)

        return streamed(told())

    return made


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def as_json(value: Any) -> str:
    """JSON that a browser reads: what is no number (a loss that went astray) is null."""
    try:
        return json.dumps(value, separators=(",", ":"), default=str, allow_nan=False)
    except ValueError:
        plain = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
        return json.dumps(plain, separators=(",", ":"))


def event(name: str, value: Any, id: str = "") -> str:
    """One server-sent event."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {name}\ndata: {as_json(value)}\n\n"


def streamed(parts: AsyncIterator[str]) -> StreamingResponse:
    """Server-sent events; https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    return StreamingResponse(parts, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
