# SPDX-License-Identifier: Apache-2.0
"""Tiny random Stable Diffusion bases with the real topologies, and folders of small pictures: what the image tests train on."""

from __future__ import annotations

import json
import random
from pathlib import Path


def make_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> int:
    """A CLIP tokenizer of letters; the size of its vocabulary."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return len(words)


def make_sd(folder: Path, family: str = "sd15", *, full: bool = False, prediction: str = "epsilon", seed: int = 0) -> Path:
    """A random base in a diffusers folder. ``full``: as many layers as the real one (986 modules for SDXL)."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(seed)
    xl = family == "sdxl"
    names = ["tokenizer", "tokenizer_2"] if xl else ["tokenizer"]
    sizes = [make_tokenizer(folder / name, "!" if name == "tokenizer_2" or family == "sd2" else "<|endoftext|>") for name in names]

    def text(kind, layers, size):
        return kind(CLIPTextConfig(
            vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2, projection_dim=16,
            hidden_act="gelu" if kind is not CLIPTextModel or family == "sd2" else "quick_gelu",
            bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
        ))  # fmt: skip

    layers = {"sd15": 12, "sd2": 23, "sdxl": 12}[family] if full or family == "sd15" else 3
    encoders = [text(CLIPTextModel, layers, sizes[0])]
    if xl:
        encoders.append(text(CLIPTextModelWithProjection, 32 if full else 3, sizes[1]))
    common = {"sample_size": 8, "layers_per_block": 2, "norm_num_groups": 4, "in_channels": 4, "out_channels": 4}
    if xl:
        unet = UNet2DConditionModel(
            **common, block_out_channels=(8, 16, 24), cross_attention_dim=32, attention_head_dim=(1, 2, 2), use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2, 10] if full else [1, 1, 2], addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8,
        )  # fmt: skip
    else:
        unet = UNet2DConditionModel(
            **common, block_out_channels=(8, 16, 24, 24), cross_attention_dim=16, attention_head_dim=2, use_linear_projection=family == "sd2",
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4, 4, 8, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=64,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        prediction_type=prediction,
    )  # fmt: skip
    tokenizers = [CLIPTokenizer.from_pretrained(folder / name) for name in names]
    if xl:
        pipe = StableDiffusionXLPipeline(vae, *encoders, *tokenizers, unet=unet, scheduler=scheduler)
    else:
        pipe = StableDiffusionPipeline(vae, encoders[0], tokenizers[0], unet, scheduler, None, None, requires_safety_checker=False)
    pipe.save_pretrained(folder)
    return folder


def make_sd3(folder: Path, *, layers: int = 2, t5: bool = True, seed: int = 0) -> Path:
    """A random Stable Diffusion 3.5 in a diffusers folder, built from diffusers' configuration."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

    torch.manual_seed(seed)
    sizes = [make_tokenizer(folder / name) for name in ("tokenizer", "tokenizer_2")]
    clips = [
        CLIPTextModelWithProjection(CLIPTextConfig(
            vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, projection_dim=16,
            hidden_act=act, bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
        ))
        for size, act in zip(sizes, ("quick_gelu", "gelu"), strict=True)
    ]  # fmt: skip
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((chr(code), -4.0) for code in range(33, 127))]
    third = T5Tokenizer(vocab=words) if t5 else None
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=layers, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, pos_embed_max_size=16, dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4, 4, 8, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=64, use_quant_conv=False, use_post_quant_conv=False,
        shift_factor=0.0609, scaling_factor=1.5305,
    )  # fmt: skip
    encoder = T5EncoderModel(T5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)) if t5 else None
    pipe = StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae, text_encoder=clips[0],
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), text_encoder_2=clips[1],
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"), text_encoder_3=encoder, tokenizer_3=third,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    return folder


def load_sd(place: Path | str, family: str, precision: str = "fp32", **options):
    """The loaded base, as diffusers' pipeline."""
    from loraforge_image.families.loading import type_of
    from loraforge_image.families.stable_diffusion.loading import load_base

    return load_base(str(place), None, type_of(precision), family, **options)


def encoders_of(pipe) -> dict:
    """The text encoders of a pipeline by name."""
    return {name: part for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None}


def network_of(pipe, text: bool):
    """What is trained of it: the U-Net, with the text encoders if they are trained too."""
    import torch

    return torch.nn.ModuleDict({"unet": pipe.unet, **(encoders_of(pipe) if text else {})})


def draw_pictures(folder: Path, count: int = 6, sizes=((64, 64), (96, 64), (64, 96))) -> Path:
    """Coloured pictures with captions in metadata.csv."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    lines = ["file_name,text"]
    for i in range(count):
        size = sizes[i % len(sizes)]
        picture = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
        ImageDraw.Draw(picture).ellipse((8, 8, 40, 40 + 3 * i), fill=tuple(rng.randrange(256) for _ in range(3)))
        picture.save(folder / f"{i}.png")
        lines.append(f'{i}.png,"a ball, number {i}, on a wall"')
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
