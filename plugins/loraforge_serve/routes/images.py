"""POST /v1/images/generations."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request

from loraforge import speaker

from ..asked import ImageRequest, parse
from ..problems import RequestError
from ..server import Server
from ..versions import Version
from .reading import client_of, read_json

say = speaker(__name__)


def images_router(server: Server) -> APIRouter:
    """Pictures."""
    router = APIRouter()

    @router.post("/v1/images/generations")
    async def generations(request: Request) -> dict[str, Any]:
        body = await read_json(request)
        asked: ImageRequest = parse(ImageRequest, body)
        if asked.response_format not in (None, "b64_json"):
            raise RequestError(400, say("pictures come as b64_json; no addresses are given out."), "unsupported_response_format")
        with server.library.lent(asked.model or _only(server)) as version, server.admission.admitted():
            if version.chat is not None or server.painter is None:
                raise RequestError(400, say("'{name}' answers with text: ask it at /v1/chat/completions.", name=version.name), "wrong_kind")
            seed = asked.seed if asked.seed is not None else secrets.randbits(31)
            settings = {"seed": seed, "size": asked.size, "negative": asked.negative_prompt, "steps": asked.steps}
            given = {key: value for key, value in settings.items() if value is not None}
            painter, prompts = server.painter, [asked.prompt] * (asked.n or 1)
            made = await to_thread.run_sync(lambda: painter.draw(version, asked.adapters, prompts, given))
            if server.audit is not None:
                server.audit.answered(client_of(request), version, {"pictures": len(made)}, True, body)
            data = [{"b64_json": base64.b64encode(png).decode("ascii"), "seed": seed + number} for number, png in enumerate(made)]
            return {"created": int(time.time()), "data": data, "system_fingerprint": version.fingerprint}

    return router


def _only(server: Server) -> str:
    """The image run that is meant where none is named."""
    found: list[Version] = [version for version in server.library.versions() if version.chat is None]
    if len(found) != 1:
        names = ", ".join(version.name for version in found)
        raise RequestError(400, say("name the model that is to draw: {names}.", names=names or "-"), "model_needed")
    return found[0].name
