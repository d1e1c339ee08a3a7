# SPDX-License-Identifier: Apache-2.0
"""A picture of two colours, to see which way up it is."""

from __future__ import annotations

from PIL import Image


def halves(size=(40, 20)) -> Image.Image:
    """Red at the left, blue at the right."""
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (size[0] // 2, 0, size[0], size[1]))
    return image


def near(pixel, colour, by=40) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, colour, strict=True))
