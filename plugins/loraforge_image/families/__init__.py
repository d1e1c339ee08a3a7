# SPDX-License-Identifier: Apache-2.0
"""Image models: the seam behind which every family stands, and what is trained, drawn and kept on this side of it.

A family is an ``ImageFamily`` (what it is, found without torch) with an ``ImageBase`` (a loaded base: latents, conditioning, denoiser,
objective). Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dit.family import TransformerFamily
    from .dit.single_file import Layout
    from .image_base import Conditioning, Framing, ImageBase
    from .image_family import ImageFamily
    from .objectives import Diffusion, FlowMatching, Objective
    from .webui_format import WebuiFormat, WebuiTable

_HOME = {
    "Conditioning": "image_base",
    "Diffusion": "objectives",
    "FlowMatching": "objectives",
    "Framing": "image_base",
    "ImageBase": "image_base",
    "ImageFamily": "image_family",
    "Layout": "dit.single_file",
    "Objective": "objectives",
    "TransformerFamily": "dit.family",
    "WebuiFormat": "webui_format",
    "WebuiTable": "webui_format",
}

__all__ = [
    "Conditioning",
    "Diffusion",
    "FlowMatching",
    "Framing",
    "ImageBase",
    "ImageFamily",
    "Layout",
    "Objective",
    "TransformerFamily",
    "WebuiFormat",
    "WebuiTable",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}")
