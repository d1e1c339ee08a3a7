# SPDX-License-Identifier: Apache-2.0
"""What every request passes before a route sees it: Host, Origin, the cookie, and the mark of the page itself."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loraforge import show, speaker

from .page.files import HEADERS, closed_page
from .problems import Refused
from .studio import Studio

say = speaker(__name__)

COOKIE = "loraforge_studio"
MARK = "x-loraforge-studio"
"""The header that a request needs which changes something: no page of a stranger can send it."""


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self._app, self._studio = app, studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                had = {name for name, _ in message["headers"]}
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *(pair for pair in extra if pair[0] not in had)]}
            await send(message)

        try:
            answer = self._check(scope, Headers(scope=scope))
        except Refused as error:
            answer = JSONResponse(error.body, error.status)
        await (answer or self._app)(scope, receive, guarded)

    def _check(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered in place of the route; None lets the request pass.

        Raises:
            Refused: if it is not let in.
        """
        host, access = headers.get("host", "").lower(), self._studio.access
        if host not in self._studio.hosts:
            raise Refused(421, say("this studio is not called '{host}'.", host=host))
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc.lower() != host:
            raise Refused(403, say("a page of {origin} may not ask this studio.", origin=origin))
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and scope["path"] != "/":
            raise Refused(403, say("a page of {origin} may not ask this studio.", origin=say("somewhere else")))
        path, query = str(scope["path"]), scope.get("query_string", b"").decode("latin-1")
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie_name, "")
        known = access.knows("cookie", cookie)
        if path == "/" and query.startswith("token="):
            if not access.enter(query.removeprefix("token=")):
                return RedirectResponse("/", 303) if known else closed_page(wrong=True)
            if self._studio.address:
                show(say("For another browser: {url}", url=f"{self._studio.address}/?token={access.token}"))
            entered = RedirectResponse("/", 303)
            entered.set_cookie(self.cookie_name, access.mark("cookie"), max_age=30 * 86400, httponly=True, samesite="strict")
            return entered
        if not known:
            if path == "/":
                return closed_page(wrong=False)
            if not path.startswith("/assets/"):
                raise Refused(401, say("this browser was not let in, or no longer. Open the address that the terminal shows."))
        if scope["method"] not in ("GET", "HEAD") and not access.knows("csrf", headers.get(MARK, "")):
            raise Refused(403, say("this request does not come from the studio's page. Load the page again."))
        return None

    @property
    def cookie_name(self) -> str:
        """Cookies do not know ports, and two studios may run."""
        return f"{COOKIE}_{self._studio.hosts[0].rpartition(':')[2]}" if self._studio.hosts else COOKIE
