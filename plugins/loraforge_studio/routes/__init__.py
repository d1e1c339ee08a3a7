# SPDX-License-Identifier: Apache-2.0
"""What the page can ask, one file for each step of the work."""

from __future__ import annotations

from fastapi import APIRouter

from ..studio import Studio
from . import bringing, handing, jobs, judging, logs, session, shelf, works


def routers(studio: Studio) -> list[APIRouter]:
    """All of them, for one studio."""
    return [part.router(studio) for part in (session, works, bringing, jobs, logs, judging, handing, shelf)]
