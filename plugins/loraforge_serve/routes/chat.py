# SPDX-License-Identifier: Apache-2.0
"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from loraforge import speaker

from ..answering import Answering, prepare
from ..asked import ChatRequest, CompletionRequest, Sampled, parse, unused_header
from ..problems import RequestError
from ..server import Server
from ..versions import Version
from .reading import client_of, read_json
from .responding import Answered

say = speaker(__name__)


def chat_router(server: Server) -> APIRouter:
    """The two kinds of completions."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await read_json(request)
        asked: ChatRequest = parse(ChatRequest, body)
        said = asked.conversation()
        with contextlib.ExitStack() as held:
            version = _speaking(server, held, asked.model)
            assert version.chat is not None
            prompt = await to_thread.run_sync(version.chat.prompt, said, asked.tools or ())
            return _answer(server, request, held, asked, prepare(server, version, asked, prompt), body, "chat.completion")

    @router.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read_json(request)
        asked: CompletionRequest = parse(CompletionRequest, body)
        with contextlib.ExitStack() as held:
            version = _speaking(server, held, asked.model)
            answering = prepare(server, version, asked, _plain_prompt(version, asked), strip=False)
            return _answer(server, request, held, asked, answering, body, "text_completion")

    return router


def _speaking(server: Server, held: contextlib.ExitStack, name: str) -> Version:
    """
    Raises:
        RequestError: if it is not there, or makes pictures.
    """
    version = held.enter_context(server.library.lent(name))
    if version.chat is None:
        raise RequestError(400, say("'{name}' makes pictures: ask it at /v1/images/generations.", name=name), "wrong_kind")
    return version


def _plain_prompt(version: Version, asked: CompletionRequest) -> list[int]:
    assert version.chat is not None
    if asked.echo:
        raise RequestError(400, say("echo is not done here; the prompt is what you sent."), "unsupported_echo")
    prompt = asked.prompt
    if isinstance(prompt, str):
        return version.chat.encode(prompt)
    if all(isinstance(one, int) for one in prompt):
        return version.chat.checked([one for one in prompt if isinstance(one, int)])
    if len(prompt) == 1:
        return version.chat.encode(str(prompt[0]))
    raise RequestError(400, say("one prompt at a time; {n} were sent.", n=len(prompt)), "unsupported_prompts")


def _answer(
    server: Server,
    request: Request,
    held: contextlib.ExitStack,
    asked: Sampled,
    answering: Answering,
    body: Mapping[str, Any],
    kind: str,
) -> Response:
    """The response; what ``held`` holds is let go when it has been sent."""
    begun = time.monotonic()
    kept = held.pop_all()
    version = answering.version
    server.metrics.asked(version.name, len(answering.job.prompt))

    def ended(whole: bool) -> None:
        kept.close()
        server.metrics.answered(version.name, time.monotonic() - begun)
        if not whole:
            server.metrics.left()
        if server.audit is not None:
            server.audit.answered(client_of(request), version, answering.usage, whole, body)

    headers = {"X-LoRAForge-Version": version.fingerprint, **unused_header(asked, body)}
    stream = bool(asked.stream)
    made = _chunks(server, asked, answering, kind) if stream else _one(server, answering, kind)
    return Answered(server, made, stream, headers, ended)


def _head(answering: Answering, kind: str) -> dict[str, Any]:
    start = "chatcmpl" if kind.startswith("chat") else "cmpl"
    version = answering.version
    return {
        "id": f"{start}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": version.name,
        "system_fingerprint": version.fingerprint,
    }


async def _one(server: Server, answering: Answering, kind: str) -> AsyncGenerator[Mapping[str, Any], None]:
    """The whole answer as one object."""
    async with contextlib.aclosing(answering.pieces(server)) as pieces:
        text = "".join([piece async for piece in pieces])
    said = {"message": {"role": "assistant", "content": text}} if kind.startswith("chat") else {"text": text}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": answering.finish}
    yield {**_head(answering, kind), "choices": [choice], "usage": answering.usage}


async def _chunks(server: Server, asked: Sampled, answering: Answering, kind: str) -> AsyncGenerator[Mapping[str, Any], None]:
    """The answer piece by piece, as OpenAI streams it."""
    chat = kind.startswith("chat")
    head = _head(answering, f"{kind}.chunk" if chat else kind)
    extra = {"usage": None} if asked.usage_wanted else {}

    def chunk(text: str, finish: str | None = None, first: bool = False) -> dict[str, Any]:
        delta: dict[str, Any] = {**({"role": "assistant"} if first else {}), **({"content": text} if text or first else {})}
        part: dict[str, Any] = {"delta": delta} if chat else {"text": text}
        return {**head, "choices": [{"index": 0, **part, "logprobs": None, "finish_reason": finish}], **extra}

    begun = False
    async with contextlib.aclosing(answering.pieces(server)) as pieces:
        async for text in pieces:
            yield chunk(text, first=not begun)
            begun = True
    if not begun and chat:
        yield chunk("", first=True)
    yield chunk("", answering.finish)
    if asked.usage_wanted:
        yield {**head, "choices": [], "usage": answering.usage}
