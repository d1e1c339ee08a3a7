# SPDX-License-Identifier: Apache-2.0
"""GET /v1/models, /health, /metrics; POST /tokenize."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from loraforge import __version__, speaker

from ..asked import TokenizeRequest, parse, plain
from ..problems import RequestError
from ..server import Server
from ..versions import BASE, Version
from .reading import read_json

say = speaker(__name__)


def models_router(server: Server) -> APIRouter:
    """What there is, and whether it is well."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [entry(version) for version in server.library.versions()]}

    @router.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        with server.library.lent(name) as version:
            return entry(version)

    @router.get("/health")
    async def health() -> dict[str, Any]:
        backend = server.library.backend
        return {"status": "ok", "version": __version__, "backend": backend.name if backend else None, "models": server.library.names()}

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    @router.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        """As vLLM's, which ``loraforge golden`` asks."""
        asked: TokenizeRequest = parse(TokenizeRequest, await read_json(request))
        with server.library.lent(asked.model or _only(server)) as version:
            if version.chat is None:
                raise RequestError(400, say("'{name}' makes pictures, and has no tokens.", name=version.name), "wrong_kind")
            if asked.messages is not None:
                said = [plain(message) for message in asked.messages]
                tokens = await to_thread.run_sync(version.chat.prompt, said, asked.tools or ())
            else:
                tokens = version.chat.encode(asked.prompt or "")
            return {"tokens": list(tokens), "count": len(tokens), "max_model_len": version.chat.longest}

    return router


def _only(server: Server) -> str:
    """The adapter that is meant where none is named: the only one, otherwise the base."""
    names = [name for name in server.library.names() if name != BASE]
    return names[0] if len(names) == 1 else BASE


def entry(version: Version) -> dict[str, Any]:
    """A model as OpenAI lists it, and what is known of it."""
    told = {**version.told, "seal": version.seal, "version": version.fingerprint}
    return {"id": version.name, "object": "model", "created": version.created, "owned_by": "loraforge", "loraforge": told}
