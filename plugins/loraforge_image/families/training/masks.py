# SPDX-License-Identifier: Apache-2.0
"""How much each place of a picture counts: from a picture in black and white, or from the picture's own transparency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ...data.buckets import Bucket, fit
from ...data.masks import read_alpha, read_mask
from ...records import ImageKeys, Picture
from .views import View

if TYPE_CHECKING:
    from torch import Tensor


def mask_of(record: Picture, keys: ImageKeys, size: tuple[int, int]) -> Image.Image | None:
    """The mask of a picture of ``size`` (width, height), white where it is learned; None: everywhere.

    Raises:
        DataError: if it cannot be read, or has another shape than the picture.
    """
    if keys.mask == "alpha":
        return read_alpha(Path(record.path))
    return read_mask(Path(record.mask), size) if record.mask and keys.mask != "off" else None


def weight_map(mask: Image.Image, bucket: Bucket, view: View, shape: Sequence[int], outside: float) -> Tensor:
    """The mask in one view of its picture, averaged over the area of each latent: value / 255, but never less than ``outside``.

    Args:
        shape: of the latents, (channels, ..., height, width).

    Returns:
        float32 (1, ..., height, width), for each axis of the latents.
    """
    import numpy as np
    import torch

    pixels = torch.from_numpy(np.asarray(fit(mask, bucket, view[:2], Image.Resampling.BOX)).copy()).float().div(255)
    pixels = pixels.flip(1) if view[2] else pixels
    small = torch.nn.functional.interpolate(pixels[None, None], size=tuple(shape[-2:]), mode="area")[0, 0]
    return small.clamp_min(outside).view(*[1] * (len(shape) - 2), *shape[-2:])
