# SPDX-License-Identifier: Apache-2.0
"""An answer that is computed while it is sent, and no longer than somebody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from loraforge import LoraForgeError, speaker

from ..problems import RequestError, error_body
from ..server import Server

say = speaker(__name__)
log = logging.getLogger("loraforge.serve")

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Answered(Response):
    """Admits the request, computes its answer, and stops when the client leaves or the time is up.

    Args:
        events: the JSON objects of the answer; the first is computed before anything is sent, so that what fails by then has its status.
        stream: as server-sent events; otherwise the last object alone is the answer.
        headers: to be sent along.
        ended: called with whether the client was there to the end.
    """

    def __init__(
        self,
        server: Server,
        events: AsyncGenerator[Mapping[str, Any], None],
        stream: bool,
        headers: Mapping[str, str],
        ended: Callable[[bool], None],
    ) -> None:
        super().__init__(headers={**_HEADERS, **headers})
        self._server, self._events, self._stream, self._own, self._ended = server, events, stream, dict(headers), ended
        self._why = _too_slow(server.limits.seconds)  # what a stream that is broken off tells

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = False
        try:
            with self._server.admission.admitted():
                whole = await self._watched(receive, self._streamed(send) if self._stream else self._whole(scope, receive, send))
        finally:
            await self._events.aclose()
            self._ended(whole)

    async def _watched(self, receive: Receive, sent: Awaitable[None]) -> bool:
        """Waits for ``sent``, for the client to leave, or for the end of the time; whether it was sent.

        Raises:
            RequestError: if the time is up (504), or what ``sent`` raises.
        """
        work, leaves = asyncio.ensure_future(sent), asyncio.ensure_future(_gone(receive))
        try:
            try:
                await asyncio.wait({work, leaves}, timeout=self._server.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:  # the server is told to end, and has waited for its answers
                self._why = ending()
                raise
            if work.done():
                work.result()
                return True
            if leaves.done():
                return False
            work.cancel()  # what has begun to be sent tells the reason itself
            with contextlib.suppress(asyncio.CancelledError):
                await work
                return False
            raise self._why
        finally:
            for task in (work, leaves):
                task.cancel()
            await asyncio.gather(work, leaves, return_exceptions=True)

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        last: Mapping[str, Any] = {}
        async for event in self._events:
            last = event
        await JSONResponse(last, headers=self._own)(scope, receive, send)

    async def _streamed(self, send: Send) -> None:
        first = await anext(self._events, None)
        raw = [(b"content-type", b"text/event-stream; charset=utf-8")]
        raw += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in {**_HEADERS, **self._own}.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        try:
            if first is not None:
                await send(_event(first))
                async for event in self._events:
                    await send(_event(event))
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # whoever left hears nothing of it
                await send(_event(self._why.body))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except Exception as error:  # the status has been sent: the stream itself says that it ends too soon
            await send(_event(_body_of(error)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(value: Mapping[str, Any]) -> dict[str, Any]:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode("utf-8", "backslashreplace"), "more_body": True}


def _body_of(error: Exception) -> dict[str, Any]:
    if isinstance(error, RequestError):
        return error.body
    if isinstance(error, LoraForgeError):
        return error_body(500, str(error), "failed")
    log.error("an answer broke off", exc_info=error)
    return error_body(500, say("the server has failed; its log says how."), "internal_error")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_slow(seconds: float) -> RequestError:
    text = say("the answer was not done after {n} seconds. Ask for a shorter one (max_tokens).", n=f"{seconds:g}")
    return RequestError(504, text, "timeout")


def ending() -> RequestError:
    """What is said of an answer that was not done when the server had to end."""
    return RequestError(
        503, say("the server is being ended; the answer was not done. Ask again in a moment."), "server_ends", {"Retry-After": "5"}
    )
