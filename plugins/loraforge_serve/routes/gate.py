# SPDX-License-Identifier: Apache-2.0
"""What every request passes before a route sees it: host, origin, size, token, rate. Imports starlette when it is imported."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loraforge import speaker

from ..problems import RequestError
from ..server import Server
from .responding import ending

say = speaker(__name__)

_OPEN = ("/", "/health")  # without a token: the page asks for it, and whoever watches the server has none


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, status, begun = str(scope["path"]), 500, False
        route = _shown(path)

        async def watched(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message = {**message, "headers": [*message["headers"], *_SAFE]}
            await send(message)

        try:
            self._check(scope, Headers(scope=scope), path)
            await self._app(scope, self._limited(receive), watched)
        except RequestError as error:
            await JSONResponse(error.body, error.status, headers=error.headers)(scope, receive, watched)
        except asyncio.CancelledError:  # whoever runs the server ends it: no failure to be logged, and a stream has told it already
            if not begun:
                told = ending()
                await JSONResponse(told.body, told.status, headers=told.headers)(scope, receive, watched)
        finally:
            self._server.metrics.request(route, status)

    def _check(self, scope: Scope, headers: Headers, path: str) -> None:
        """
        Raises:
            RequestError: if it is not let in.
        """
        server = self._server
        host = headers.get("host", "")
        if server.hosts and not _is_host(host, server.hosts):
            text = say("this server is not called '{host}'. Whoever runs it can allow the name: --allow-host {host}.", host=_name(host))
            raise RequestError(421, text, "unknown_host")
        origin = headers.get("origin")
        if origin and scope["method"] not in ("GET", "HEAD", "OPTIONS") and not _same(origin, host) and origin not in server.origins:
            text = say("a page of {origin} may not ask this server. Whoever runs it can allow it: --allow-origin {origin}.", origin=origin)
            raise RequestError(403, text, "unknown_origin")
        if int(headers.get("content-length") or 0) > server.limits.body:
            raise _too_large(server.limits.body)
        client = str((scope.get("client") or ("-", 0))[0])
        if server.tokens is not None and path not in _OPEN and not path.startswith("/assets/") and scope["method"] != "OPTIONS":
            kind, _, token = headers.get("authorization", "").partition(" ")
            holder = server.tokens.holder(token.strip()) if kind.lower() == "bearer" else None
            if holder is None:
                text = say("a token is needed: Authorization: Bearer TOKEN. Whoever runs the server gives one.")
                raise RequestError(401, text, "invalid_api_key", {"WWW-Authenticate": "Bearer"})
            if path.startswith("/admin") and not holder.admin:
                raise RequestError(403, say("this token may ask, and not change what is served."), "not_admin")
            client = holder.name
        scope.setdefault("state", {})["client"] = client
        if server.rate is not None and path not in _OPEN and (wait := server.rate.seconds_to_wait(client)):
            text = say("that were {n} requests in a minute. Ask again in {s} seconds.", n=server.rate.per_minute, s=wait)
            raise RequestError(429, text, "rate_limit_exceeded", {"Retry-After": str(wait)})

    def _limited(self, receive: Receive) -> Receive:
        """Counts what a body has that did not say how long it is."""
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body") or b"")
            if got > self._server.limits.body:
                raise _too_large(self._server.limits.body)
            return message

        return counted


_SAFE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_ROUTES = ("/v1/", "/admin/", "/tokenize", "/health", "/metrics", "/feedback")


def _shown(path: str) -> str:
    """A path for the metrics: those of strangers would each be a figure of its own."""
    known = next((route for route in _ROUTES if path.startswith(route)), None)
    if path == "/":
        return path
    return "other" if known is None else "/v1/models" if path.startswith("/v1/models/") else path if path.count("/") < 4 else known


def _too_large(limit: int) -> RequestError:
    return RequestError(413, say("the request is larger than {n} bytes.", n=limit), "request_too_large")


def _name(host: str) -> str:
    """A Host header without its port."""
    return host.rpartition(":")[0] if host.count(":") == 1 else host.partition("]")[0].lstrip("[") if host.startswith("[") else host


def _is_host(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a Host header is a name of this server. No page of a stranger reaches it by an address in figures under a name of its own,
    which is what the check is against (DNS rebinding)."""
    name = _name(host).lower()
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return name in allowed


def _same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
