# SPDX-License-Identifier: Apache-2.0
"""What computes answers: torch, llama.cpp or vLLM behind one interface, so that the rest of the server does not know which."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from loraforge import ChatFormat

    from ..versions import Version


@dataclass(frozen=True)
class Job:
    """One answer that is wanted.

    Attributes:
        prompt: token ids.
        version: the adapter that answers; None: the base alone.
        chat: how it is spoken with.
        max_tokens: the longest answer.
        temperature: 0 always takes the likeliest token.
        seed: equal jobs with equal seeds have equal answers.
    """

    prompt: tuple[int, ...]
    version: Version | None
    chat: ChatFormat
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: what comes next; may be empty.
        tokens: how many tokens were made since the piece before, the one that ends the answer included.
        finish: with the last piece why it is the last: ``stop`` or ``length``.
    """

    text: str
    tokens: int = 1
    finish: str | None = None


class Backend(Protocol):
    """Answers with one base and the adapters on it.

    Attributes:
        name: ``torch``, ``gguf`` or ``vllm``.
        longest: how many tokens question and answer may have together here; None: as many as the base reads.
    """

    name: str
    longest: int | None

    def add(self, version: Version) -> None:
        """Loads an adapter beside the others, while they answer. Blocks.

        Raises:
            LoraForgeError: if it cannot be used; nothing has changed then.
        """

    def remove(self, version: Version) -> None:
        """Takes an adapter that nobody asks any more out of memory."""

    def answer(self, job: Job) -> AsyncGenerator[Piece, None]:
        """The answer as it is made. To close the iterator ends the work."""

    def close(self) -> None:
        """Ends what was started."""
