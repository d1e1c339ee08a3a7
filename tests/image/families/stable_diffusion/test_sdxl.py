# SPDX-License-Identifier: Apache-2.0
"""What SDXL is told of a picture's size and crop: the order of diffusers' pipeline, and the place that was really cut out."""

from __future__ import annotations

import itertools

import pytest
from builders.tiny_images import load_sd
from loraforge_image.data.buckets import Bucket, fit
from loraforge_image.families import Framing
from loraforge_image.families.stable_diffusion.sdxl import SDXL, SDXLBase
from loraforge_image.records import ImageKeys, Picture

from loraforge import KeySet, RunConfig, Span


def test_the_sizes_stand_in_the_order_of_diffusers_pipeline(sd_bases):
    import torch

    pipe = load_sd(sd_bases("sdxl"), "sdxl")
    base = SDXLBase(pipe, torch.float32, ImageKeys().model_dump())
    found = base.extras(Framing(original=(1000, 700), crop=(30, 5), target=(64, 96)))["time_ids"]
    # theirs: (height, width), (top, left), (height, width)
    theirs = pipe._get_add_time_ids((700, 1000), (5, 30), (96, 64), torch.float32, pipe.text_encoder_2.config.projection_dim)
    assert found.tolist() == theirs[0].tolist()


@pytest.mark.parametrize(("size", "step", "shape"), [((200, 100), 64, (64, 64)), ((96, 240), 64, (64, 64)), ((120, 90), 64, (64, 64)),
                                                     ((230, 100), 16, (80, 48)), ((100, 190), 16, (48, 80))])  # fmt: skip
def test_the_crop_that_is_told_is_the_crop_that_is_seen(size, step, shape, sd_bases, tmp_path, monkeypatch):
    import numpy as np
    import torch
    from PIL import Image

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    picture = Image.effect_noise(size, 90).convert("RGB")
    picture.save(tmp_path / "a.png")
    config = RunConfig(train_data_dir="x", base_model=str(sd_bases("sdxl")), precision="fp32", lora_rank=2)
    ratio = max(shape) / min(shape)
    keys = ImageKeys(resolution=64, bucket_step=step, bucket_max_ratio=ratio, crop="random", sample_prompts=[])
    made = SDXL().load(config, KeySet({RunConfig: config, ImageKeys: keys}), torch.device("cpu"))
    seen: list = []
    real = made._base.encode
    monkeypatch.setattr(made._base, "encode", lambda pixels: (seen.append(pixels), real(pixels))[1])
    example = made.encode(Picture(where="a", path=str(tmp_path / "a.png"), caption="a", sha256="abc"), [Span("a", True)])
    factor = max(shape[0] / size[0], shape[1] / size[1])
    large = picture.resize((round(size[0] * factor), round(size[1] * factor)), Image.Resampling.LANCZOS)
    places = set()
    for pixels, extras in zip(seen, example["extras"], strict=True):
        height, width, top, left, high, wide = extras["time_ids"].tolist()
        assert (width, height, wide, high) == (*size, *shape)
        cut = np.asarray(large.crop((left, top, left + wide, top + high)), dtype=np.float32) / 127.5 - 1
        assert np.allclose(cut.transpose(2, 0, 1), pixels[0].numpy(), atol=1e-6)
        places.add((left, top))
    assert len(places) > 1  # random crops were among them


def test_of_a_long_caption_the_first_window_is_the_pooled_one(sd_bases):
    """And a caption of one window has the ids of the tokenizers themselves, each with its own padding."""
    import torch

    pipe = load_sd(sd_bases("sdxl"), "sdxl")
    base = SDXLBase(pipe, torch.float32, ImageKeys().model_dump())
    short, long = "a ball", "a ball on a wall, " * 9
    wanted = [t(short, padding="max_length", max_length=77, return_tensors="pt").input_ids for t in (pipe.tokenizer, pipe.tokenizer_2)]
    assert base.token_ids(short, 1).equal(torch.stack(wanted)) and not wanted[0].equal(wanted[1])
    with torch.no_grad():
        both, first = base.condition([long]), base.embed_ids(base.token_ids(long, 1)[None])
    assert both["context"].shape == (1, 154, 32)
    torch.testing.assert_close(both["pooled"], first["pooled"])
    torch.testing.assert_close(both["context"][:, :77], first["context"])
    assert not both["context"][:, 77:].allclose(both["context"][:, :77], atol=1e-3)


@pytest.mark.parametrize("where", itertools.product((0.0, 0.5, 1.0), repeat=2))
def test_what_is_cut_off_goes_where_it_is_asked_for(where):
    from PIL import Image

    wide = Image.new("RGB", (300, 100))
    for x in range(300):
        wide.paste((x % 256, x // 256, 0), (x, 0, x + 1, 100))
    red, carry, _ = fit(wide, Bucket(100, 100), where).getpixel((0, 0))
    assert red + 256 * carry == round(200 * where[0])
