# SPDX-License-Identifier: Apache-2.0
"""The views of a picture: which part of it is shown, and which way round."""

from __future__ import annotations

import random
from typing import TypeAlias

from ...data.buckets import Bucket
from ...records import ImageKeys, Picture
from ..image_base import Framing

_CROPS = 4  # places that a random crop is drawn from; each is encoded once

# (left, top, mirrored): the shares of what is cut off that go at the left and at the top, and whether the rest is mirrored.
View: TypeAlias = tuple[float, float, bool]


def views(record: Picture, keys: ImageKeys) -> list[View]:
    """Every view that is drawn from; the first is the one that is measured."""
    places = [(0.5, 0.5)]
    if keys.crop == "random":
        rng = random.Random(record.sha256)
        places += [(rng.random(), rng.random()) for _ in range(_CROPS - 1)]
    return [(x, y, mirrored) for mirrored in ((False, True) if keys.flip else (False,)) for x, y in places]


def framing(size: tuple[int, int], bucket: Bucket, view: View) -> Framing:
    """How a picture of ``size`` comes to its bucket in a view.

    In a mirrored picture that is cut off at the left which was at the right: resized width - width of the bucket - left (as diffusers'
    training script for SDXL has it, pull request 6547).
    """
    factor = max(bucket.width / size[0], bucket.height / size[1])
    spare = [round(size[i] * factor - side) for i, side in enumerate((bucket.width, bucket.height))]
    left, top = (round(spare[i] * view[i]) for i in range(2))
    return Framing(size, (spare[0] - left if view[2] else left, top), (bucket.width, bucket.height))
