# SPDX-License-Identifier: Apache-2.0
"""A tiny FLUX.1."""

from __future__ import annotations

from pathlib import Path

from . import Case
from .encoders import tiny_clip, tiny_t5
from .parts import filled, tiny_vae

BLOCKS = (
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)|ff(_context)?\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out)"
)


def make(folder: Path, *, schnell: bool = False, seed: int = 0) -> Path:
    """FLUX.1 dev, or schnell, in a diffusers folder."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(seed)
    one, tokenizer = tiny_clip(folder / "tokenizer")
    two, tokenizer_2 = tiny_t5()
    network = FluxTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
        pooled_projection_dim=16, guidance_embeds=not schnell, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0 if schnell else 3.0, use_dynamic_shifting=not schnell)
    FluxPipeline(scheduler, tiny_vae(), one, tokenizer, two, tokenizer_2, filled(network, seed)).save_pretrained(folder)
    return folder


def squares(latents):
    """(1, channels, height, width) -> (1, tokens, 4 * channels), by loops: a token is a square of 2 x 2, channel by channel."""
    import torch

    _, channels, height, width = latents.shape
    rows = []
    for top in range(0, height, 2):
        for left in range(0, width, 2):
            rows.append(torch.stack([latents[0, c, top + y, left + x] for c in range(channels) for y in (0, 1) for x in (0, 1)]))
    return torch.stack(rows)[None]


def ids(height: int, width: int):
    """(tokens, 3) of latents."""
    import torch

    return torch.tensor([[0.0, row, column] for row in range(height // 2) for column in range(width // 2)])


def plain(pipe, clean, noise, level, caption):
    """The network is told a guidance of 1, and that its time is a part of 1000; padding is read like words."""
    import torch

    with torch.no_grad():
        context, pooled, _ = pipe.encode_prompt(caption, caption, max_sequence_length=512)
    mixed = squares((1 - level) * clean + level * noise)
    said = pipe.transformer(
        mixed, timestep=torch.tensor([level]), guidance=torch.tensor([1.0]), encoder_hidden_states=context, pooled_projections=pooled,
        txt_ids=torch.zeros(512, 3), img_ids=ids(*clean.shape[-2:]),
    ).sample  # fmt: skip
    return (squares(noise - clean) - said).square().mean()


def _family():
    from loraforge_image.families.dit.flux1 import Flux1

    return Flux1()


def _latents(found):
    """What FluxPipeline returns of 96 x 64 pixels is packed."""
    from diffusers import FluxPipeline

    return FluxPipeline._unpack_latents(found, 64, 96, 8)


CASE = Case(
    family=_family,
    make=make,
    plain=plain,
    blocks=BLOCKS,
    layers=12 + 5,
    drawing={"cfg": 3.5, "unpack": _latents},
    published=({"guidance_embeds": True}, 11.90, 418),
)
