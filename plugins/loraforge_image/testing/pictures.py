# SPDX-License-Identifier: Apache-2.0
"""Pictures to learn from, made on the spot."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from ..records import Picture

# Of different lengths, and one that is empty: what is wrong with padding or a mask shows.
CAPTIONS = ("a ball", "a red ball, number 2, on a wall of bricks", "snow", "")


def draw_pictures(folder: Path, captions: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[Picture]:
    """A coloured picture for each caption, of the sizes (width, height) in turn."""
    from PIL import Image, ImageDraw

    chance, made = random.Random(1), []
    for number, caption in enumerate(captions):
        image = Image.new("RGB", sizes[number % len(sizes)], tuple(chance.randrange(256) for _ in range(3)))
        ImageDraw.Draw(image).ellipse((8, 8, 40, 40 + 3 * number), fill=tuple(chance.randrange(256) for _ in range(3)))
        file = folder / f"{number}.png"
        image.save(file)
        made.append(Picture(where=file.name, path=str(file), caption=caption, sha256=str(number)))
    return made
