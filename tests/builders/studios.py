# SPDX-License-Identifier: Apache-2.0
"""A studio without a process: its application, asked directly."""

from __future__ import annotations

import asyncio

import httpx
from loraforge_studio.app import create_app
from loraforge_studio.gate import MARK
from loraforge_studio.studio import Studio
from loraforge_studio.work.folders import Folders

HOST = "127.0.0.1:8060"


class Quick:
    """``studio`` and its ``app``; ``ask`` is a browser that was let in, ``stranger`` one that was not."""

    def __init__(self, home, allowed=(), upload=2_000_000_000) -> None:
        self.studio = Studio(Folders(home, allowed), "en", upload)
        self.studio.hosts, self.studio.address = (HOST, "localhost:8060"), f"http://{HOST}"
        self.app = create_app(self.studio)
        self.cookie = {"Cookie": f"loraforge_studio_8060={self.studio.access.mark('cookie')}"}
        self.mark = {MARK: self.studio.access.mark("csrf")}

    def ask(self, method, path, **options):
        """With cookie and mark."""
        return self.stranger(method, path, **{**options, "headers": {**self.cookie, **self.mark, **options.get("headers", {})}})

    def stranger(self, method, path, headers=(), **options):
        """With these headers and no other."""

        async def asked():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=self.studio.address) as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(asked())

    def work(self, name="w"):
        """A new work."""
        return self.studio.folders.new(name)
