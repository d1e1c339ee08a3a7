# SPDX-License-Identifier: Apache-2.0
"""What the page can ask, one file for each step of the work."""

from __future__ import annotations

from fastapi import APIRouter

from ..studio import Studio
from . import beginning, bringing, choosing, handing, jobs, judging, logs, session, shelf, training, works
from .data import pictures, rows


def routers(studio: Studio) -> list[APIRouter]:
    """All of them, for one studio."""
    parts = (session, works, bringing, beginning, rows, pictures, choosing, training, judging, handing, shelf, jobs, logs)
    return [part.router(studio) for part in parts]
