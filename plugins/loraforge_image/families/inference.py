# SPDX-License-Identifier: Apache-2.0
"""Draws prompts with a loaded base and mounted adapters: ``sample``, and the pictures that are compared after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loraforge import ConfigError, File, speaker

from ..data.grids import png
from ..records import ImageSampling
from ..sample_prompts import has_flags
from .fitting.turns import bring
from .image_base import ImageBase
from .infotext import Called, Drawn

if TYPE_CHECKING:
    import torch

say = speaker(__name__)


class ImageInferenceModel:
    """Draws prompts with the base, or with mounted adapters, several at once and each with its own strength."""

    def __init__(
        self, base: ImageBase, network: torch.nn.Module, title: str, multiple: int, called: Mapping[str, Called] | None = None
    ) -> None:
        self._base, self._network, self._title, self._multiple, self._called = base, network, title, multiple, dict(called or {})

    def generate(self, prompts: Sequence[str], adapter: str | Mapping[str, float] | None, **settings: Any) -> Sequence[File]:
        """One PNG per prompt, with its settings in the text that the WebUIs read.

        Args:
            settings: values of ``ImageSampling``; ``seed`` is the first prompt's, the next has the next.

        Raises:
            ConfigError: if a size cannot be drawn.
        """
        import torch

        from loraforge.adapters import lora

        from .drawing import draw, guides

        for prompt in prompts:
            if has_flags(prompt):
                raise ConfigError(
                    say(
                        "'{prompt}': settings behind a prompt belong to sample_prompts. Here they are options: --negative, --size, --seed, "
                        "--cfg, --steps.",
                        prompt=prompt,
                    )
                )
        base = self._base
        wanted = ImageSampling(**settings)
        size, sampler = self._size(wanted.size), base.objective.chosen(wanted.sampler)
        steps, cfg = wanted.steps or base.usual_steps, wanted.cfg or base.usual_cfg
        if wanted.negative and not base.guided:
            raise ConfigError(
                say("--negative: this base draws without guidance, so nothing can be kept out of its pictures. Leave it out.")
            )
        lora.set_adapter(self._network, adapter)
        seeds = [wanted.seed + number for number in range(len(prompts))]
        negative = [wanted.negative] * len(prompts) if guides(base, cfg) else []
        encoders = list(base.text_encoders.values())
        bring(encoders, [base.denoiser], base.device)
        with torch.no_grad():
            texts = base.condition(prompts, negative)
        bring([base.denoiser], encoders, base.device)
        pictures = draw(base, base.device, texts, seeds, size, steps=steps, cfg=cfg, sampler=sampler)
        strengths = {adapter: 1.0} if isinstance(adapter, str) else dict(adapter or {})
        return [
            File(png(picture, self._parameters(prompt, strengths, wanted, seed, size, base.objective.samplers[sampler])), ".png")
            for picture, prompt, seed in zip(pictures, prompts, seeds, strict=True)
        ]

    def _size(self, written: str | None) -> tuple[int, int]:
        """(width, height) of what was asked for, of what was trained, or of what the base is made for."""
        if written:
            sides = written.lower().replace("×", "x").split("x")
            unit = self._multiple
            if len(sides) != 2 or not all(s.strip().isdecimal() and int(s) and int(s) % unit == 0 for s in sides):
                raise ConfigError(
                    say("--size: write width x height in multiples of {unit}, like 512x768; got '{value}'.", unit=unit, value=written)
                )
            return int(sides[0]), int(sides[1])
        side = int(self._base.settings.get("resolution") or self._base.side) // self._multiple * self._multiple
        return side, side

    def _parameters(
        self, prompt: str, strengths: Mapping[str, float], wanted: ImageSampling, seed: int, size: tuple[int, int], sampler: str
    ) -> str:
        """The settings as A1111 writes them."""
        settings = self._base.settings
        return Drawn(
            prompt=prompt,
            negative=wanted.negative,
            steps=wanted.steps or self._base.usual_steps,
            sampler=sampler,
            cfg=wanted.cfg or self._base.usual_cfg,
            seed=seed,
            size=size,
            model=self._title,
            model_sha256=str(settings.get("base_sha256") or ""),
            clip_skip=int(settings.get("clip_skip") or 1),
            loras=[(self._called.get(name, Called(name)), strength) for name, strength in strengths.items()],
        ).infotext()
