"""Draws pictures with a loaded U-Net: diffusers' pipelines, given captions that are already encoded."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .parts import Parts

if TYPE_CHECKING:
    from PIL.Image import Image

# What A1111 calls the schedulers.
SAMPLERS = {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M"}


def scheduler_of(parts: Parts, sampler: str) -> Any:
    """The scheduler called ``sampler``, with the base's own noise schedule and prediction."""
    import diffusers

    config = parts.scheduler.config
    # Given apart: what a base's file does not say is a default, and defaults in a config are replaced by those of the new scheduler.
    own: dict[str, Any] = {"prediction_type": config.prediction_type}
    if sampler == "ddim":
        own["clip_sample"] = False
    if config.get("rescale_betas_zero_snr"):
        own["timestep_spacing"] = "trailing"
    kinds = {
        "ddim": diffusers.DDIMScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
        "euler_a": diffusers.EulerAncestralDiscreteScheduler,
        "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    }
    return kinds[sampler].from_config(config, **own)


def draw(
    parts: Parts,
    device: Any,
    wanted: tuple[Any, Any],
    unwanted: tuple[Any, Any],
    seeds: Sequence[int],
    size: tuple[int, int],
    *,
    steps: int,
    cfg: float,
    sampler: str = "ddim",
) -> list[Image]:
    """One picture for each seed.

    Args:
        wanted, unwanted: what ``parts.embed`` returned for the prompts and the negative prompts, (len(seeds), tokens, width) each.
        size: (width, height) in pixels, multiples of 8.
    """
    import torch
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    common: dict[str, Any] = {"vae": parts.vae, "unet": parts.unet, "scheduler": scheduler_of(parts, sampler)}
    pooled: dict[str, Any] = {}
    pipe: Any
    if parts.family == "sdxl":
        pipe = StableDiffusionXLPipeline(text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None, **common)
        pooled = {"pooled_prompt_embeds": wanted[1].to(device), "negative_pooled_prompt_embeds": unwanted[1].to(device)}
    else:
        pipe = StableDiffusionPipeline(
            text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False, **common
        )
    pipe.set_progress_bar_config(disable=True)
    was_training = parts.unet.training
    parts.unet.eval()
    parts.vae.to(device)
    mixed = torch.autocast(device.type, dtype=parts.dtype) if parts.dtype != torch.float32 else contextlib.nullcontext()
    try:
        with torch.no_grad(), mixed:
            latents = pipe(
                prompt_embeds=wanted[0].to(device, parts.dtype),
                negative_prompt_embeds=unwanted[0].to(device, parts.dtype),
                **pooled,
                num_inference_steps=steps,
                guidance_scale=cfg,
                width=size[0],
                height=size[1],
                # On the CPU, so that a seed means the same picture on every machine.
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="latent",
            ).images
        return decode(parts, latents)
    finally:
        parts.unet.train(was_training)
        parts.vae.to("cpu")


def decode(parts: Parts, latents: Any) -> list[Image]:
    """Pictures of (count, 4, height / 8, width / 8), one by one: a batch of large ones would need much memory."""
    import torch
    from PIL import Image as Pillow

    pictures = []
    with torch.no_grad():
        for one in latents.float().split(1):
            values = parts.vae.decode(one.to(parts.vae.device) / parts.vae.config.scaling_factor).sample[0]
            pixels = (values.clamp(-1, 1) + 1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
            pictures.append(Pillow.fromarray(pixels))
    return pictures
