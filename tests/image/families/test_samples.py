# SPDX-License-Identifier: Apache-2.0
"""The pictures that a run draws: which prompts and seeds, the base without its LoRA, and the one that is shown as a preview."""

from __future__ import annotations

import io

import pytest
from builders.tiny_images import draw_pictures, load_sd
from loraforge_image.families.stable_diffusion.sd15 import SD15
from loraforge_image.records import ImageKeys, Picture
from PIL import Image

from loraforge import KeySet, RunConfig, Span, __version__


@pytest.fixture
def trained(sd_bases, tmp_path, monkeypatch):
    """``trained(sample_prompts=...)``: a model whose LoRA does something, with four pictures encoded, two of them of the class."""
    import torch

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(**values):
        folder = draw_pictures(tmp_path / "pictures", 4, sizes=((64, 64),))
        config = RunConfig(train_data_dir="x", base_model=str(sd_bases("sd15")), precision="fp32", lora_rank=2, lora_dropout=0.0)
        keys = ImageKeys(**{"resolution": 64, "bucket_step": 16, "sample_steps": 2, **values})
        made = SD15().load(config, KeySet({RunConfig: config, ImageKeys: keys}), torch.device("cpu"))
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
        for i in range(4):
            row = Picture(where=str(i), path=str(folder / f"{i}.png"), caption=f"caption {i % 3}", sha256=str(i), prior=i == 0)
            made.encode(row, [Span(row.caption, True)])
        made.on_encoded()
        return made

    return make


def drawn(place) -> list:
    import numpy as np

    return [np.asarray(Image.open(file)).astype(int) for file in sorted(place.glob("*.png"))]


@pytest.mark.parametrize("cfg", [1.0, 5.0])
def test_the_base_is_drawn_as_diffusers_draws_it_with_a_seed_for_each_prompt(cfg, trained, sd_bases, tmp_path):
    """Five prompts: more than are drawn at once."""
    import numpy as np
    import torch

    prompts = [f"a ball {i}" for i in range(5)]
    made = trained(sample_prompts=prompts, sample_seed=70, sample_cfg=cfg)
    made.model.eval()
    sheet = made.sample(tmp_path / "samples", 0)
    assert sheet == tmp_path / "samples" / "grid.png" and made.model.training
    made.sample(tmp_path / "samples", 3)
    base, adapted = (drawn(tmp_path / "samples" / f"step-00000{step}") for step in (0, 3))
    pipe = load_sd(sd_bases("sd15"), "sd15")
    pipe.scheduler = made._base.objective.scheduler("ddim", 2, 0, "cpu")
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompts, negative_prompt=[""] * 5, num_inference_steps=2, guidance_scale=cfg, width=64, height=64,
        generator=[torch.Generator().manual_seed(70 + i) for i in range(5)],
    ).images  # fmt: skip
    assert len(base) == len(adapted) == 5
    for ours, picture, other in zip(base, theirs, adapted, strict=True):
        assert np.abs(ours - np.asarray(picture).astype(int)).max() <= 1
        assert np.abs(ours - other).max() > 1  # the LoRA is back for the next step
    with Image.open(tmp_path / "samples" / "step-000003" / "05-a-ball-4.png") as last:
        settings = f"Steps: 2, Sampler: DDIM, CFG scale: {cfg:g}, Seed: 74, Size: 64x64, Model: sd15, Version: LoRAForge {__version__}"
        assert last.text["parameters"] == f"a ball 4 <lora:run:1>\n{settings}"


@pytest.mark.parametrize(("asked", "prompts"), [(None, ["caption 1", "caption 2", "caption 0"]), (["x", "y"], ["x", "y"])])
def test_what_is_drawn_without_being_asked_are_the_captions_of_ones_own_pictures(asked, prompts, trained):
    assert trained(sample_prompts=asked)._samples._prompts == prompts


def test_without_being_asked_four_are_drawn_and_a_side_is_whole_steps(trained, tmp_path):
    made = trained(sample_prompts=None, resolution=72)
    assert made._samples._size == (64, 64)
    made._seen = [(picture, f"text {number}", bucket) for number, (picture, _, bucket) in enumerate(made._seen * 16)]
    made._texts.prompt = lambda caption, **_: {}  # the encoders are gone already
    made.on_encoded()
    assert made._samples._prompts == ["text 1", "text 2", "text 3", "text 5"]  # every fourth is of the class
    asked = []
    made._samples.best = lambda paths: asked.append(paths) or b"x"
    assert made.files() == {"preview.png": b"x"} and len(asked[0]) == 48
    assert asked[0][:3] == [tmp_path / "pictures" / f"{number}.png" for number in (1, 2, 3)]


def test_nothing_is_drawn_where_nothing_is_wanted(trained, tmp_path):
    made = trained(sample_prompts=[])
    assert made.sample(tmp_path / "samples", 0) is None and made.files() == {}


def test_the_preview_is_the_picture_that_is_most_like_ones_own(trained, tmp_path):
    made = trained(sample_prompts=["a", "b", "c"])
    samples = made._samples
    assert samples.best([]) == b"" and made.files() == {}  # before anything was drawn; the base's own is none
    made.sample(tmp_path / "samples", 0)
    assert made.files() == {}
    made.sample(tmp_path / "samples", 1)
    assert len(samples._last) == 3
    own = [tmp_path / "blue.png", tmp_path / "navy.png"]
    for path, colour in zip(own, ((0, 0, 200), (0, 0, 160)), strict=True):
        Image.new("RGB", (64, 64), colour).save(path)
    samples._last = [(Image.new("RGB", (64, 64), colour), str(colour)) for colour in ((200, 0, 0), (0, 0, 190), (0, 200, 0))]
    with Image.open(io.BytesIO(samples.best(own))) as preview:
        assert preview.getpixel((0, 0)) == (0, 0, 190) and preview.text["parameters"] == "(0, 0, 190)"


def test_the_grid_has_a_row_for_every_step_with_the_same_prompts(trained, tmp_path, monkeypatch):
    from loraforge_image.families import samples

    seen = []
    real = samples.grid
    monkeypatch.setattr(
        samples, "grid", lambda rows, labels, headings: seen.append((len(rows), labels, headings)) or real(rows, labels, headings)
    )
    made = trained(sample_prompts=["a", "b"])
    other = tmp_path / "samples" / "step-000001"  # of an earlier run, with one prompt
    other.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(other / "01.png")
    for step in (0, 20):
        made.sample(tmp_path / "samples", step)
    assert seen == [(1, ["base"], ["a", "b"]), (2, ["base", "step 20"], ["a", "b"])]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["grid.png", "step-000000", "step-000001", "step-000020"]
