# SPDX-License-Identifier: Apache-2.0
"""Random Stable Diffusion bases in diffusers' layout, with the real topologies: SD1.5 and SDXL, every width divided by ``divide``."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import limit
from .measuring import environment


def _tokenizer(folder: Path, pad: str) -> int:
    """A CLIP tokenizer of letters; the size of its vocabulary."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return len(words)


def _unet(xl: bool, divide: int) -> Any:
    from diffusers import UNet2DConditionModel

    common = {"layers_per_block": 2, "norm_num_groups": max(1, 32 // divide), "in_channels": 4, "out_channels": 4}
    if xl:
        return UNet2DConditionModel(
            **common,
            sample_size=128,
            block_out_channels=tuple(width // divide for width in (320, 640, 1280)),
            cross_attention_dim=2048 // divide,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2, 10],
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=1280 // divide + 6 * 256,
        )
    return UNet2DConditionModel(
        **common,
        sample_size=64,
        block_out_channels=tuple(width // divide for width in (320, 640, 1280, 1280)),
        cross_attention_dim=768 // divide,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def _text_encoder(kind: Any, width: int, layers: int, heads: int, words: int, activation: str) -> Any:
    from transformers import CLIPTextConfig

    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        hidden_act=activation,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    return kind(config)


def make(folder: Path, family: str = "sd15", divide: int = 4, seed: int = 0) -> Path:
    """The base in ``folder``, made if it is not there yet."""
    if not (folder / "model_index.json").is_file():
        aside = folder.with_name(f"{folder.name}.{os.getpid()}")
        _make(aside, family, divide, seed)
        os.replace(aside, folder)  # whole or not at all
    return folder


def _make(folder: Path, family: str, divide: int, seed: int) -> None:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(seed)
    xl = family == "sdxl"
    names = ["tokenizer", "tokenizer_2"] if xl else ["tokenizer"]
    sizes = [_tokenizer(folder / name, "!" if name == "tokenizer_2" else "<|endoftext|>") for name in names]
    words = sizes[0]
    tokenizers = [CLIPTokenizer.from_pretrained(folder / name) for name in names]
    encoders = [_text_encoder(CLIPTextModel, 768 // divide, 12, 12, words, "quick_gelu")]
    if xl:
        encoders.append(_text_encoder(CLIPTextModelWithProjection, 1280 // divide, 32, 20, words, "gelu"))
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=tuple(width // divide for width in (128, 256, 512, 512)),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=max(1, 32 // divide),
        sample_size=1024 if xl else 512,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    unet = _unet(xl, divide)
    if xl:
        pipe: Any = StableDiffusionXLPipeline(vae, *encoders, *tokenizers, unet=unet, scheduler=scheduler)
    else:
        pipe = StableDiffusionPipeline(vae, encoders[0], tokenizers[0], unet, scheduler, None, None, requires_safety_checker=False)
    pipe.save_pretrained(folder)


def pictures(folder: Path, count: int, side: int) -> Path:
    """Coloured pictures with captions in metadata.csv."""
    if (folder / "metadata.csv").is_file():
        return folder
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    lines = ["file_name,text"]
    for i in range(count):
        picture = Image.new("RGB", (side, side), tuple(rng.randrange(256) for _ in range(3)))
        drawn = ImageDraw.Draw(picture)
        for _ in range(30):
            x, y, r = rng.randrange(side), rng.randrange(side), rng.randrange(4, side // 4)
            drawn.ellipse((x, y, x + r, y + r), fill=tuple(rng.randrange(256) for _ in range(3)))
        picture.save(folder / f"{i}.png")
        lines.append(f'{i}.png,"balls in many colours, number {i}, on a wall"')
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Bench:
    """A base and pictures, and what a step on them needs.

    Attributes:
        work: by kind of targets, ``diffusers`` and ``kohya``.
    """

    base: Path
    pictures: Path
    count: int
    side: int
    batch: int
    divide: int
    work: Mapping[str, limit.Work]


def assemble(folder: Path, family: str, divide: int, count: int, side: int, batch: int, rank: int, kinds: Sequence[str]) -> Bench:
    """Makes what is not there yet, in this process."""
    base = make(folder / f"{family}-{divide}", family, divide)
    data = pictures(folder / f"pictures-{count}-{side}", count, side)
    config = json.loads((base / "unet" / "config.json").read_text(encoding="utf-8"))
    work = {kind: limit.unet_work(config, side, batch, rank, kind) for kind in kinds}
    return Bench(base, data, count, side, batch, divide, work)


def prepared(folder: Path, family: str, divide: int, count: int, side: int, batch: int = 1, rank: int = 8, *kinds: str) -> Bench:
    """``assemble`` in a process of its own: what this process holds would count in its children's memory."""
    given = [str(folder), family, *(str(number) for number in (divide, count, side, batch, rank)), *kinds]
    done = subprocess.run([sys.executable, "-m", "benchmarks.sdbase", *given], env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the base could not be made: {done.stderr[-2000:]}")
    base, data, work = json.loads(done.stdout.splitlines()[-1])
    return Bench(Path(base), Path(data), count, side, batch, divide, {kind: limit.Work(**found) for kind, found in work.items()})


def main(folder: str, family: str, divide: str, count: str, side: str, batch: str, rank: str, *kinds: str) -> None:
    """The process."""
    made = assemble(Path(folder), family, int(divide), int(count), int(side), int(batch), int(rank), kinds)
    print(json.dumps([str(made.base), str(made.pictures), {kind: work.__dict__ for kind, work in made.work.items()}]))


if __name__ == "__main__":
    main(*sys.argv[1:])
