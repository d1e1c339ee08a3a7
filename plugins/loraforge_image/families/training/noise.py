# SPDX-License-Identifier: Apache-2.0
"""The noise of one picture in one step: a function of its seed and of the keys, whatever stands beside it in a batch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ...records import ImageKeys

if TYPE_CHECKING:
    from torch import Tensor


def generator(seed: str) -> Any:
    """torch's generator for a picture in a step."""
    import torch

    return torch.Generator().manual_seed(int(hashlib.sha256(seed.encode()).hexdigest()[:15], 16))


def coloured(noise: Tensor, keys: ImageKeys, chance: Any) -> Tensor:
    """White noise (channels, ...) with what ``noise_offset`` and ``multires_noise_iterations`` add to it."""
    import torch

    if keys.noise_offset:
        noise = noise + keys.noise_offset * torch.randn((noise.shape[0], *[1] * (noise.ndim - 1)), generator=chance)
    if keys.multires_noise_iterations:
        noise = multires(noise, keys.multires_noise_iterations, keys.multires_noise_discount, chance)
    return noise


def multires(noise: Tensor, iterations: int, discount: float, chance: Any) -> Tensor:
    """Noise (channels, ..., height, width) with noise of coarser resolutions on it, scaled to a deviation of one.

    Each is two to four times coarser than the one before it, down to one pixel, and counts ``discount`` times as much (Whitaker 2023, as
    sd-scripts has it; there the factor and the deviation are those of a batch, here those of one picture, so that no way of cutting a step
    changes it).
    """
    import torch

    height, width = noise.shape[-2:]
    flat = noise.reshape(1, -1, height, width)
    for number in range(iterations):
        factor = float(torch.rand((), generator=chance, dtype=torch.float64)) * 2 + 2
        high, wide = max(1, int(height / factor**number)), max(1, int(width / factor**number))
        coarse = torch.randn((1, flat.shape[1], high, wide), generator=chance)
        flat = flat + torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear") * discount**number
        if high == 1 or wide == 1:
            break
    return (flat / flat.std()).reshape(noise.shape)
