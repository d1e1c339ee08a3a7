"""Questions to a server of models that someone runs, without a proxy and without following where it points."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from loraforge import RunError, speaker

say = speaker(__name__)

_SECONDS = 30


def is_address(url: str) -> bool:
    """Whether a server can be meant."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a bracket that is not closed, a port that is no number
        return False


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: questions of the data go to the server that was named and to no other."""

    def redirect_request(self, *given: Any, **named: Any) -> None:
        return None


def post(url: str, value: Mapping[str, Any], *, missing: bool = False) -> dict[str, Any]:
    """The JSON object that ``url`` answers; empty if there is no such address and ``missing`` allows that."""
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    # No proxy: what is meant is the server that was named, usually on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
    try:
        with opener.open(request, timeout=_SECONDS) as response:
            answer = json.loads(response.read(16_000_000))
    except urllib.error.HTTPError as error:
        if missing and error.code in (404, 405, 501):
            return {}
        raise RunError(say("{url} answers {code}: {text}", url=url, code=error.code, text=_said(error))) from None
    except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
        text = _plain(str(error) or type(error).__name__)
        raise RunError(say("{url} does not answer as a server of models does: {error}.", url=url, error=text)) from None
    return answer if isinstance(answer, dict) else {}


def _said(error: urllib.error.HTTPError) -> str:
    """The beginning of what a server says of an error; empty if it breaks off."""
    try:
        return _plain(error.read(300).decode("utf-8", "replace").strip())
    except (OSError, ValueError, http.client.HTTPException):
        return ""


def _plain(text: str) -> str:
    """Without what a terminal would obey: it comes from a stranger's server."""
    return "".join(c if c.isprintable() else " " for c in text[:300])
