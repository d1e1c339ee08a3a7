"""The model families whose denoiser is a transformer that learns a flow (DiT), one module each."""

from __future__ import annotations

from loraforge import ModelFamily


def families() -> list[ModelFamily]:
    """All of them."""
    from .z_image import ZImage

    return [ZImage()]
