# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion XL: two text encoders, a pooled text, and the sizes of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loraforge import speaker

from ..image_base import Conditioning, Framing
from .base import StableDiffusionBase
from .family import StableDiffusion
from .kohya_names import KohyaFormat
from .published import PUBLISHED

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)


class SDXLBase(StableDiffusionBase):
    """Stable Diffusion XL, loaded."""

    family = "sdxl"

    def embed_ids(self, ids: Tensor) -> dict[str, Tensor]:
        """``context`` of both encoders' last layer but one, side by side, and ``pooled`` (captions, width) of the second's first window."""
        import torch

        count, _, windows, length = ids.shape
        found: list[Tensor] = []
        pooled: Tensor | None = None
        for index, name in enumerate(self._encoder_names):
            encoder = self.text_encoders[name]
            out = encoder(ids[:, index].reshape(count * windows, length).to(encoder.device), output_hidden_states=True)
            found.append(out.hidden_states[-2].reshape(count, windows * length, -1))
            if index == 1:
                pooled = out.text_embeds.view(count, windows, -1)[:, 0]
        assert pooled is not None
        return {"context": torch.cat(found, -1).to(self.dtype), "pooled": pooled.to(self.dtype)}

    def extras(self, framing: Framing) -> Conditioning:
        """``time_ids``: original height and width, top and left of the crop, height and width as trained."""
        import torch

        (width, height), (left, top), (wide, high) = framing.original, framing.crop, framing.target
        return {"time_ids": torch.tensor([height, width, top, left, high, wide])}

    def predict(self, noisy: Tensor, levels: Tensor, conditioning: Conditioning, extras: Conditioning) -> Tensor:
        unet: Any = self.denoiser
        added = {"text_embeds": conditioning["pooled"], "time_ids": extras["time_ids"].to(noisy.dtype)}
        guess: Tensor = unet(noisy.to(self.dtype), levels, conditioning["context"].to(self.dtype), added_cond_kwargs=added).sample
        return guess


class SDXL(StableDiffusion):
    """Stable Diffusion XL."""

    name = "sdxl"
    help = "Stable Diffusion XL, without its refiner."
    base = SDXLBase
    pipeline = PUBLISHED["sdxl"].pipeline
    webui = KohyaFormat("sdxl")

    def meaningless(self) -> Mapping[str, str]:
        return {**super().meaningless(), "clip_skip": say("SDXL takes the last layer but one of both text encoders, always")}
