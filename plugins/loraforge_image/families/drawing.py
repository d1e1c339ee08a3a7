# SPDX-License-Identifier: Apache-2.0
"""Draws pictures with a loaded base: the same loop for every family, and the same latents as diffusers' own pipelines."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .image_base import Conditioning, Framing, ImageBase

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def draw(
    base: ImageBase,
    device: Any,
    texts: Conditioning,
    seeds: Sequence[int],
    size: tuple[int, int],
    *,
    steps: int,
    cfg: float,
    sampler: str = "auto",
) -> list[Image]:
    """One picture for each seed.

    Args:
        texts: what ``ImageBase.join`` or ``condition`` made of the prompts; if ``guides(base, cfg)``, of the negative prompts first.
        size: (width, height) in pixels, multiples of the family's.
        cfg: strength of the guidance; 1: none.
    """
    import torch
    from accelerate.utils import send_to_device

    denoiser, vae = base.denoiser, base.pipe.vae
    was_training, base.cfg, base.assisted = denoiser.training, cfg, False
    denoiser.eval()
    vae.to(device)
    mixed = torch.autocast(device.type, dtype=base.dtype) if base.dtype != torch.float32 else contextlib.nullcontext()
    try:
        with torch.no_grad(), mixed:
            latents = _denoised(base, device, base.resolve(send_to_device(texts, device)), seeds, size, steps, cfg, sampler)
        with torch.no_grad():
            return [_picture(base.decode(one)) for one in torch.split(latents.float(), 1)]  # a batch of large ones would need much memory
    finally:
        base.cfg, base.assisted = None, True
        denoiser.train(was_training)
        vae.to("cpu")


def guides(base: ImageBase, cfg: float) -> bool:
    """Whether negative prompts are drawn beside the prompts."""
    return base.guided and cfg > 1


def _denoised(
    base: ImageBase,
    device: Any,
    texts: Conditioning,
    seeds: Sequence[int],
    size: tuple[int, int],
    steps: int,
    cfg: float,
    sampler: str,
) -> Tensor:
    """(seeds, channels, ...)."""
    import torch

    objective, shape = base.objective, base.latent_shape(*size)
    scheduler = objective.scheduler(objective.chosen(sampler), steps, base.tokens(shape), device)
    # On the CPU, so that a seed means the same picture on every machine.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = torch.stack([torch.randn(shape, generator=generator, dtype=base.dtype) for generator in generators]).to(device)
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    rounds = 2 if guides(base, cfg) else 1
    rows = rounds * len(seeds)
    extras = {name: value.to(device).expand(rows, *value.shape) for name, value in base.extras(Framing(size, (0, 0), size)).items()}
    random = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for time in scheduler.timesteps:
        given = torch.cat([latents] * rounds)
        given = scheduler.scale_model_input(given, time) if hasattr(scheduler, "scale_model_input") else given
        guess = base.predict(given, objective.level_of(time).expand(rows), texts, extras)
        if rounds == 2:
            without, guess = guess.chunk(2)
            guess = base.guide(without, guess, cfg)
        latents = scheduler.step(guess, time, latents, **random, return_dict=False)[0]
    return latents


def _picture(pixels: Tensor) -> Image:
    """(1, 3, height, width) of -1 to 1."""
    from PIL import Image as Pillow

    values = (pixels[0].clamp(-1, 1) + 1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Pillow.fromarray(values)
