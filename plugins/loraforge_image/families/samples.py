"""The pictures that a run draws at every save: the same prompts and seeds each time, the base in the first row."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import TrainableLora, atomic_dir, speaker

from ..data.grids import grid, png
from ..data.pictures import read_picture
from ..records import ImageKeys
from .drawing import draw, guides
from .image_base import Conditioning, ImageBase

say = speaker(__name__)


class Samples:
    """Draws, keeps and compares sample pictures.

    Args:
        size: (width, height) of the pictures.
        text: encodes a caption; asked for all prompts now, because the encoders leave memory before the first step.
        continued: whether the LoRA does something before the first step (``init_from_adapter``): step 0 shows that, below the base.
    """

    def __init__(
        self,
        base: ImageBase,
        keys: ImageKeys,
        prompts: Sequence[str],
        size: tuple[int, int],
        text: Callable[[str], Conditioning],
        device: Any,
        *,
        continued: bool = False,
    ) -> None:
        self._base, self._keys, self._prompts, self._size, self._device = base, keys, list(prompts), size, device
        self._texts = [text(prompt) for prompt in prompts]
        self._empty = text("")
        self._last: list[Image.Image] = []
        self._continued = continued

    def draw(self, lora: TrainableLora, folder: Path, step: int) -> Path:
        """Draws the prompts into ``folder/step-000050`` and returns ``folder/grid.png``, which has a row for every step so far."""
        if step == 0 and self._continued:
            self._keep(self._drawn(lora, base=True), folder / "base")
        pictures = self._drawn(lora, base=step == 0 and not self._continued)
        self._keep(pictures, folder / f"step-{step:06d}")
        if step:
            self._last = pictures
        return self._grid(folder)

    def _drawn(self, lora: TrainableLora, base: bool) -> list[Image.Image]:
        """All prompts, with the LoRA or by the base alone."""
        layers = [layer for _, layer in lora.layers()]
        lora.model.eval()
        if base:
            for layer in layers:
                layer.enable_adapters(False)
        try:
            return self._pictures()
        finally:
            lora.model.train()
            if base:
                for layer in layers:
                    layer.enable_adapters(True)

    def _keep(self, pictures: Sequence[Image.Image], place: Path) -> None:
        with atomic_dir(place) as folder:
            for number, (picture, prompt) in enumerate(zip(pictures, self._prompts, strict=True), 1):
                (folder / f"{number:02d}.png").write_bytes(png(picture, f"{prompt}\nSteps: {self._keys.sample_steps}"))

    def _pictures(self) -> list[Image.Image]:
        """All prompts, each with its own seed, in one batch of a few at a time."""
        found: list[Image.Image] = []
        seeds = [self._keys.sample_seed + number for number in range(len(self._prompts))]
        for start in range(0, len(self._prompts), 4):
            texts = self._texts[start : start + 4]
            negative = [self._empty] * len(texts) if guides(self._base, self._keys.sample_cfg) else []
            found += draw(
                self._base,
                self._device,
                self._base.join([*negative, *texts]),
                seeds[start : start + 4],
                self._size,
                steps=self._keys.sample_steps,
                cfg=self._keys.sample_cfg,
            )
        return found

    def _grid(self, folder: Path) -> Path:
        rows, labels = [], []
        for place in [*folder.glob("base"), *sorted(folder.glob("step-*"))]:
            files = sorted(place.glob("*.png"))
            if len(files) != len(self._prompts):
                continue  # of an earlier run with other prompts
            rows.append([read_picture(file) for file in files])
            number = int(re.sub(r"\D", "", place.name) or 0)
            start = "start" if self._continued and place.name != "base" else "base"
            labels.append(start if number == 0 else f"step {number}")
        file = folder / "grid.png"
        partial = folder / ".grid.partial.png"
        partial.write_bytes(png(grid(rows, labels, self._prompts)))
        partial.replace(file)
        return file

    def best(self, training: Sequence[Path]) -> bytes:
        """Of the last pictures, as PNG, the one whose colours and textures are most like ``training``; nothing without pictures."""
        import numpy as np

        from ..evaluation.style_distance import features

        if not self._last:
            return b""
        middle = np.mean([features(read_picture(path)) for path in training], axis=0)
        nearest = min(self._last, key=lambda picture: float(np.linalg.norm(features(picture) - middle)))
        buffer = io.BytesIO()
        nearest.save(buffer, "PNG")
        return buffer.getvalue()
