# SPDX-License-Identifier: Apache-2.0
"""/admin/adapters: what is served changes while it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request

from loraforge import LoraForgeError, speaker

from ..asked import AdapterRequest, parse
from ..problems import RequestError
from ..server import Server
from ..versions import BASE, Version
from .models import entry
from .reading import client_of, read_json

say = speaker(__name__)


def admin_router(server: Server) -> APIRouter:
    """Lists, adds, exchanges, rolls back and takes away."""
    router = APIRouter()

    def note(request: Request, version: Version, what: str) -> None:
        if server.audit is not None:
            server.audit.changed(client_of(request), version, what)

    @router.get("/admin/adapters")
    async def adapters() -> dict[str, Any]:
        found = []
        for version in server.library.versions():
            if version.name != BASE:
                before = server.library.before(version.name)
                found.append({**_told(version), "earlier": _told(before) if before is not None else None})
        problems = dict(server.watcher.problems) if server.watcher is not None else {}
        return {"object": "list", "data": found, "problems": problems}

    @router.post("/admin/adapters")
    async def put(request: Request) -> dict[str, Any]:
        asked: AdapterRequest = parse(AdapterRequest, await read_json(request))
        if asked.rollback:
            if not asked.name or asked.path:
                raise RequestError(400, say('a rollback names what goes back: {"name": "legal", "rollback": true}.'), "invalid_request")
            version = await to_thread.run_sync(server.library.roll_back, asked.name)
            note(request, version, "rolled back")
            return _told(version)
        if not asked.path:
            raise RequestError(
                400,
                say('name the folder: {"path": "output/legal"}, and "name" if it is to be another than the folder has.'),
                "invalid_request",
            )
        if server.source is None:
            raise RequestError(409, say("this server takes no more adapters."), "fixed")
        try:
            version = await to_thread.run_sync(server.source.read, Path(asked.path), asked.name)
            await to_thread.run_sync(server.library.put, version)
        except LoraForgeError as error:  # the folder's fault, so that nobody asks again as after a fault of the server
            raise RequestError(400, str(error), "not_servable") from None
        note(request, version, "added")
        return _told(version)

    @router.delete("/admin/adapters/{name}")
    async def delete(request: Request, name: str) -> dict[str, Any]:
        with server.library.lent(name) as version:
            await to_thread.run_sync(server.library.take_away, name)
            note(request, version, "removed")
        return {"id": name, "object": "model", "deleted": True}

    return router


def _told(version: Version) -> dict[str, Any]:
    return {**entry(version), "path": str(version.path)}
