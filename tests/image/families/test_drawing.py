# SPDX-License-Identifier: Apache-2.0
"""THE test of a family: from the same noise and the same embeddings our drawing and diffusers' own pipeline make the same latents."""

from __future__ import annotations

import pytest
from builders.strangers import sd3
from loraforge_image.testing import check_drawing

from loraforge import RunConfig

CASES = [
    ("sd15", {}, "ddim"),
    ("sd15", {}, "euler"),
    ("sd15", {}, "euler_a"),
    ("sd15", {}, "dpmpp_2m"),
    ("sd2", {"prediction": "v_prediction"}, "ddim"),
    ("sdxl", {}, "euler_a"),
    ("sdxl", {"prediction": "v_prediction"}, "ddim"),
    ("sd3", {}, "euler"),
]


def loaded(family: str, base, **keys):
    from loraforge_image.families.stable_diffusion.sd2 import SD2
    from loraforge_image.families.stable_diffusion.sd15 import SD15
    from loraforge_image.families.stable_diffusion.sdxl import SDXL
    from loraforge_image.records import ImageKeys

    families = {"sd15": SD15(), "sd2": SD2(), "sdxl": SDXL(), "sd3": sd3().StableDiffusion3()}
    config = RunConfig(train_data_dir="x", base_model=str(base), precision="fp32")
    return families[family].load_base(config, ImageKeys(**keys).model_dump())


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_what_diffusers_warns_of_is_not_printed(family, sd_bases):
    from diffusers.utils import logging

    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    loaded(family, sd_bases(family))
    assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize(("family", "options", "sampler"), CASES)
def test_it_draws_what_diffusers_pipeline_draws(family, options, sampler, cfg, sd_bases):
    check_drawing(loaded(family, sd_bases(family, **options)), cfg=cfg, sampler=sampler)


WRONG = {
    "sign": lambda base, real: lambda noisy, levels, *rest: -real(noisy, levels, *rest),
    "time": lambda base, real: lambda noisy, levels, *rest: real(noisy, levels * 0.5, *rest),
    "prompts": lambda base, real: (
        lambda noisy, levels, texts, extras: real(noisy, levels, {k: v.flip(0) for k, v in texts.items()}, extras)
    ),
}


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
@pytest.mark.parametrize("fault", [*WRONG, "guidance", "latents", "sizes"])
def test_what_is_wrong_is_found(fault, family, sd_bases):
    base = loaded(family, sd_bases(family))
    if fault in WRONG:
        base.predict = WRONG[fault](base, base.predict)
    elif fault == "guidance":
        base.guide = lambda without, guess, cfg: guess + cfg * (guess - without)
    elif fault == "latents":
        base.latent_shape = lambda width, height: (4, width // 8, height // 8)
    elif family != "sdxl":
        return  # only SDXL is told the sizes
    else:
        real = base.extras
        base.extras = lambda framing: {"time_ids": real(framing)["time_ids"].flip(0)}
    with pytest.raises(AssertionError, match=r"drawn latents differ by|our latents are"):
        check_drawing(base)


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_clip_skip_takes_the_layer_that_diffusers_takes(skip, sd_bases):
    """diffusers counts what is skipped, the WebUIs the layer from the end."""
    import torch

    base = loaded("sd15", sd_bases("sd15"), clip_skip=skip)
    encoder = base.pipe.text_encoder
    if not hasattr(encoder, "text_model"):  # diffusers looks for the level that transformers put away
        object.__setattr__(encoder, "text_model", encoder)
    with torch.no_grad():
        wanted, _ = base.pipe.encode_prompt("a ball", "cpu", 1, False, clip_skip=skip - 1 or None)
        torch.testing.assert_close(base.condition(["a ball"])["context"], wanted)
        torch.testing.assert_close(base.embed("a ball")["context"], wanted[0])


def test_only_above_one_is_a_picture_guided(sd_bases):
    from loraforge_image.families.drawing import guides

    base = loaded("sd15", sd_bases("sd15"))
    assert guides(base, 1.01) and not guides(base, 1.0)
    base.guided = False
    assert not guides(base, 7.0)


def test_the_strength_of_the_guidance_is_told_while_a_picture_is_drawn(sd_bases):
    import torch
    from loraforge_image.families import drawing

    base = loaded("sd3", sd_bases("sd3"))
    seen, real = [], base.predict

    def predict(*given):
        seen.append(base.cfg)
        return real(*given)

    base.predict = predict
    with torch.no_grad():
        drawing.draw(base, torch.device("cpu"), base.condition(["", "x"]), [1], (64, 64), steps=2, cfg=3.5)
    assert seen == [3.5, 3.5] and base.cfg is None
    for training in (True, False):
        base.denoiser.train(training)
        with torch.no_grad():
            drawing.draw(base, torch.device("cpu"), base.condition(["x"]), [1], (64, 64), steps=1, cfg=1.0)
        assert base.denoiser.training is training  # as it was before


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_the_pictures_are_those_of_the_pipeline(family, sd_bases):
    import numpy as np
    import torch
    from loraforge_image.families import drawing

    base = loaded(family, sd_bases(family))
    texts = base.condition(["blue", "a ball"])
    ours = drawing.draw(base, torch.device("cpu"), texts, [3], (96, 64), steps=3, cfg=4.0)[0]
    if family != "sd3":
        base.pipe.scheduler = base.objective.scheduler("ddim", 3, 0, "cpu")
    theirs = base.pipe(
        "a ball", negative_prompt="blue", num_inference_steps=3, guidance_scale=4.0, width=96, height=64,
        generator=[torch.Generator().manual_seed(3)], output_type="np",
    ).images[0]  # fmt: skip
    assert ours.size == (96, 64)
    assert np.abs(np.asarray(ours) / 255 - theirs).max() < 1.01 / 255 and theirs.std() > 0.01


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_what_is_encoded_is_what_is_decoded(family, sd_bases):
    """The scaling and shift of the latents cancel out: what remains is the autoencoder alone."""
    import torch

    base = loaded(family, sd_bases(family))
    vae, pixels = base.pipe.vae, torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        mean, deviation = base.encode(pixels)
        posterior = vae.encode(pixels).latent_dist
        torch.testing.assert_close(base.decode(mean[None]), vae.decode(posterior.mean).sample, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deviation, posterior.std[0] * vae.config.scaling_factor)
    assert mean.shape == base.latent_shape(96, 64)
    assert base.tokens(mean.shape) == (64 // 16) * (96 // 16)  # one of 16 x 16 pixels
