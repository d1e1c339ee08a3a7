# SPDX-License-Identifier: Apache-2.0
"""The model families sd15, sd2 and sdxl."""

from __future__ import annotations

from loraforge import ModelFamily


def families() -> list[ModelFamily]:
    """All three."""
    from .sd2 import SD2
    from .sd15 import SD15
    from .sdxl import SDXL

    return [SD15(), SD2(), SDXL()]
