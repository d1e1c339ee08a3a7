# SPDX-License-Identifier: Apache-2.0
"""The model families whose denoiser is a transformer that learns a flow (DiT), one module each."""

from __future__ import annotations

from loraforge import ModelFamily


def families() -> list[ModelFamily]:
    """All of them."""
    from .chroma import Chroma
    from .flux1 import Flux1
    from .flux2 import Flux2Klein
    from .qwen_image import QwenImage
    from .sd35 import SD35
    from .z_image import ZImage

    return [ZImage(), Flux2Klein(), Flux1(), Chroma(), QwenImage(), SD35()]
