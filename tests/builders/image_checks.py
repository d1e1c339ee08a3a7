# SPDX-License-Identifier: Apache-2.0
"""Pictures for the checks of the image task, and what a check says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from loraforge_image.checks import checks
from loraforge_image.data.picture_loader import PictureKeys, PictureLoader
from loraforge_image.records import ImageKeys, Picture
from PIL import Image

from builders import ROOT
from loraforge import Finding, KeySet, RunConfig

CYBERPUNK = ROOT / "configs" / "data" / "cyberpunk"


CHECKS = {check.name: check for check in checks()}


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture like no other: soft patches of colour with grain."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.integers(-30, 31, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(patches).astype(int) + grain).clip(0, 255).astype(np.uint8))


def rows(folder: Path, *captions: str, **more) -> list[Picture]:
    """A scene of its own for each caption."""
    return [row(scene(i), folder / f"scene-{i}.png", caption, **more) for i, caption in enumerate(captions)]


def row(image: Image.Image | None, path: Path, caption: str = "a thing", **more) -> Picture:
    import hashlib

    if image is not None:
        image.save(path)
    return Picture(str(path), caption, hashlib.sha256(path.read_bytes()).hexdigest(), where=path.name, **more)


def run_check(name: str, data: list[Picture], template: str = "auto", **keys) -> list[Finding]:
    config = RunConfig(train_data_dir="x", base_model="x", prompt_template=template)
    return list(CHECKS[name].run(config, KeySet({RunConfig: config, ImageKeys: ImageKeys(**keys)}), data))


def severity(name: str, finding: Finding) -> str:
    return finding.severity or CHECKS[name].severity


def shipped() -> list[Picture]:
    config = RunConfig(train_data_dir=str(CYBERPUNK), base_model="x")
    keys = KeySet({RunConfig: config, PictureKeys: PictureKeys(), ImageKeys: ImageKeys(trigger_word="cyberpunk style")})
    return list(PictureLoader().load(config, keys, lambda text: None))


def captions(tmp_path, *texts: str) -> list[Picture]:
    return [Picture(str(tmp_path / f"{i}.png"), text, f"{i}", where=f"row {i}") for i, text in enumerate(texts)]
