# SPDX-License-Identifier: Apache-2.0
"""The pictures that a run draws at every save: the same prompts and seeds each time, the base in the first row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from loraforge import TrainableLora, atomic_dir, speaker, write_text

from ..data.fonts import readable
from ..data.grids import grid, legend, png
from ..data.pictures import read_picture
from ..records import ImageKeys
from ..sample_prompts import SamplePrompt, file_words, parse_all
from .drawing import draw, guides
from .image_base import Conditioning, ImageBase
from .infotext import Called, Drawn

say = speaker(__name__)


class Samples:
    """Draws, keeps and compares sample pictures.

    Args:
        prompts: captions, or entries of ``sample_prompts`` with their flags.
        size: (width, height) of the pictures that say nothing else.
        text: encodes a caption, or what is drawn without (``negative=True``); asked for all prompts now, because the encoders leave
            memory before the first step.
        continued: whether the LoRA does something before the first step (``init_from_adapter``): step 0 shows that, below the base.
    """

    def __init__(
        self,
        base: ImageBase,
        keys: ImageKeys,
        prompts: Sequence[str],
        size: tuple[int, int],
        text: Callable[..., Conditioning],
        device: Any,
        *,
        continued: bool = False,
    ) -> None:
        self._base, self._keys, self._device = base, keys, device
        # A caption of the data may hold two dashes of its own.
        self._asked = parse_all(prompts) if keys.sample_prompts is not None else [SamplePrompt(prompt) for prompt in prompts]
        self._prompts = [one.prompt for one in self._asked]
        self._size, self._multiple = size, int(base.settings.get("multiple") or 8)
        self._texts = [text(prompt) for prompt in self._prompts]
        self._negatives = [keys.sample_negative if one.negative is None else one.negative for one in self._asked]
        self._without = {negative: text(negative, negative=True) for negative in {"", *self._negatives}} if base.guided else {}
        self._last: list[tuple[Image.Image, str]] = []
        self._continued = continued

    def draw(self, lora: TrainableLora, folder: Path, step: int) -> Path:
        """Draws the prompts into ``folder/step-000050`` and returns ``folder/grid.png``, which has a row for every step so far."""
        if step == 0 and self._continued:
            self._keep(self._drawn(lora, base=True), folder / "base", base=True)
        alone = step == 0 and not self._continued
        pictures = self._drawn(lora, base=alone)
        self._keep(pictures, folder / f"step-{step:06d}", base=alone)
        if step:
            self._last = [(picture, self._parameters(number, base=False)) for number, picture in enumerate(pictures)]
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

    def _keep(self, pictures: Sequence[Image.Image], place: Path, *, base: bool) -> None:
        with atomic_dir(place) as folder:
            for number, picture in enumerate(pictures):
                words = file_words(self._prompts[number])
                name = f"{number + 1:02d}-{words}.png" if words else f"{number + 1:02d}.png"
                (folder / name).write_bytes(png(picture, self._parameters(number, base=base)))

    def _settings(self, number: int) -> tuple[tuple[int, int], int, float]:
        """(size, steps, cfg) of one picture."""
        one = self._asked[number]
        steps = one.steps or self._keys.sample_steps or self._base.usual_steps
        cfg = one.cfg or self._keys.sample_cfg or self._base.usual_cfg
        return one.size(self._size, self._multiple) if one.width or one.height else self._size, steps, cfg

    def _seed(self, number: int) -> int:
        own = self._asked[number].seed
        return self._keys.sample_seed + number if own is None else own

    def _parameters(self, number: int, *, base: bool) -> str:
        """The settings of one picture, as the WebUIs read them."""
        settings, (size, steps, cfg) = self._base.settings, self._settings(number)
        objective = self._base.objective
        return Drawn(
            prompt=self._prompts[number],
            negative=self._negatives[number] if guides(self._base, cfg) else "",
            steps=steps,
            sampler=objective.samplers[objective.chosen("auto")],
            cfg=cfg,
            seed=self._seed(number),
            size=size,
            model=str(settings.get("base_title") or ""),
            model_sha256=str(settings.get("base_sha256") or ""),
            clip_skip=int(settings.get("clip_skip") or 1),
            loras=() if base else ((Called(str(settings.get("lora_name") or "lora")), 1.0),),
        ).infotext()

    def _pictures(self) -> list[Image.Image]:
        """All prompts, each with its own seed, those of one size and one strength in batches of a few."""
        found: dict[int, Image.Image] = {}
        kinds: dict[Any, list[int]] = {}
        for number in range(len(self._prompts)):
            kinds.setdefault(self._settings(number), []).append(number)
        for (size, steps, cfg), numbers in kinds.items():
            for start in range(0, len(numbers), 4):
                some = numbers[start : start + 4]
                negative = [self._without[self._negatives[number]] for number in some] if guides(self._base, cfg) else []
                texts = self._base.join([*negative, *(self._texts[number] for number in some)])
                seeds = [self._seed(number) for number in some]
                found |= zip(some, draw(self._base, self._device, texts, seeds, size, steps=steps, cfg=cfg), strict=True)
        return [found[number] for number in range(len(self._prompts))]

    def _grid(self, folder: Path) -> Path:
        rows, labels = [], []
        for place in [*folder.glob("base"), *sorted(folder.glob("step-*"))]:
            files = sorted(place.glob("*.png"))
            if len(files) != len(self._prompts):
                continue  # of an earlier run with other prompts
            rows.append([read_picture(file) for file in files])
            number = int(re.sub(r"\D", "", place.name) or 0)
            continued = self._continued and place.name != "base"
            start = readable(say("start"), "start") if continued else readable(say("base"), "base")
            labels.append(start if number == 0 else readable(say("step {step}", step=number), f"step {number}"))
        if listed := legend(self._prompts):
            write_text(folder / "grid.txt", listed)
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
        picture, parameters = min(self._last, key=lambda one: float(np.linalg.norm(features(one[0]) - middle)))
        return png(picture, parameters)
