# SPDX-License-Identifier: Apache-2.0
"""What routes share: the body of a request, and who sent it."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from loraforge import speaker, why

from ..problems import RequestError

say = speaker(__name__)


async def read_json(request: Request) -> Any:
    """The request's JSON.

    Raises:
        RequestError: if it is none, or the body is no JSON by its header, which keeps pages of strangers from posting from a browser.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError(415, say("send JSON, with the header Content-Type: application/json."), "unsupported_media_type")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(400, say("the request is no JSON: {error}.", error=why(error)), "invalid_json") from None


def client_of(request: Request) -> str:
    """The name of the token that was shown; the address where none is needed."""
    name = request.scope.get("state", {}).get("client")
    return str(name or (request.client.host if request.client else "-"))
