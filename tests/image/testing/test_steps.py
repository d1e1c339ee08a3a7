# SPDX-License-Identifier: Apache-2.0
"""The checks of image families find what an author gets wrong, and say where to look."""

from __future__ import annotations

import re

import pytest
from builders.dit import cases, z_image
from builders.strangers import sd3


@pytest.fixture
def base_of(sd_bases):
    """``base_of(name=method)``: the stranger's base on its tiny pipeline, with something else in it."""
    import torch
    from diffusers import StableDiffusion3Pipeline

    def get(**changes):
        kind = type("Odd", (sd3().StableDiffusion3Base,), changes)
        return kind(StableDiffusion3Pipeline.from_pretrained(sd_bases("sd3")), torch.float32, {})

    return get


def _other_levels(self):
    from loraforge_image.families import FlowMatching

    return FlowMatching(self.pipe.scheduler, sigmas=lambda steps: [(1 - i / steps) ** 2 for i in range(steps)])


def _own(name):
    return getattr(sd3().StableDiffusion3Base, name)


def _mixed(self, noisy, *rest):
    return _own("predict")(self, noisy + 0.1 * (noisy - noisy.mean(0, keepdim=True)), *rest)


DRAWN = {
    "predict": ({"predict": lambda self, *given: -_own("predict")(self, *given)}, "Look at predict (sign"),
    "guide": ({"guide": lambda self, without, guess, cfg: guess + cfg * (guess - without)}, "With cfg=1 they agree: look at guide"),
    "negative": (
        {"embed_negative": lambda self, caption: self.embed(caption and f"no {caption}")},
        "With negative='' they agree: look at embed_negative",
    ),
    "levels": ({"make_objective": _other_levels}, "With steps=1 they agree: look at the levels"),
    "rows": ({"predict": _mixed}, "One prompt at a time they agree: look at join"),
}


@pytest.mark.parametrize("mistake", DRAWN)
def test_a_drawing_that_differs_is_said_with_where_to_look(mistake, base_of):
    from loraforge_image.testing import check_drawing

    changes, said = DRAWN[mistake]
    guided = {"cfg": 1.0} if mistake == "rows" else {}
    with pytest.raises(AssertionError, match=re.escape(said)):
        check_drawing(base_of(**changes), steps=2, size=(48, 32), **guided)


def test_rows_that_change_each_other_are_named(base_of):
    from loraforge_image.testing import check_batch

    with pytest.raises(AssertionError, match=r"is predicted otherwise among 4 captions than alone, by .*Look at join"):
        check_batch(base_of(predict=_mixed), size=(48, 32))


def _scaled(self, *given):
    said = _own("predict")(self, *given)
    return said + 0.5 * (said - said.detach())


def _checkpointed(self):
    type(self).predict = _scaled


STEPS = {
    "loss": ({"predict": lambda self, *given: -_own("predict")(self, *given)}, "the loss is .*, with plain diffusers"),
    "gradient": ({"predict": _scaled}, "the gradient of transformer.* differs from that of plain diffusers and peft by 0.5"),
    "checkpointing": ({"enable_gradient_checkpointing": _checkpointed}, "differs from that of what is learned without gradient checkpointing"),
    "silence": ({"predict": lambda self, noisy, *given: _own("predict")(self, noisy, *given).detach() + 0 * noisy.requires_grad_()}, "learn"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", STEPS)
def test_a_step_that_differs_is_named(mistake, sd_bases):
    from loraforge_image.testing import check_gradients

    def plain(pipe, clean, noise, level, caption):
        import torch

        context, _, pooled, _ = pipe.encode_prompt(caption, caption, caption, do_classifier_free_guidance=False)
        noisy, time = (1 - level) * clean + level * noise, torch.tensor([1000 * level])
        said = pipe.transformer(noisy, encoder_hidden_states=context, pooled_projections=pooled, timestep=time).sample
        return (noise - clean - said).square().mean()

    changes, said = STEPS[mistake]
    base = type("Odd", (sd3().StableDiffusion3Base,), changes)
    with pytest.raises(AssertionError, match=said):
        check_gradients(type("OddFamily", (sd3().StableDiffusion3,), {"base": base})(), sd_bases("sd3"), plain, size=(64, 64))


WALKS = {
    "numbers": (lambda walk: walk.own(1), "parameters, the transformer has"),
    "left": (lambda walk: walk.enter("layers.1", 0), r"walk\.enter\('', 0\)"),
    "lacks": (lambda walk: walk.modules.pop("layers.0.attention.to_q"), r"lacks layers that get a LoRA: layers\.0\.attention\.to_q"),
    "name": (lambda walk: walk.modules.update({"layers.0.layers.0.x": (1, 1, 1)}), "'layers.0.layers.0.x', which the transformer has not"),
    "size": (lambda walk: walk.modules.update({"layers.0.attention.to_q": (1, 2, 3)}), "walk has 1 inputs and 2 outputs of 'layers.0.att"),
}


def test_a_walk_that_counts_otherwise_is_named(tmp_path):
    from loraforge_image.testing import check_walk

    own = type(cases()["z-image"].family())
    folder = z_image.make(tmp_path / "base")
    for change, said in WALKS.values():

        def walk(self, config, walk, change=change):
            own.walk(self, config, walk)
            change(walk)

        with pytest.raises(AssertionError, match=said):
            check_walk(type("Odd", (own,), {"walk": walk})(), folder)
