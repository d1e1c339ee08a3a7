# SPDX-License-Identifier: Apache-2.0
"""What a family inherits from the seam, on parts that hold nothing: what is prepared, moved, forgotten, and told apart."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from loraforge_image.families import Diffusion, Framing, ImageBase

torch = pytest.importorskip("torch")


class Config(SimpleNamespace):
    """As diffusers': read by attribute, and like a mapping."""

    def get(self, name, default=None):
        return getattr(self, name, default)

    def items(self):
        return vars(self).items()


class Part(torch.nn.Linear):
    """A part of a pipeline."""

    def __init__(self, **config):
        super().__init__(2, 2)
        self.config, self.asked = Config(**config), []

    def enable_gradient_checkpointing(self):
        self.asked.append({})

    def gradient_checkpointing_enable(self, **options):
        self.asked.append(options)


class Words:
    """A tokenizer."""

    def __init__(self, *words, chat_template=""):
        self.words, self.chat_template = words, chat_template

    def get_vocab(self):
        return {word: number for number, word in enumerate(self.words)}


class Vae(Part):
    """Its decoder doubles what it is given."""

    def __init__(self):
        super().__init__(scaling_factor=4.0, shift_factor=0.5, latent_channels=6, _name="x")
        self.encoder, self.quant_conv, self.post_quant_conv, self.decoder, self.device = (*(torch.nn.Linear(1, 1) for _ in "abcd"), "cpu")

    def encode(self, pixels):
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=pixels, std=pixels / 10))

    def decode(self, latents):
        return SimpleNamespace(sample=2 * latents)


class Base(ImageBase):
    """The seam's defaults."""

    def make_objective(self):
        return None

    def embed(self, caption):
        return {"context": torch.full((2,), len(caption))}

    def predict(self, noisy, levels, conditioning, extras):
        return noisy + levels + conditioning["context"] + extras["more"]


def made(kind=Base, settings=(), **parts):
    parts = {"transformer": Part(sample_size=40), "text_encoder_2": Part(), "text_encoder": Part(), "text_encoder_3": None, **parts}
    scheduler = SimpleNamespace(registered={})
    scheduler.register_to_config = scheduler.registered.update
    pipe = SimpleNamespace(vae=Vae(), scheduler=scheduler, components={**parts, "vae": None}, **parts)
    return kind(pipe, torch.float32, dict(settings))


def test_nothing_of_a_base_learns_or_drops_out_until_it_is_told_to():
    base = made()
    for part in (base.denoiser, base.pipe.vae, base.pipe.text_encoder, base.pipe.text_encoder_2):
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    assert list(base.text_encoders) == ["text_encoder", "text_encoder_2"] and base.device == "cpu" and base.cfg is None
    assert not base.trains_text and made(settings={"train_text_encoder": True}).trains_text


@pytest.mark.parametrize(("asked", "kept"), [("auto", {}), (None, {}), ("epsilon", {"prediction_type": "epsilon"})])
def test_what_it_predicts_is_kept_where_it_is_said(asked, kept):
    assert made(settings={"prediction_type": asked}).pipe.scheduler.registered == kept


@pytest.mark.parametrize(("asked", "gamma"), [({}, 0.0), ({"min_snr_gamma": 0}, 0.0), ({"min_snr_gamma": 5}, 5.0)], ids=str)
def test_levels_are_weighed_only_where_it_is_asked_for(asked, gamma):
    from diffusers import DDPMScheduler

    base = made(type("Noise", (Base,), {"make_objective": lambda self: Diffusion(DDPMScheduler())}), asked)
    assert base.objective.min_snr_gamma == gamma
    errors = torch.ones(3)
    assert base.objective.weigh(errors, torch.tensor([1, 500, 999])).equal(errors) is (gamma == 0)


def test_latents_are_shifted_before_they_are_scaled_and_back():
    base, pixels = made(), torch.tensor([[[[1.0, 2.0]]]])
    torch.testing.assert_close(base.encode(pixels), torch.tensor([[[[2.0, 6.0]]], [[[0.4, 0.8]]]]))  # (1 - 0.5) * 4; 0.1 * 4
    torch.testing.assert_close(base.decode(torch.tensor([2.0, 6.0])), torch.tensor([2.0, 4.0]))
    base.pipe.vae.config.shift_factor = None
    torch.testing.assert_close(base.encode(pixels), torch.tensor([[[[4.0, 8.0]]], [[[0.4, 0.8]]]]))
    torch.testing.assert_close(base.decode(torch.tensor([4.0])), torch.tensor([2.0]))


def test_sizes():
    base = made()
    assert base.latent_shape(96, 64) == (6, 8, 12) and base.tokens((6, 8, 12)) == 24 and base.side == 320
    assert base.extras(Framing((1, 2), (3, 4), (5, 6))) == {}
    for config in ({}, {"sample_size": None}):
        assert made(transformer=Part(**config)).side == 1024


@pytest.mark.parametrize("text", [False, True])
def test_what_learns_is_one_module_that_predicts(text):
    base = made(settings={"train_text_encoder": text})
    names = ["transformer", "text_encoder", "text_encoder_2"][: 3 if text else 1]
    assert [name for name, _ in base.network.named_children()] == names and base.network is base.network
    one = torch.ones(2)
    assert base.network(one, 2 * one, {"context": 4 * one}, {"more": 8 * one}).tolist() == [15.0, 15.0]
    assert base.condition(["a", "abc"])["context"].tolist() == [[1, 1], [3, 3]]
    assert base.condition(["a"], ["abcd"])["context"].tolist() == [[4, 4], [1, 1]]
    assert base.guide(one, 3 * one, 4.0).tolist() == [9.0, 9.0] and base.resolve(names) is names and base.replace() == {}
    base.to("meta")
    assert base.device == "meta" and all(p.is_meta for p in base.network.parameters())
    assert not any(p.is_meta for p in (*base.pipe.vae.parameters(), *(() if text else base.pipe.text_encoder.parameters())))


@pytest.mark.parametrize("text", [False, True])
def test_only_what_learns_is_checkpointed_and_only_what_encoded_is_forgotten(text):
    base = made(settings={"train_text_encoder": text})
    base.enable_gradient_checkpointing()
    asked = [{"gradient_checkpointing_kwargs": {"use_reentrant": False}}] if text else []
    assert [base.denoiser.asked, base.pipe.text_encoder.asked, base.pipe.text_encoder_2.asked] == [[{}], asked, asked]
    base.forget_encoders()
    vae = base.pipe.vae
    assert vae.encoder is None and vae.quant_conv is None and vae.decoder is not None and vae.post_quant_conv is not None
    assert len(base.text_encoders) == 2 and base.denoiser is not None  # captions may be put together in the step
    for _ in range(2):  # twice does no harm
        base.forget_encoders()
        base.forget_text_encoders()
    assert len(base.text_encoders) == (2 if text else 0)


def test_what_decides_a_result_is_part_of_its_key():
    def keys(kind=Base, **parts):
        base = made(kind, **{"tokenizer": Words("a", "b"), "tokenizer_2": Words("c"), **parts})
        return base.latent_key(), base.embed_key("x")

    (latent, embed), other = keys(), keys(type("Base", (Base,), {"version": 2}))
    assert latent["version"] == embed["version"] == 1 and other == ({**latent, "version": 2}, {**embed, "version": 2})
    assert latent["autoencoder"] == {"scaling_factor": 4.0, "shift_factor": 0.5, "latent_channels": 6}  # no path, which differs anywhere
    assert embed["caption"] == "x" and len(embed["tokenizers"]) == 2 * 64
    same = keys(tokenizer=Words("a", "b"))[1]["tokenizers"]
    others = [
        {"tokenizer": Words("b", "a")},
        {"tokenizer_2": Words("d")},
        {"tokenizer_2": None},
        {"tokenizer": Words("a", "b", chat_template="t")},
    ]
    found = {keys(**parts)[1]["tokenizers"] for parts in others}
    assert same == embed["tokenizers"] not in found and len(found) == 4
    backend = Words("a", "b")
    backend.backend_tokenizer = SimpleNamespace(to_str=lambda: "merges and all")
    assert keys(tokenizer=backend)[1]["tokenizers"] not in (same, *found)
    base = made(tokenizer=Words("a"))
    assert base.embed_key("x") == base.embed_key("x")  # the tokenizers are read once


def test_a_method_that_is_spelt_almost_as_one_of_the_seams_is_named():
    with pytest.raises(TypeError, match=r"Odd\.resolv is never called; did you mean resolve\?"):
        type("Odd", (Base,), {"resolv": lambda self, given: given})
    type("Own", (Base,), {"_resolv": lambda self, given: given, "resolv": 3, "embed_ids": lambda self, ids: ids})
