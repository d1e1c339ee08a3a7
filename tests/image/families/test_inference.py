# SPDX-License-Identifier: Apache-2.0
"""What a picture is drawn with, and what is written into it; the drawing itself is held against diffusers in test_drawing.py."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from loraforge_image.families import drawing
from loraforge_image.families.inference import ImageInferenceModel
from PIL import Image

from loraforge import ConfigError, __version__

THERE = SimpleNamespace(type="there")
SAMPLERS = {"ddim": "DDIM", "euler_a": "Euler a"}


def model(multiple: int = 16, guided: bool = True, side: int = 520, usual=(20, 7.0), **settings) -> ImageInferenceModel:
    objective = SimpleNamespace(samplers=SAMPLERS, chosen=lambda sampler: "ddim" if sampler == "auto" else sampler)
    base = SimpleNamespace(
        settings=settings, side=side, guided=guided, objective=objective, device=THERE, condition=lambda texts, without: [*without, *texts]
    )
    base.usual_steps, base.usual_cfg, base.text_encoders = *usual, {}
    base.denoiser = SimpleNamespace(parameters=lambda: (), to=lambda device: None)
    return ImageInferenceModel(base, "network", "the base", multiple)


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, by the names of ``draw``'s arguments, and which adapter was mounted before it."""
    seen: list = []

    def draw(base, device, texts, seeds, size, *, steps, cfg, sampler):
        seen.append({"device": device, "texts": texts, "seeds": seeds, "size": size, "steps": steps, "cfg": cfg, "sampler": sampler})
        return [Image.new("RGB", size, (seed, 0, 0)) for seed in seeds]

    monkeypatch.setattr(drawing, "draw", draw)
    monkeypatch.setattr("loraforge.adapters.lora.set_adapter", lambda network, adapter: seen.append((network, adapter)))
    return seen


def parameters(answer) -> str:
    with Image.open(io.BytesIO(answer.data)) as picture:
        return picture.text["parameters"]


def test_every_prompt_is_drawn_with_its_own_seed_and_says_all_that_draws_it_again(drawn):
    asked = {"negative": "blue", "steps": 3, "cfg": 4.5, "size": "64x32", "sampler": "euler_a", "seed": 40}
    answers = model(clip_skip=2).generate(["a", "b"], {"one": 0.8, "two": 1.0}, **asked)
    texts = ["blue", "blue", "a", "b"]  # the negative ones first
    wanted = {"device": THERE, "texts": texts, "seeds": [40, 41], "size": (64, 32), "steps": 3, "cfg": 4.5, "sampler": "euler_a"}
    assert drawn == [("network", {"one": 0.8, "two": 1.0}), wanted]
    for number, answer in enumerate(answers):
        assert answer.suffix == ".png" and Image.open(io.BytesIO(answer.data)).getpixel((0, 0)) == (40 + number, 0, 0)
        assert parameters(answer) == (
            f"{'ab'[number]} <lora:one:0.8> <lora:two:1>\nNegative prompt: blue\nSteps: 3, Sampler: Euler a, CFG scale: 4.5, "
            f"Seed: {40 + number}, Size: 64x32, Model: the base, Clip skip: 2, Version: LoRAForge {__version__}"
        )


@pytest.mark.parametrize(("adapter", "called"), [("mine", " <lora:mine:1>"), (None, "")])
def test_what_is_drawn_without_being_told_more(adapter, called, drawn):
    (answer,) = model(clip_skip=1).generate(["a"], adapter)
    wanted = {"device": THERE, "texts": ["", "a"], "seeds": [0], "size": (512, 512), "steps": 20, "cfg": 7.0, "sampler": "ddim"}
    assert drawn == [("network", adapter), wanted]
    told = "Steps: 20, Sampler: DDIM, CFG scale: 7, Seed: 0, Size: 512x512, Model: the base"
    assert parameters(answer) == f"a{called}\n{told}, Version: LoRAForge {__version__}"


def test_what_is_usual_for_another_base_is_drawn_there(drawn):
    one, other = (model(usual=(4, 1.0)).generate(["a"], None, **asked)[0] for asked in ({}, {"steps": 9}))
    assert [(each["steps"], each["cfg"], each["texts"]) for each in drawn if isinstance(each, dict)] == [(4, 1.0, ["a"]), (9, 1.0, ["a"])]
    assert "Steps: 4, Sampler: DDIM, CFG scale: 1," in parameters(one) and "Steps: 9," in parameters(other)


def test_without_guidance_no_negative_prompt_is_drawn_and_one_that_is_asked_for_is_refused(drawn):
    model().generate(["a"], None, cfg=1.0, negative="blue")
    model(guided=False).generate(["a"], None)
    assert [each["texts"] for each in drawn if isinstance(each, dict)] == [["a"], ["a"]]
    with pytest.raises(ConfigError, match="--negative: this base draws without guidance"):
        model(guided=False).generate(["a"], None, negative="blue")


@pytest.mark.parametrize(
    ("written", "settings", "size"),
    [
        (" 64 x 96", {}, (64, 96)), ("64X96", {}, (64, 96)), ("96×64", {}, (96, 64)), (None, {}, (512, 512)), ("", {}, (512, 512)),
        (None, {"resolution": 100}, (96, 96)), (None, {"resolution": None}, (512, 512)), ("64x96", {"resolution": 100}, (64, 96)),
    ],
)  # fmt: skip
def test_the_size_is_what_was_asked_for_or_trained_or_what_the_base_is_made_for(written, settings, size):
    assert model(**settings)._size(written) == size


def test_settings_behind_a_prompt_are_refused_with_the_options():
    from loraforge_image.sample_prompts import has_flags

    assert [has_flags(text) for text in ("a cat --w 64", "a cat --n blurry", "a cat --ar 3:2", "a cat -- b", "a --w")] == [
        True,
        True,
        False,
        False,
        False,
    ]
