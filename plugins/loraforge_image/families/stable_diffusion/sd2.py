# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 2.x."""

from __future__ import annotations

from .base import StableDiffusionBase
from .family import StableDiffusion
from .kohya_names import KohyaFormat
from .published import PUBLISHED


class SD2Base(StableDiffusionBase):
    """Stable Diffusion 2.x, loaded."""

    family = "sd2"


class SD2(StableDiffusion):
    """Stable Diffusion 2.x."""

    name = "sd2"
    help = "Stable Diffusion 2.x, epsilon or v-prediction."
    base = SD2Base
    pipeline = PUBLISHED["sd2"].pipeline
    webui = KohyaFormat("sd2")
