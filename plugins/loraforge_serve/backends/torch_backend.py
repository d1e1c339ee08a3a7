# SPDX-License-Identifier: Apache-2.0
"""The usual backend: the base in torch, on the GPU or the CPU, with all adapters on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from . import Job, Piece

if TYPE_CHECKING:
    from loraforge import ChatFormat

    from ..versions import Version


class TorchBackend:
    """See ``Backend``.

    Args:
        model: the base, from ``ModelFamily.network``.
        chat: the base's.
        most: answers at once in one batch; more wait.
    """

    name = "torch"
    longest: int | None = None

    def __init__(self, model: Any, chat: ChatFormat, most: int = 32) -> None:
        from .batching import Engine

        self._probe = chat.encode("Is it so? 是这样吗？")
        self.engine = Engine(model, most)
        self.engine.verify(self._probe)

    def add(self, version: Version) -> None:
        from loraforge.adapters import lora

        self.engine.load(version.key, lora.read_peft(version.folder), self._probe)

    def remove(self, version: Version) -> None:
        self.engine.unload(version.key)

    async def answer(self, job: Job) -> AsyncGenerator[Piece, None]:
        from .rows import Row

        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Piece | BaseException] = asyncio.Queue()

        def tell(piece: Piece | BaseException) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(told.put_nowait, piece)

        row = Row(job, tell)
        self.engine.submit(row)
        try:
            while True:
                piece = await told.get()
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                if piece.finish:
                    return
        finally:
            row.left = True

    def close(self) -> None:
        self.engine.close()
