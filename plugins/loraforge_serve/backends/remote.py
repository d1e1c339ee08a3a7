# SPDX-License-Identifier: Apache-2.0
"""Another server on this machine or elsewhere, asked for completions that come piece by piece."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from loraforge import MachineError, speaker, why

say = speaker(__name__)


async def events(url: str, body: Mapping[str, Any], key: str | None, seconds: float = 600.0) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of a stream of server-sent events. Closing it closes the connection, which ends the work over there.

    Raises:
        MachineError: if the other server does not answer, or answers with an error.
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Timeout(seconds, connect=10.0)
    try:
        # No proxy, and not where it points: what is meant is the server that was named.
        async with (
            httpx.AsyncClient(timeout=limits, trust_env=False, follow_redirects=False) as client,
            client.stream("POST", url, json=dict(body), headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise _failed(url, (await answer.aread()).decode("utf-8", "replace"))
            async for line in answer.aiter_lines():
                data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if data == "[DONE]":
                    return
                if data:
                    event = json.loads(data)
                    if "error" in event:
                        raise _failed(url, json.dumps(event["error"], ensure_ascii=False))
                    yield event
    except (httpx.HTTPError, ValueError) as error:
        raise _failed(url, why(error)) from None


def _failed(url: str, text: str) -> MachineError:
    return MachineError(say("the model behind this server ({url}) fails: {text}", url=url, text=text[:500]))
