# SPDX-License-Identifier: Apache-2.0
"""GET / and /assets/NAME, the page; POST /feedback. The page itself needs no token: it asks for one, and all that it fetches needs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loraforge import LoraForgeError, __version__, speaker

from ..feedback import Feedback, FeedbackFile
from ..problems import RequestError
from ..routes.reading import client_of, read_json
from ..server import Server

say = speaker(__name__)

# Nothing from elsewhere, nothing inline; and no text becomes markup, whatever a script tries: no policy may make trusted HTML.
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
))  # fmt: skip
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
_KINDS = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page_router(server: Server) -> APIRouter:
    """The page and where its thumbs go."""
    router = APIRouter()
    files = _files({"feedback": server.feedback is not None, "version": __version__})

    async def handed_out(request: Request) -> Response:
        found = files.get(request.path_params.get("name", "index.html"))
        if found is None:
            raise RequestError(
                404, say("there is nothing at {method} {path}.", method=request.method, path=request.url.path), "unknown_url"
            )
        kind, data, tag = found
        headers = {**HEADERS, "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=kind)

    if server.page:
        router.add_api_route("/", handed_out, include_in_schema=False)
        router.add_api_route("/assets/{name}", handed_out, include_in_schema=False)

    @router.post("/feedback")
    async def feedback(request: Request) -> Response:
        body = await read_json(request)
        if server.feedback is None:
            raise RequestError(404, say("this server keeps no feedback: it was started without --feedback."), "no_feedback")
        try:
            row = Feedback.model_validate(body).row(client_of(request))
        except ValidationError as error:
            raise RequestError(422, _reasons(error), "invalid_feedback") from None
        try:
            await to_thread.run_sync(FeedbackFile(server.feedback).add, row)
        except LoraForgeError as error:
            raise RequestError(507, str(error), "feedback_not_kept") from None
        return JSONResponse({"kept": True, "learned": bool(row["weight"])}, 201)

    return router


def _files(settings: Mapping[str, Any]) -> dict[str, tuple[str, bytes, str]]:
    """(media type, bytes, entity tag) of everything that is handed out, by name: a name that is asked for never becomes a path."""
    folder = resources.files(__package__).joinpath("assets")
    found = {one.name: (_KINDS[one.name[one.name.rindex(".") :]], one.read_bytes()) for one in folder.iterdir()}
    found["settings.json"] = ("application/json", json.dumps(dict(settings)).encode())
    return {name: (kind, data, f'"{hashlib.sha256(data).hexdigest()[:16]}"') for name, (kind, data) in found.items()}


def _reasons(error: ValidationError) -> str:
    """What is wrong with the feedback, in one line."""
    told = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(map(str, one["loc"]))
        told.append(": ".join(part for part in (where, one["msg"].removeprefix("Value error, ")) if part))
    return "; ".join(told)
