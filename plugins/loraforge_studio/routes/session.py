# SPDX-License-Identifier: Apache-2.0
"""Who is here, and in which language."""

from __future__ import annotations

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
        studio.speak(wanted.language)
        return {"language": studio.language}

    return made
