# SPDX-License-Identifier: Apache-2.0
"""Makes tiny-sd: draws the scenes, trains the autoencoder on them, then U-Net and text encoder together, and writes a diffusers folder.

    python -m loraforge_image.tiny_sd.build --out somewhere

First all of it learns the scenes by day, then in every light. Some three hours on two cores. Seeded; the defaults are what was committed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import lights, neon, scenes

SIZE = 128
BATCH = 24
SEED = 20261124
NEGATIVE_SHARE = 0.12  # captions left out in training, so that classifier-free guidance has something to guide away from


@dataclass(frozen=True)
class Stage:
    """A training of the autoencoder.

    Args:
        kinds: how many pictures of each kind.
        colour: how much the colours of small regions count beside the pixels: L1 alone learns lightness first.
        decoder_only: the latents stay what they were.
    """

    kinds: Mapping[str, int]
    steps: int
    batch: int
    rate: float
    colour: float
    decoder_only: bool = False


LIGHTS = {"day": 1300, "lights": 600, "neon": 1000, "shapes": 100}
STAGES = {
    "vae": Stage({"day": 2600, "shapes": 3400}, 2600, 8, 2e-3, 0.0),
    "colour": Stage({"day": 2600, "shapes": 3400}, 750, 8, 2e-3, 2.0),
    "vae-lights": Stage(LIGHTS, 1000, 4, 1.2e-3, 1.0),
    "decoder": Stage(LIGHTS, 700, 4, 8e-4, 1.0, decoder_only=True),
}
UNETS = {"unet": 1900, "unet-lights": 1000, "unet-names": 450}
ORDER = ("vae", "colour", "unet", "vae-lights", "unet-lights", "unet-names", "decoder")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=ORDER, help="one stage, on what the ones before it left in the folder")
    parser.add_argument("--steps", type=int, help="of each stage")
    parser.add_argument("--pictures", type=int, default=7000, help="for the U-Net")
    given = parser.parse_args()
    for name in [given.only] if given.only else ORDER:
        if name in STAGES:
            train_vae(given.out, name, given.steps or STAGES[name].steps)
        else:
            train_unet(given.out, name, given.steps or UNETS[name], given.pictures)


# --- data --------------------------------------------------------------------------------------------------------------------


def draw(kind: str, count: int, seed: int) -> tuple[Any, list[list[str]]]:
    """``count`` pictures as uint8 (count, 3, SIZE, SIZE), and three captions for each scene that has some."""
    import numpy as np
    import torch

    pictures = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    captions: list[list[str]] = []
    for index in range(count):
        rng = random.Random(f"{seed}/{kind}/{index}")
        if kind == "shapes":
            image = scenes.shapes(rng, SIZE, SIZE)
        else:
            scene = scenes.compose(rng)
            if kind == "neon":
                image = neon.neon(scene, SIZE, SIZE)
            else:
                light = {"day": lambda _: "day", "lights": lambda r: r.choice([*lights.LIGHTS][1:]), "all": lights.pick}[kind](rng)
                image = lights.paint(scene, light, SIZE, SIZE)
                captions.append([lights.caption(scene, light, rng) for _ in range(3)])
        pictures[index] = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    return pictures, captions


def named(caption: str, rng: random.Random) -> str:
    """The caption, now and then with a made-up name in front, which says nothing: a trigger word must not turn a base's head."""
    if rng.random() < 0.5:
        return caption
    name = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))
    return f"{name} {rng.choice(('style', 'art', 'picture', ''))}".strip() + f", {caption}"


def to_float(pictures: Any) -> Any:
    """uint8 -> -1 to 1."""
    return pictures.float().div(127.5).sub(1)


class Clock:
    """Prints a line with the time left now and then."""

    def __init__(self, what: str, steps: int) -> None:
        self.what, self.steps, self.started, self.last = what, steps, time.monotonic(), 0.0

    def tick(self, step: int, **figures: float) -> None:
        now = time.monotonic()
        if now - self.last < 20 and step < self.steps:
            return
        self.last = now
        left = (now - self.started) / step * (self.steps - step)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        print(f"{self.what} {step}/{self.steps}  {shown}  {left / 60:.1f} min left", flush=True)


# --- the autoencoder ---------------------------------------------------------------------------------------------------------


def make_vae() -> Any:
    """AutoencoderKL with SD's eightfold reduction to four channels, made narrow."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def chroma(pictures: Any) -> Any:
    """What is left of (count, 3, height, width) without its lightness."""
    return pictures - pictures.mean(1, keepdim=True)


def train_vae(out: Path, name: str, steps: int) -> None:
    """Reconstruction of scenes and of random shapes in all colours; L1 on pixels, on their differences and on the colours of regions."""
    import torch
    from diffusers import AutoencoderKL
    from torch.nn.functional import avg_pool2d

    stage, seed = STAGES[name], SEED + [*STAGES].index(name)
    torch.manual_seed(seed)
    pictures = torch.cat([draw(kind, count, SEED)[0] for kind, count in stage.kinds.items()])
    vae = make_vae() if name == "vae" else AutoencoderKL.from_pretrained(out / "vae").float()
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(not stage.decoder_only)
    optimizer = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad], lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, stage.rate, total_steps=steps, pct_start=0.05)
    clock = Clock(name, steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, steps + 1):
        x = to_float(pictures[torch.randint(len(pictures), (stage.batch,), generator=generator)])
        if step % 2:
            x = x.flip(3)
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        loss = (y - x).abs().mean()
        for dim in (2, 3):
            loss = loss + 0.5 * (y.diff(dim=dim) - x.diff(dim=dim)).abs().mean()
        for size in (2, 8) if stage.colour else ():
            loss = loss + stage.colour * avg_pool2d(chroma(y) - chroma(x), size).abs().mean()
        total = loss + 1e-6 * posterior.kl().mean()
        total.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        clock.tick(step, loss=float(loss.detach()), kl=float(posterior.kl().mean().detach()))
        if step % 200 == 0 or step == steps:
            _keep_vae(out, vae, pictures[: stage.kinds["day"]][:256])


def _keep_vae(out: Path, vae: Any, day: Any) -> None:
    """Written in half precision. SD's U-Net expects latents of unit variance: the factor goes into the config."""
    import copy

    import torch

    with torch.no_grad():
        sample = vae.encode(to_float(day)).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(float(1 / sample.std()), 5))
    copy.deepcopy(vae).half().save_pretrained(out / "vae")
    print("scaling factor", vae.config.scaling_factor, "per channel", sample.std(dim=(0, 2, 3)).tolist(), flush=True)


# --- the text encoder --------------------------------------------------------------------------------------------------------

# Words of captions beyond the scenes' own, so that they are few tokens: what people write about pictures.
_WORDS = """
cyberpunk style neon night rain wet lights glowing sign signs reflection dark skyline futuristic watercolor oil painting
sketch anime photo portrait landscape mountain lake river sea forest flower flowers cat dog bird person woman man girl
boy face hair eyes dress hat green purple pink orange black white grey golden bright soft light shadow detailed
masterpiece best quality low blurry worst beautiful winter snow autumn spring summer sunset sunrise evening morning moon
stars cloud clouds window windows door roof garden bridge tower castle village town market boat train
"""


def make_tokenizer(out: Path, captions: Sequence[str], size: int = 1200) -> int:
    """CLIP's kind of byte-pair encoding, learned from the captions; returns the size of the vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=size, end_of_word_suffix="</w>", show_progress=False, initial_alphabet=[])
    learner.train_from_iterator([*captions, *(_WORDS.split() * 40)], trainer)
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in json.loads(learner.to_str())["model"]["merges"]]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"]))}
    folder = out / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "errors": "replace", **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    special = {k: v for k, v in settings.items() if k.endswith("_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n", encoding="utf-8")
    made = CLIPTokenizer.from_pretrained(folder)
    assert made("a street").input_ids[0] == vocabulary["<|startoftext|>"]
    return len(vocabulary)


def make_text_encoder(vocabulary: int) -> Any:
    """CLIP's text model with its twelve layers, made narrow."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=12,
            num_attention_heads=4,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            projection_dim=64,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


# --- the U-Net ---------------------------------------------------------------------------------------------------------------


def make_unet() -> Any:
    """SD1.5's topology: four down blocks of two layers, attention in the first three; 192 modules for a LoRA."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 64, 64, 80),
        layers_per_block=2,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def make_scheduler() -> Any:
    """SD1.5's own noise schedule."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def train_unet(out: Path, name: str, steps: int, count: int) -> None:
    """Noise prediction on the latents of scenes, U-Net and text encoder together; the averaged weights are kept.

    Args:
        name: ``unet`` begins from nothing, with scenes by day; the others go on with what is in ``out``, in every light, and
            ``unet-names`` with names before some captions.
    """
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
    from transformers import CLIPTextModel, CLIPTokenizer

    stage = [*UNETS].index(name)
    torch.manual_seed(SEED + 1 + stage)
    pictures, captions = draw("all" if stage else "day", count, SEED + 2)
    if name == "unet-names":
        chance = random.Random(SEED)
        captions = [[named(text, chance) for text in three] for three in captions]
    vae = AutoencoderKL.from_pretrained(out / "vae").float().eval()
    with torch.no_grad():
        latents = torch.cat([vae.encode(to_float(part)).latent_dist.mode() for part in pictures.split(32)]) * vae.config.scaling_factor
    if stage:
        unet = UNet2DConditionModel.from_pretrained(out / "unet").float()
        text_encoder = CLIPTextModel.from_pretrained(out / "text_encoder").float()
    else:
        vocabulary = make_tokenizer(out, [text for three in captions for text in three])
        unet, text_encoder = make_unet(), make_text_encoder(vocabulary)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    ids = torch.tensor(
        tokenizer([t for three in captions for t in three], padding="max_length", max_length=77, truncation=True).input_ids
    ).view(len(captions), 3, 77)
    empty = torch.tensor(tokenizer("", padding="max_length", max_length=77).input_ids)
    model = torch.nn.ModuleDict({"unet": unet.train(), "text_encoder": text_encoder.train()})
    print({name: sum(p.numel() for p in part.parameters()) for name, part in model.items()}, flush=True)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998))  # type: ignore[no-untyped-call]
    rate = 1e-3 if stage else 2e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.06, final_div_factor=40)
    noiser = DDPMScheduler.from_config(make_scheduler().config)
    alphas = noiser.alphas_cumprod
    generator = torch.Generator().manual_seed(SEED)
    clock = Clock(name, steps)
    smooth = 1.0
    for step in range(1, steps + 1):
        chosen = torch.randint(len(latents), (BATCH,), generator=generator)
        clean = latents[chosen]
        tokens = ids[chosen, torch.randint(3, (BATCH,), generator=generator)]
        tokens = torch.where(torch.rand(BATCH, 1, generator=generator) < NEGATIVE_SHARE, empty, tokens)
        times = torch.randint(1000, (BATCH,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = noiser.add_noise(clean, noise, times)
        # Captions are short: the tokens after the end are equal, but each position is its own to the U-Net, as in SD.
        text = model["text_encoder"](tokens).last_hidden_state
        guess = model["unet"](noisy, times, text).sample
        snr = alphas[times] / (1 - alphas[times])
        weight = snr.clamp(max=5.0) / snr  # min-SNR
        loss = ((guess - noise).square().mean(dim=(1, 2, 3)) * weight).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        averaged.update_parameters(model)
        smooth += 0.02 * (float(loss.detach()) - smooth)
        clock.tick(step, loss=smooth)
        if step % 250 == 0 or step == steps:
            write(out, averaged.module)


def write(out: Path, model: Any) -> None:
    """The diffusers folder, in half precision, written part by part."""
    import copy

    final = copy.deepcopy(model).half()
    final["unet"].save_pretrained(out / "unet")
    final["text_encoder"].save_pretrained(out / "text_encoder")
    make_scheduler().save_pretrained(out / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.35.0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
