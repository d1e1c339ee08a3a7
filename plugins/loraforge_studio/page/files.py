# SPDX-License-Identifier: Apache-2.0
"""GET / and /assets/...: the page. Nothing in it comes from elsewhere, and nothing is inline."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from loraforge import language, printable, speaker

from ..problems import Refused

say = speaker(__name__)

# No text becomes markup, whatever a script tries: no policy may make trusted HTML.
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:", "connect-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
))  # fmt: skip
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_KINDS = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


def page_router() -> APIRouter:
    """The page."""
    router = APIRouter()

    async def handed_out(request: Request) -> Response:
        name = request.path_params.get("name", "icon.svg" if request.url.path == "/favicon.ico" else "index.html")
        found = assets().get(name)
        if found is None:
            raise Refused(404, say("there is nothing at {path}.", path=printable(request.url.path)))
        kind, data, tag = found
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=kind)

    for path in ("/", "/favicon.ico", "/assets/{name:path}"):
        router.add_api_route(path, handed_out, include_in_schema=False)
    return router


@cache
def assets() -> dict[str, tuple[str, bytes, str]]:
    """(media type, bytes, entity tag) of all that is handed out, by name: a name that is asked for never becomes a path."""
    found = dict(_walk(resources.files(__package__).joinpath("assets"), ""))
    kinds = {name: _KINDS.get(PurePosixPath(name).suffix) for name in found}  # an editor's copy is none of the page
    return {name: (kind, found[name], f'"{hashlib.sha256(found[name]).hexdigest()[:16]}"') for name, kind in kinds.items() if kind}


def _walk(folder: Traversable, before: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for one in folder.iterdir():
        name = f"{before}{one.name}"
        found += _walk(one, f"{name}/") if one.is_dir() else [(name, one.read_bytes())]
    return found


def closed_page(*, wrong: bool) -> Response:
    """For a browser that was not let in."""
    head = say("This address was used already, or is an old one.") if wrong else say("This browser has not been let in yet.")
    text = say(
        "Open the address that stands in the terminal in which the studio was started. It is good for one browser; each time it is used, "
        "a new one is shown there."
    )
    return _bare(f"<p><strong>{html.escape(head)}</strong></p><p>{html.escape(text)}</p>", 401)


def sent_home() -> Response:
    """For a browser that is let in, and comes from a page elsewhere: goes on to the page by itself."""
    return _bare(f'<p><a href="/">{html.escape(say("Open the studio"))}</a></p>', 200, '<meta http-equiv="refresh" content="0;url=/">')


def _bare(text: str, status: int, head: str = "") -> Response:
    body = (
        f'<!doctype html><html lang="{"zh-CN" if language() == "zh" else "en"}"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">{head}'
        f'<title>LoRAForge</title><link rel="stylesheet" href="/assets/studio.css"><link rel="icon" href="/assets/icon.svg">'
        f'<main class="closed"><h1>LoRAForge</h1>{text}</main></html>'
    )
    return Response(body, status, media_type="text/html")
