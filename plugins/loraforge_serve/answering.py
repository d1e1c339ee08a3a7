# SPDX-License-Identifier: Apache-2.0
"""From a checked request to an answer: the prompt, the backend's pieces, stop texts, usage."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loraforge import speaker

from .backends import Job, Piece
from .problems import RequestError
from .stops import StopText

if TYPE_CHECKING:
    from .asked import Sampled
    from .server import Server
    from .versions import Version

say = speaker(__name__)

# llama.cpp takes 32 bits and draws anew at the last of them, vLLM at -1: a seed is the same everywhere, and always one.
_SEEDS = 2**32 - 1
_COLDEST = 1e-5  # logits divided by less leave the numbers of float32; the likeliest word is taken long before


@dataclass
class Answering:
    """One answer while it is given.

    Attributes:
        prompt: token ids of the question.
        tokens: how many the answer has so far.
        finish: why it ended.
    """

    version: Version
    job: Job
    stops: list[str] = field(default_factory=list)
    strip: bool = True
    tokens: int = 0
    finish: str = "stop"

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's count of tokens."""
        prompt = len(self.job.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": self.tokens, "total_tokens": prompt + self.tokens}

    async def pieces(self, server: Server) -> AsyncGenerator[str, None]:
        """The texts of the answer as they come. Closing it ends the work."""
        backend = server.library.backend
        assert backend is not None
        shown = StopText(self.stops, self.strip)
        made: AsyncGenerator[Piece, None] = backend.answer(self.job)
        async with contextlib.aclosing(made):
            async for piece in made:
                self.tokens += piece.tokens
                server.metrics.made(self.version.name, piece.tokens)
                text = shown.push(piece.text)
                if text:
                    yield text
                if shown.stopped:
                    return
                self.finish = piece.finish or self.finish
        if rest := shown.rest():
            yield rest


def prepare(server: Server, version: Version, asked: Sampled, prompt: list[int], strip: bool = True) -> Answering:
    """An answer that can be begun.

    Raises:
        RequestError: if the prompt leaves no room, or the request wants what is not done here.
    """
    assert version.chat is not None
    if asked.n not in (None, 1):
        raise RequestError(400, say("one answer is given to a question (n: 1); {n} were asked for.", n=asked.n), "unsupported_n")
    wanted = asked.max_completion_tokens or asked.max_tokens or server.limits.tokens
    longest = min(wanted, server.limits.tokens)
    backend = server.library.backend
    most = min((one for one in (version.chat.longest, backend.longest if backend else None) if one is not None), default=None)
    if most is not None:
        room = most - len(prompt)
        if room < 1:
            text = say(
                "the conversation has {n} tokens, and this model reads at most {most}. Begin a new one, or shorten the question.",
                n=len(prompt),
                most=most,
            )
            raise RequestError(400, text, "context_length_exceeded")
        longest = min(longest, room)
    if not prompt:
        raise RequestError(400, say("the question is empty."), "empty_prompt")
    seed = secrets.randbits(31) if asked.seed is None else asked.seed % _SEEDS
    temperature = asked.temperature or 0.0
    job = Job(
        tuple(prompt),
        version if version is not server.library.base else None,
        version.chat,
        longest,
        temperature if temperature >= _COLDEST else 0.0,
        asked.top_p or 1.0,
        seed,
    )
    return Answering(version, job, asked.stops, strip)
