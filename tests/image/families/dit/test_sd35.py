# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion 3.5 without its T5, which many leave out, and with a shift that depends on the size."""

from __future__ import annotations

import pytest
from builders.dit import sd35
from builders.tiny_images import make_sd3
from loraforge_image.records import ImageKeys

from loraforge import RunConfig


@pytest.mark.parametrize(("name", "usual"), [("base", (28, 7.0)), ("stable-diffusion-3.5-large-turbo", (4, 1.0))])
def test_without_t5_zeros_are_read_in_its_place(name, usual, tmp_path):
    """And the distilled one, which its name tells, is drawn as it was made for, with a word about it."""
    import torch
    from loraforge_image.testing import check_drawing

    folder = make_sd3(tmp_path / name, t5=False)
    family, config = sd35.CASE.family(), RunConfig(train_data_dir="x", base_model=str(folder), precision="fp32")
    base = family.load_base(config, {})
    assert (base.usual_steps, base.usual_cfg) == usual
    assert any("is not meant to be trained" in one for one in family.remarks(config, ImageKeys())) == ("turbo" in name)
    with torch.no_grad():
        context = base.embed("a ball")["context"]
    assert base.pipe.text_encoder_3 is None and context.shape == (77 + 256, 32)
    assert context[:77].any() and not context[77:].any()
    check_drawing(base, steps=2, tolerance=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_is_trained_without_a_shift_and_drawn_with_the_schedulers(dynamic):
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
    from loraforge_image.families.dit.sd35 import SD35Base

    schedule = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    made = SD35Base.make_objective(type("Base", (), {"pipe": type("Pipe", (), {"scheduler": schedule})})())
    assert made.level(0.5, 1024) == pytest.approx(0.5)
    theirs = FlowMatchEulerDiscreteScheduler.from_config(schedule.config)
    theirs.set_timesteps(4, mu=calculate_shift(1024, 256, 4096, 0.5, 1.15) if dynamic else None)
    torch.testing.assert_close(made.scheduler("euler", 4, 1024, "cpu").timesteps, theirs.timesteps)
