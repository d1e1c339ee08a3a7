# SPDX-License-Identifier: Apache-2.0
"""Draws the sample data of configs/cyberpunk.yaml: 64 streets by neon night in five sizes, with captions.

python -m loraforge_image.tiny_sd.sample_data configs/data/cyberpunk
"""

from __future__ import annotations

import csv
import itertools
import random
import sys
from pathlib import Path

from PIL import Image

from . import neon, scenes

_SHAPES = ((384, 384), (480, 320), (400, 400), (336, 448), (416, 416))
_COUNT = 64
_SEED = 2082


def main(folder: Path) -> None:
    """Writes the pictures and metadata.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, str] = {}
    tries = itertools.count()
    while len(rows) < _COUNT:
        rng = random.Random(f"{_SEED}/{next(tries)}")
        width, height = _SHAPES[len(rows) % len(_SHAPES)]
        scene = scenes.compose(rng, width / height)
        # By night nobody sees the colour of a wall.
        place, *parts = [" ".join(word for word in part.split() if word not in (*scenes.WALLS, *scenes.CARS)) for part in scene.words()]
        caption = ", ".join([place, *parts, rng.choice(("neon lights", "glowing signs", "at night"))])
        if caption in rows.values():
            continue
        name = f"neon-{len(rows) + 1:02d}.png"
        neon.neon(scene, width, height).quantize(256, dither=Image.Dither.NONE).save(folder / name, optimize=True)
        rows[name] = caption
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file_name", "text"))
        writer.writerows(rows.items())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
