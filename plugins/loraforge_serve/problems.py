# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a request, as OpenAI's interface says it: ``{"error": {"message", "type", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RequestError(Exception):
    """A request that is not carried out.

    Args:
        status: of HTTP.
        message: a sentence for whoever asked.
        code: for programs, such as ``model_not_found``.
        headers: to be sent along.
    """

    def __init__(self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return error_body(self.status, self.message, self.code)


_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(status: int, message: str, code: str) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
