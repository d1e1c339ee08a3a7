# SPDX-License-Identifier: Apache-2.0
"""A tiny Z-Image."""

from __future__ import annotations

from pathlib import Path

from . import Case
from .parts import byte_tokenizer, filled, tiny_qwen3, tiny_vae


def make(folder: Path, *, layers: int = 2, shift: float = 3.0, seed: int = 0, **more) -> Path:
    """A random base in a diffusers folder."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    transformer = ZImageTransformer2DModel(**{
        "dim": 32, "n_layers": layers, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 32, "axes_dims": [4, 6, 6],
        "axes_lens": [1024, 64, 64], **more,
    })  # fmt: skip
    pipe = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift), vae=tiny_vae(), text_encoder=tiny_qwen3(len(tokenizer)), tokenizer=tokenizer,
        transformer=filled(transformer, seed),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def plain(pipe, clean, noise, level, caption):
    """The network's time runs from noise (0) to picture (1), and so does what it says."""
    import torch

    texts, _ = pipe.encode_prompt(caption, do_classifier_free_guidance=False)
    mixed = (1 - level) * clean + level * noise
    said = pipe.transformer([mixed[0].unsqueeze(1)], torch.tensor([1 - level]), texts).sample[0].squeeze(1)
    return ((clean - noise)[0] - said).square().mean()


def original(tensors):
    """Fused query, key and value, and other names for four kinds of layers."""
    import torch

    made = {}
    for name, value in tensors.items():
        if ".attention.to_q.weight" in name:
            parts = [tensors[name.replace("to_q", f"to_{one}")] for one in "qkv"]
            made[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif ".attention.to_k." not in name and ".attention.to_v." not in name:
            called = name.replace("all_final_layer.2-1.", "final_layer.").replace("all_x_embedder.2-1.", "x_embedder.")
            called = called.replace(".to_out.0.", ".out.").replace(".norm_q.", ".q_norm.").replace(".norm_k.", ".k_norm.")
            made[called] = value
    return made


def _family():
    from loraforge_image.families.dit.z_image import ZImage

    return ZImage()


CASE = Case(
    family=_family,
    make=make,
    plain=plain,
    blocks=r"layers\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123])",
    layers=2 * 7,
    drawing={"cfg": 4.0, "options": {"guidance_scale": 3.0}},
    original=original,
    published=({}, 6.15, 210),
)
