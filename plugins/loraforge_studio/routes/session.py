# SPDX-License-Identifier: Apache-2.0
"""Who is here, and in which language."""

from __future__ import annotations

import os
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from loraforge import __version__

from ..studio import Studio


class Language(BaseModel):
    """The language of the page and of all that commands say."""

    language: Literal["en", "zh"]


def router(studio: Studio) -> APIRouter:
    """GET /api/session, POST /api/language."""
    made = APIRouter(prefix="/api")

    @made.get("/session")
    def session() -> dict[str, Any]:
        return {
            "mark": studio.access.mark("csrf"), "language": studio.language, "version": __version__, "folder": str(studio.folders.home),
            "allowed": [str(folder) for folder in studio.folders.allowed], "upload": studio.upload,
        }  # fmt: skip

    @made.post("/language")
    def change(wanted: Language) -> dict[str, Any]:
        studio.language = os.environ["LORAFORGE_LANG"] = wanted.language
        studio.asking.close()
        studio.asking = type(studio.asking)()  # the process that waits has made its words already
        studio.asking.warm()
        return {"language": studio.language}

    return made
