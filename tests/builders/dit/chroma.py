# SPDX-License-Identifier: Apache-2.0
"""A tiny Chroma."""

from __future__ import annotations

from pathlib import Path

from . import Case
from .encoders import tiny_t5
from .flux1 import BLOCKS, _latents, ids, squares
from .parts import filled, tiny_vae


def make(folder: Path, *, seed: int = 0) -> Path:
    """A random base in a diffusers folder."""
    import torch
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

    torch.manual_seed(seed)
    encoder, tokenizer = tiny_t5()
    network = ChromaTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6), approximator_num_channels=16, approximator_hidden_dim=16, approximator_layers=1,
    )  # fmt: skip
    pipe = ChromaPipeline(FlowMatchEulerDiscreteScheduler(shift=1.0), tiny_vae(), encoder, tokenizer, filled(network, seed))
    pipe.save_pretrained(folder)
    return folder


def masked(pipe, prompts):
    """(embeddings, mask) of prompts as the pipeline makes them. It multiplies a mask of numbers, which attention adds to its scores; told as
    yes and no it masks."""
    context, _, mask, *_ = pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    return context, mask.bool()


def plain(pipe, clean, noise, level, caption):
    """All 512 tokens, of which attention sees the caption's and one of padding."""
    import torch

    with torch.no_grad():
        context, mask = masked(pipe, [caption])
    mixed = squares((1 - level) * clean + level * noise)
    everything = torch.cat([mask, torch.ones(1, mixed.shape[1], dtype=torch.bool)], 1)
    said = pipe.transformer(
        mixed, timestep=torch.tensor([level]), encoder_hidden_states=context, attention_mask=everything, txt_ids=torch.zeros(512, 3),
        img_ids=ids(*clean.shape[-2:]),
    ).sample  # fmt: skip
    return (squares(noise - clean) - said).square().mean()


def options(pipe, prompts, negative):
    """What the pipeline is called with in place of prompts."""
    (context, mask), (without, absent) = masked(pipe, prompts), masked(pipe, negative)
    return {
        "prompt": None, "negative_prompt": None, "prompt_embeds": context, "prompt_attention_mask": mask,
        "negative_prompt_embeds": without, "negative_prompt_attention_mask": absent,
    }  # fmt: skip


def _family():
    from loraforge_image.families.dit.chroma import Chroma

    return Chroma()


CASE = Case(
    family=_family,
    make=make,
    plain=plain,
    blocks=BLOCKS,
    layers=12 + 5,
    drawing={"unpack": _latents, "options": options},
    published=({}, 8.90, 418),
)
