# SPDX-License-Identifier: Apache-2.0
"""What the image task says of every run of pictures, whoever's the family."""

from __future__ import annotations

import pytest
from loraforge_image.families.image_family import ImageFamily
from loraforge_image.families.stable_diffusion.family import StableDiffusion
from loraforge_image.task import IMAGE

from loraforge.diagnosis.diagnose import History, diagnose
from loraforge.pipeline import failures
from loraforge.plan import make_plan


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lora_rank", 128, "4 to 64 (16 to 32 suit a style"),
        ("learning_rate", 0.1, "5e-05 to 0.0005 (start at 1e-4; pictures"),
        ("batch_size", 32, "1 to 8 (with a few dozen pictures"),
    ],
)
def test_a_family_that_says_nothing_of_its_bases_gets_the_advice_for_pictures(key, value, said, gallery, host, monkeypatch):
    for kind in (ImageFamily, StableDiffusion):
        monkeypatch.setattr(kind, "typical_ranges", lambda self, base: {})
    plan = make_plan(host, "image", gallery(**{key: value}))
    line = next(line for line in plan.advice if f"{key} is" in line)
    assert said in line and not any(word in line for word in ("medicine", "law", "rows", "2e-4"))


def test_what_lies_in_the_range_for_pictures_draws_no_advice(gallery, host, monkeypatch):
    for kind in (ImageFamily, StableDiffusion):
        monkeypatch.setattr(kind, "typical_ranges", lambda self, base: {})
    assert not make_plan(host, "image", gallery(lora_rank=64, learning_rate=6e-5)).advice
    assert set(IMAGE.usual) == {"lora_rank", "learning_rate", "batch_size"}


def test_a_loss_that_hardly_moved_is_not_put_down_to_answers():
    still = [(step, 1.0 + 0.001 * (step % 2)) for step in range(1, 61)]
    told = {
        pictures: " ".join(d.sentence for d in diagnose(History(still, [], 10, 1e-4, (5e-5, 5e-4), pictures=pictures)))
        for pictures in (True, False)
    }
    assert "answers" in told[False] and "answers" not in told[True] and "samples" in told[True]


def test_too_little_memory_is_not_helped_by_what_only_language_models_have(gallery, host):
    plan = make_plan(host, "image", gallery(precision="fp16"))
    assert failures._helps(plan.config, failures._longest(plan)) == "gradient_checkpointing: true, resolution, precision: fp8"


def test_strengths_stand_side_by_side_with_labels_in_the_users_language(monkeypatch):
    import io

    from loraforge_image.data import grids
    from PIL import Image

    from loraforge import File

    seen = []
    real = grids.grid
    monkeypatch.setattr(
        grids, "grid", lambda rows, labels, headings, side: seen.append(list(headings)) or real(rows, labels, headings, side)
    )
    files = {
        name: File(grids.png(Image.new("RGB", (64, 64 + 32 * i))), ".png") for i, name in enumerate(("base", "neon × 0.5", "neon × 1"))
    }
    for language in ("en", "zh"):
        monkeypatch.setenv("LORAFORGE_LANG", language)
        made = IMAGE.sampling.side_by_side(files)
    assert seen == [["base", "neon, strength 0.5", "neon, strength 1"], ["底模", "neon，强度 0.5", "neon，强度 1"]]
    assert Image.open(io.BytesIO(made.data)).width > 3 * 64  # pictures of several sizes
