# SPDX-License-Identifier: Apache-2.0
"""What every request passes before a route sees it: Host, Origin, the cookie, and the mark of the page itself."""

from __future__ import annotations

import contextlib
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loraforge import printable, show, speaker

from .page.files import HEADERS, closed_page, sent_home
from .problems import Refused
from .studio import Studio

say = speaker(__name__)

COOKIE = "loraforge_studio"
MARK = "x-loraforge-studio"
"""The header that a request needs which changes something: no page of a stranger can send it."""
_MOST = 64_000_000  # bytes of a request that brings no file


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self._app, self._studio = app, studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there is none; whoever adds one decides who may come in
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                had = {name for name, _ in message["headers"]}
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *(pair for pair in extra if pair[0] not in had)]}
            await send(message)

        async def heard() -> Message:
            return {"type": "http.disconnect"} if self._studio.closing else await receive()  # ends what has no end of its own

        try:
            answer = self._check(scope, Headers(scope=scope))
        except Refused as error:
            answer = JSONResponse(error.body, error.status)
        scope = _resumed(scope)
        await (answer or self._app)(scope, heard, guarded)

    def _check(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered in place of the route; None lets the request pass.

        Raises:
            Refused: if it is not let in.
        """
        path, access = str(scope["path"]), self._studio.access
        self._from_here(path, headers)
        known = access.knows("cookie", cookie_parser(headers.get("cookie", "")).get(self.cookie_name, ""))
        query = scope.get("query_string", b"").decode("latin-1")
        if path == "/" and query.startswith("token=") and scope["method"] == "GET":
            if access.enter(query.removeprefix("token=")):
                return self._entered(headers)
            return _home(headers) if known else closed_page(wrong=True)
        if not known and path == "/":
            return _home(headers) if _stranger(headers) else closed_page(wrong=False)
        if not known and not path.startswith("/assets/") and path != "/favicon.ico":
            raise Refused(401, say("this browser was not let in, or no longer. Open the address that the terminal shows."))
        if scope["method"] not in ("GET", "HEAD"):
            if not access.knows("csrf", headers.get(MARK, "")):
                raise Refused(403, say("this request does not come from the studio's page. Load the page again."))
            length = headers.get("content-length", "0")
            whole = "transfer-encoding" not in headers and length.isdecimal() and int(length) <= _MOST
            if not path.endswith("/uploads") and not whole:
                raise Refused(413, say("this request is larger than {n} MB.", n=_MOST // 1_000_000))
        return None

    def _from_here(self, path: str, headers: Headers) -> None:
        """
        Raises:
            Refused: if the request calls the studio something else (as after DNS rebinding), or a page from elsewhere makes it.
        """
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._studio.hosts:
            raise Refused(421, say("this studio is not called '{host}'.", host=printable(", ".join(hosts))[:100]))
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in headers.getlist("origin")):
            raise Refused(403, say("a page of {origin} may not ask this studio.", origin=printable(headers["origin"])[:100]))
        if path != "/" and _stranger(headers):
            raise Refused(403, say("a page of {origin} may not ask this studio.", origin=say("somewhere else")))

    def _entered(self, headers: Headers) -> Response:
        access = self._studio.access
        with contextlib.suppress(OSError, ValueError):  # a terminal that is closed
            show(say("For another browser: {url}", url=f"{self._studio.address}/?token={access.token}"))
        entered = _home(headers)
        entered.set_cookie(self.cookie_name, access.mark("cookie"), max_age=30 * 86400, httponly=True, samesite="strict")
        return entered

    @property
    def cookie_name(self) -> str:
        """Cookies do not know ports, and two studios may run."""
        return f"{COOKIE}_{self._studio.address.rpartition(':')[2]}"


def _resumed(scope: Scope) -> Scope:
    """A page that takes up a line of events after a pause has no other way to say what it heard last than the address."""
    asked = scope.get("query_string", b"")[:10_000].decode("latin-1")
    last = parse_qs(asked, errors="replace").get("last-event-id", [""])[0].encode("ascii", "ignore")
    known = any(name == b"last-event-id" for name, _ in scope["headers"])  # of the browser itself, which came later
    return scope if known or not last else {**scope, "headers": [*scope["headers"], (b"last-event-id", last)]}


def _stranger(headers: Headers) -> bool:
    """Whether a page of another site, or another port of this one, makes the request; browsers say so."""
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _home(headers: Headers) -> Response:
    """Leads to the page. Where somebody followed a link from a page elsewhere (a terminal in a browser, say), browsers keep the cookie back
    as long as they are sent on; a page of the studio's own that goes on by itself they trust."""
    return sent_home() if _stranger(headers) else RedirectResponse("/", 303)
