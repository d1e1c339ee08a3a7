# SPDX-License-Identifier: Apache-2.0
"""A tiny Qwen-Image."""

from __future__ import annotations

from pathlib import Path

from . import Case
from .parts import byte_tokenizer, filled


def make(folder: Path, *, layers: int = 2, seed: int = 0) -> Path:
    """A random base in a diffusers folder."""
    import torch
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32, "fullatt_block_indexes": [0]}
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=sight))
    transformer = QwenImageTransformer2DModel(
        in_channels=64, out_channels=16, num_layers=layers, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256, max_image_seq_len=8192, shift_terminal=0.02,
        time_shift_type="exponential",
    )  # fmt: skip
    pipe = QwenImagePipeline(
        scheduler=scheduler, vae=AutoencoderKLQwenImage(base_dim=4, num_res_blocks=1), text_encoder=encoder, tokenizer=tokenizer,
        transformer=filled(transformer, seed),
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def plain(pipe, clean, noise, level, caption):
    """Packed by the pipeline's own functions; no mask, as the caption stands alone."""
    import torch

    texts, _ = pipe.encode_prompt(caption)
    mixed = (1 - level) * clean + level * noise
    _, channels, height, width = mixed.shape
    said = pipe.transformer(
        hidden_states=pipe._pack_latents(mixed, 1, channels, height, width),
        timestep=torch.tensor([level]),
        encoder_hidden_states=texts,
        img_shapes=[[(1, height // 2, width // 2)]],
    ).sample
    return (pipe._pack_latents(noise - clean, 1, channels, height, width) - said).square().mean()


def unpack(latents):
    """Of pictures of 96 x 64 pixels."""
    from diffusers import QwenImagePipeline

    return QwenImagePipeline._unpack_latents(latents, 64, 96, 8).squeeze(2)


def _family():
    from loraforge_image.families.dit.qwen_image import QwenImage

    return QwenImage()


CASE = Case(
    family=_family,
    make=make,
    plain=plain,
    blocks=r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|(img|txt)_mlp\.net\.(0\.proj|2))",
    layers=2 * 12,
    drawing={"cfg": 4.0, "options": {"true_cfg_scale": 4.0}, "unpack": unpack},
    published=({}, 20.43, 720),
)
