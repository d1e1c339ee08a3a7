# SPDX-License-Identifier: Apache-2.0
"""Folders of small pictures in the layouts that people have, and what the picture loader makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from loraforge_image.data.picture_loader import PictureKeys, PictureLoader
from loraforge_image.records import ImageKeys, Picture
from PIL import Image

from loraforge import DataError, KeySet, RunConfig


def put(path: Path, content: str | bytes = "") -> Path:
    """A file that is no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(path: Path, caption: str | None = None, size: tuple[int, int] = (32, 24)) -> Path:
    """A colourful picture like no other of its name, with a caption beside it where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, str(path))))
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    if caption is not None:
        put(path.with_suffix(".txt"), caption)
    return path


def mask(path: Path, size: tuple[int, int] = (32, 24)) -> Path:
    """A white field on black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size)
    image.paste(255, (4, 4, 20, 16))
    image.save(path)
    return path


def load(folder: Path, core: dict | None = None, notes: list[str] | None = None, **values) -> tuple[list[Picture], list[str]]:
    """(records, notes) of a folder; ``values`` are keys of the loader or of the image task."""
    mine = {key: values.pop(key) for key in list(values) if key in PictureKeys.model_fields}
    config = RunConfig(**{"train_data_dir": str(folder), "base_model": "x", **(core or {})})
    notes = [] if notes is None else notes
    keys = KeySet({RunConfig: config, PictureKeys: PictureKeys(**mine), ImageKeys: ImageKeys(**values)})
    return list(PictureLoader().load(config, keys, notes.append)), notes


def problems(folder: Path, **values) -> list[str]:
    """What the loader refuses."""
    try:
        load(folder, **values)
    except DataError as error:
        return list(error.problems)
    raise AssertionError("nothing is refused")


def names(records: list[Picture]) -> list[str]:
    return [Path(one.path).name for one in records]
