# SPDX-License-Identifier: Apache-2.0
"""What computes the same as diffusers, in less time and memory. Its modules import torch when they are imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loraforge import speaker

say = speaker(__name__)


def replace(unet: Any) -> Mapping[str, int]:
    """Replaces what a frozen U-Net can do with less, in place: attention, gates, norms, activations and frozen layers.

    Returns:
        how many, by kind.
    """
    from loraforge.kernels import frozen

    from . import fast_unet

    return {say("blocks"): fast_unet.replace(unet), say("frozen layers"): frozen.replace(unet)}
