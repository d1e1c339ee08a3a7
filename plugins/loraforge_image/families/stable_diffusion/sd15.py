# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 1.x."""

from __future__ import annotations

from .base import StableDiffusionBase
from .family import StableDiffusion
from .kohya_names import KohyaFormat
from .published import PUBLISHED


class SD15Base(StableDiffusionBase):
    """Stable Diffusion 1.x, loaded."""

    family = "sd15"


class SD15(StableDiffusion):
    """Stable Diffusion 1.x."""

    name = "sd15"
    help = "Stable Diffusion 1.x: a diffusers folder, a hub id, a .safetensors checkpoint, or the embedded tiny-sd."
    base = SD15Base
    pipeline = PUBLISHED["sd15"].pipeline
    webui = KohyaFormat("sd15")
