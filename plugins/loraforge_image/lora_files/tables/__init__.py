# SPDX-License-Identifier: Apache-2.0
"""The transformers' layers: for every family the table from the original model's names to diffusers'. Without torch.

The names of the original models are those of their authors' code and weights; every table is tested against diffusers' own converters.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..webui_format import WebuiTable
from .chroma import CHROMA
from .flux1 import FLUX1
from .flux2 import FLUX2
from .qwen_image import QWEN_IMAGE
from .sd3 import SD3
from .z_image import Z_IMAGE

TABLES: Mapping[str, WebuiTable] = {
    "z-image": Z_IMAGE,
    "flux2": FLUX2,
    "flux1": FLUX1,
    "chroma": CHROMA,
    "qwen-image": QWEN_IMAGE,
    "sd3": SD3,
}
TITLES: Mapping[str, str] = {
    "z-image": "Z-Image",
    "flux2": "FLUX.2",
    "flux1": "FLUX.1",
    "chroma": "Chroma",
    "qwen-image": "Qwen-Image",
    "sd3": "Stable Diffusion 3",
}

# Families of runs whose files are those of another one here.
FAMILIES: Mapping[str, str] = {"sd35": "sd3"}

__all__ = ["CHROMA", "FAMILIES", "FLUX1", "FLUX2", "QWEN_IMAGE", "SD3", "TABLES", "TITLES", "Z_IMAGE"]
