# SPDX-License-Identifier: Apache-2.0
"""POST /v1/images/generations."""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from loraforge import speaker

from ..asked import ImageRequest, parse, unused_header
from ..images import Painter
from ..problems import RequestError
from ..server import Server
from ..versions import Version
from .reading import client_of, read_json
from .responding import Answered

say = speaker(__name__)

LONGEST = 2048  # pixels: what the bases that are trained here draw at most


def images_router(server: Server) -> APIRouter:
    """Pictures."""
    router = APIRouter()
    turn = CapacityLimiter(1)  # those that wait hold no thread, of which text needs some

    @router.post("/v1/images/generations")
    async def generations(request: Request) -> Response:
        body = await read_json(request)
        asked: ImageRequest = parse(ImageRequest, body)
        if asked.response_format not in (None, "b64_json"):
            raise RequestError(400, say("pictures come as b64_json; no addresses are given out."), "unsupported_response_format")
        _require_drawable(asked.size)
        with contextlib.ExitStack() as held:
            version = held.enter_context(server.library.lent(asked.model or _only(server)))
            if version.chat is not None or server.painter is None:
                raise RequestError(400, say("'{name}' answers with text: ask it at /v1/chat/completions.", name=version.name), "wrong_kind")
            kept = held.pop_all()

            def ended(whole: bool) -> None:
                kept.close()
                if not whole:
                    server.metrics.left()
                if server.audit is not None:
                    server.audit.answered(client_of(request), version, {"pictures": asked.n or 1}, whole, body)

            headers = {"X-LoRAForge-Version": version.fingerprint, **unused_header(asked, body)}
            return Answered(server, _drawn(server.painter, turn, version, asked), False, headers, ended)

    return router


async def _drawn(painter: Painter, turn: CapacityLimiter, version: Version, asked: ImageRequest) -> AsyncGenerator[Mapping[str, Any], None]:
    """The pictures as one object. Closing it keeps those from being drawn that are not begun."""
    seed = asked.seed if asked.seed is not None else secrets.randbits(31)
    settings = {"seed": seed, "size": asked.size, "negative": asked.negative_prompt, "steps": asked.steps}
    given = {key: value for key, value in settings.items() if value is not None}
    wanted = threading.Event()
    wanted.set()
    try:
        made = await to_thread.run_sync(
            lambda: painter.draw(version, asked.adapters, [asked.prompt] * (asked.n or 1), given, wanted),
            abandon_on_cancel=True,
            limiter=turn,
        )
    finally:
        wanted.clear()
    data = [{"b64_json": base64.b64encode(png).decode("ascii"), "seed": seed + number} for number, png in enumerate(made)]
    yield {"created": int(time.time()), "data": data, "system_fingerprint": version.fingerprint}


def _require_drawable(size: str | None) -> None:
    """
    Raises:
        RequestError: if somebody asks for a picture that no memory holds; the model says itself what else is wrong with a size.
    """
    if size and any(int(side) > LONGEST for side in re.findall(r"\d{1,9}", size)):
        raise RequestError(400, say("a picture has {n} pixels a side at most; '{size}' was asked for.", n=LONGEST, size=size), "too_large")


def _only(server: Server) -> str:
    """The image run that is meant where none is named."""
    found: list[Version] = [version for version in server.library.versions() if version.chat is None]
    if len(found) != 1:
        names = ", ".join(version.name for version in found)
        raise RequestError(400, say("name the model that is to draw: {names}.", names=names or "-"), "model_needed")
    return found[0].name
