# SPDX-License-Identifier: Apache-2.0
"""A request as it arrives, in OpenAI's words, checked. Fields that mean nothing here are named in a header of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loraforge import speaker

from .problems import RequestError

say = speaker(__name__)


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Part(_Request):
    """A piece of a message; only text can be read here."""

    type: str
    text: str = ""


class ChatMessage(BaseModel):
    """A message; what the template may want besides (``tool_calls``, ``name``) is kept."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None


class StreamOptions(_Request):
    """What a stream tells besides."""

    include_usage: bool = False


class Sampled(_Request):
    """What both kinds of completions share."""

    model: str
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=10)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = 1

    @property
    def stops(self) -> list[str]:
        """The texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def usage_wanted(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Sampled):
    """/v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    tools: list[dict[str, Any]] | None = None

    def conversation(self) -> list[dict[str, Any]]:
        """The messages as the template takes them: texts, no parts.

        Raises:
            RequestError: if one holds something else than text.
        """
        return [plain(message) for message in self.messages]


class CompletionRequest(Sampled):
    """/v1/completions: ``prompt`` is one text, or token ids."""

    prompt: str | list[int] | list[str]
    echo: bool | None = False


class TokenizeRequest(_Request):
    """vLLM's /tokenize."""

    model: str | None = None
    messages: list[ChatMessage] | None = None
    tools: list[dict[str, Any]] | None = None
    prompt: str | None = None


Strength = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]


class ImageRequest(_Request):
    """/v1/images/generations; ``adapters`` are names with strengths."""

    model: str | None = None
    prompt: str = Field(min_length=1)
    n: int | None = Field(default=1, ge=1, le=8)
    seed: int | None = Field(default=None, ge=0, lt=2**32 - 8)
    size: str | None = None
    adapters: dict[str, Strength] | None = None
    negative_prompt: str | None = None
    steps: int | None = Field(default=None, ge=1, le=200)
    response_format: str | None = "b64_json"


class AdapterRequest(_Request):
    """An adapter that is to be served, or to go back to its earlier version."""

    name: str | None = None
    path: str | None = None
    rollback: bool = False


def plain(message: ChatMessage) -> dict[str, Any]:
    """A message as the template takes it: text, no parts.

    Raises:
        RequestError: if it holds something else than text.
    """
    content = message.content
    if isinstance(content, list):
        other = [part.type for part in content if part.type != "text"]
        if other:
            raise RequestError(
                400, say("a message holds {kinds}; this model reads text only.", kinds=", ".join(other)), "unsupported_content"
            )
        content = "".join(part.text for part in content)
    told = message.model_dump(exclude_none=True)
    return {**told, "role": "system" if message.role == "developer" else message.role, "content": content or ""}


def parse(kind: type[Any], body: Any) -> Any:
    """The request in a JSON body.

    Raises:
        RequestError: naming all that is wrong with it.
    """
    if not isinstance(body, Mapping):
        raise RequestError(400, say("the request is no JSON object."), "invalid_json")
    try:
        return kind(**{str(key): value for key, value in body.items()})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise RequestError(400, say("the request cannot be used: {problems}", problems="; ".join(problems)), "invalid_request") from None


# Values that change nothing, of fields that change an answer elsewhere.
_NOTHING: Mapping[str, Sequence[Any]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tool_choice": ("auto", "none"),
    "best_of": (1,),
    "suffix": ("",),
    "add_generation_prompt": (True,),
}
# What tells the server of somebody or something, and never changes an answer.
_TOLD = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"})
_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST = 20  # a header has its limits


def unused(asked: BaseModel, body: Mapping[str, Any]) -> list[str]:
    """The fields of a request that somebody set and that are not carried out."""
    found = [
        name
        for name, value in body.items()
        if name not in type(asked).model_fields and name not in _TOLD and value is not None and value not in _NOTHING.get(name, ())
    ]
    return [name for name in found if _FIELD.fullmatch(name)][:_MOST]


def unused_header(asked: BaseModel, body: Mapping[str, Any]) -> dict[str, str]:
    """The header that names them, if there are any."""
    left = unused(asked, body)
    return {"X-LoRAForge-Unused": ", ".join(left)} if left else {}
