# SPDX-License-Identifier: Apache-2.0
"""Questions to a server of models that someone runs, without a proxy and without following where it points."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from loraforge import RunError, speaker, why

say = speaker(__name__)

_SECONDS, _ANSWERING = 30, 600  # what is generated takes longer, on a slow machine that loads the model first
_UNKNOWN = (404, 405, 501)


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


class Refused(RunError):
    """A server answered with an error.

    Attributes:
        code: of HTTP.
        text: what it said of it.
    """

    def __init__(self, message: str, code: int, text: str) -> None:
        super().__init__(message)
        self.code, self.text = code, text


class ServerClient:
    """A server at one address.

    Args:
        root: without ``/v1``.
        token: what it wants to know who asks by; None if it asks nobody.
    """

    def __init__(self, root: str, token: str | None = None) -> None:
        self.root, self._token = root, token

    def get(self, path: str) -> Any:
        """The JSON value at ``path``; an empty object if there is no such address."""
        return self._send(path, None, True, _SECONDS)

    def post(self, path: str, value: Mapping[str, Any], *, missing: bool = False, answering: bool = False) -> dict[str, Any]:
        """The JSON object that ``path`` answers; empty if there is no such address and ``missing`` allows that.

        Args:
            answering: it writes an answer, which takes its time.

        Raises:
            RunError: if nothing answers there, or something that is no server of models.
            Refused: if it answers with an error.
        """
        answer = self._send(path, json.dumps(value).encode(), missing, _ANSWERING if answering else _SECONDS)
        return answer if isinstance(answer, dict) else {}

    def _send(self, path: str, body: bytes | None, missing: bool, seconds: float) -> Any:
        url = f"{self.root}{path}"
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        # No proxy: what is meant is the server that was named, usually on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        try:
            request = urllib.request.Request(url, body, headers)
            with opener.open(request, timeout=seconds) as response:
                return json.loads(response.read(16_000_000))
        except urllib.error.HTTPError as error:
            if missing and error.code in _UNKNOWN:
                return {}
            raise _refused(url, error, bool(self._token)) from None
        except TimeoutError:
            raise RunError(
                say("{url} has not answered within {seconds:g} seconds. Is it still loading?", url=url, seconds=seconds)
            ) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                raise RunError(say("nothing answers at {url}. Does the server run, and at this port?", url=self.root)) from None
            reason = _plain(str(error.reason))
            raise RunError(say("{url} cannot be reached: {error}.", url=self.root, error=reason)) from None
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            text = _plain(why(error))
            raise RunError(say("{url} does not answer as a server of models does: {error}.", url=url, error=text)) from None


def _refused(url: str, error: urllib.error.HTTPError, with_token: bool) -> Refused:
    text = _said(error)
    if error.code in (401, 403) and with_token:
        message = say("{url} does not know this token ({code}). Ask whoever runs the server for yours.", url=url, code=error.code)
    elif error.code in (401, 403):
        message = say("{url} wants to know who asks ({code}): give the file with your token, --token-file FILE.", url=url, code=error.code)
    else:
        message = say("{url} answers {code}: {text}", url=url, code=error.code, text=text)
    return Refused(message, error.code, text)


def _said(error: urllib.error.HTTPError) -> str:
    """The beginning of what a server says of an error; empty if it breaks off."""
    try:
        return _plain(error.read(300).decode("utf-8", "replace").strip())
    except (OSError, ValueError, http.client.HTTPException):
        return ""


def _plain(text: str) -> str:
    """Without what a terminal would obey: it comes from a stranger's server."""
    return "".join(c if c.isprintable() else " " for c in text[:300])
