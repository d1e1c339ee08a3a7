# SPDX-License-Identifier: Apache-2.0
"""Captions as the denoiser reads them: fresh orders in every step, equal bits wherever they are encoded, windows for long ones."""

from __future__ import annotations

import random

import pytest
from loraforge_image.families.latent_cache import Cache
from loraforge_image.families.stable_diffusion.sd15 import SD15
from loraforge_image.families.training.texts import Texts
from loraforge_image.records import ImageKeys

from loraforge import RunConfig


@pytest.fixture
def texts(tmp_path, sd_bases):
    """``texts(key=value)``: made, with its base, on the CPU."""
    import torch

    def make(cache="cache", **values):
        config = RunConfig(train_data_dir="x", base_model=str(sd_bases("sd15")), precision="fp32")
        keys = ImageKeys(**values)
        base = SD15().load_base(config, keys.model_dump())
        return Texts(base, keys, Cache(tmp_path / cache), torch.device("cpu")), base

    return make


LONG = "a, b, c, d, e, f, g, h"


def test_captions_of_many_parts_come_in_new_orders_in_every_step(texts):
    made, base = texts(caption_shuffle=True)
    made.add([LONG])
    files = made._cache.made
    seen = [made.drawn([LONG], random.Random(step))["context"] for step in range(30)]
    assert sum(not seen[0].equal(one) for one in seen) == 29  # today's eight orders would repeat
    assert made._cache.made == files  # there is no end of them: none is kept on disk
    again = made.drawn([LONG], random.Random(3))["context"]
    assert again.equal(seen[3])
    made.close()
    assert made.live and base.pipe.text_encoder is not None
    assert made.measured([LONG])["context"].equal(base.embed(LONG)["context"])


@pytest.mark.parametrize("keys", [{}, {"caption_shuffle": True}, {"tag_dropout": 0.5}], ids=str)
def test_few_arrangements_are_encoded_once_and_the_encoders_leave(keys, texts):
    made, base = texts(**keys)
    made.add(["a, b, c"])
    right = {text: base.embed(text)["context"] for text in ("a, b, c", "c, b, a", "b")}
    made.close()
    assert not made.live and base.pipe.text_encoder is None
    seen = [made.drawn(["a, b, c"], random.Random(step))["context"] for step in range(60)]
    wanted = {"caption_shuffle": ["c, b, a"], "tag_dropout": ["b"]}.get(next(iter(keys), ""), ["a, b, c"])
    assert all(any(right[text].equal(one) for one in seen) for text in wanted)


def test_a_caption_that_is_encoded_in_the_step_has_the_bits_of_one_that_was_kept(texts):
    few, _ = texts(caption_shuffle=True)
    few.add(["a, b, c"])
    many, _ = texts("other", caption_shuffle=True)
    many.live = True
    for step in range(10):
        assert few.drawn(["a, b, c"], random.Random(step))["context"].equal(many.drawn(["a, b, c"], random.Random(step))["context"])


def test_one_of_several_captions_is_drawn_and_the_first_is_measured(texts):
    made, base = texts()
    made.add(["a ball", "a sphere", "round"])
    right = [base.embed(text)["context"] for text in ("a ball", "a sphere", "round")]
    counts = [0, 0, 0]
    for step in range(300):
        found = made.drawn(["a ball", "a sphere", "round"], random.Random(step))["context"]
        counts[[one.equal(found) for one in right].index(True)] += 1
    assert min(counts) > 70
    assert made.measured(["a ball", "a sphere", "round"])["context"].equal(right[0])


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize(("setting", "length", "windows"), [("auto", 60, 1), ("auto", 76, 2), ("auto", 160, 3), ("auto", 400, 3), (75, 160, 1),
                                                            (150, 30, 2), (225, 160, 3)])  # fmt: skip
def test_a_run_reads_as_many_windows_as_its_longest_caption_needs(setting, length, windows, learns, texts):
    import torch

    made, base = texts(max_caption_tokens=setting, train_text_encoder=learns)
    captions = ["short", " ".join("x" * length)]
    for one in captions:
        made.add([one])
    made.close()
    joined = base.join([made.measured([one]) for one in captions])
    resolved = joined["ids"] if learns else joined["context"]
    assert resolved.shape[:2] == ((2, 1) if learns else (2, 77 * windows))
    assert not learns or resolved.shape[2] == windows
    assert base.facts() == {"max_caption_tokens": 75 * windows}
    # Window by window, each with its own beginning and end: as the whole caption encoded at once.
    _, whole = texts("more", max_caption_tokens=225)
    with torch.no_grad():
        context = base.resolve(joined)["context"] if learns else joined["context"]
        right = whole.embed_ids(torch.stack([whole.token_ids(one, windows) for one in captions]))["context"]
    torch.testing.assert_close(context, right, rtol=1e-5, atol=1e-5)


def test_prompts_are_never_cut(texts):
    made, base = texts(max_caption_tokens=75)
    prompt = " ".join("x" * 160)
    assert made.prompt(prompt)["context"].shape[0] == 3 * 77 and made.read(prompt)["context"].shape[0] == 77
    joined = base.join([made.empty, made.prompt(prompt)])["context"]
    assert joined.shape[:2] == (2, 3 * 77)


def test_a_caption_is_encoded_anew_for_another_layer(texts):
    first, second = (texts(**keys)[0].read("a ball")["context"] for keys in ({}, {"clip_skip": 2}))
    assert first.shape == second.shape and not first.equal(second)


def test_what_is_longer_is_cut_at_the_end(texts):
    _, base = texts(max_caption_tokens=75)
    ids, own = base.token_ids("x " * 80, 1)[0, 0], base.pipe.tokenizer
    assert len(ids) == 77 and (int(ids[0]), int(ids[-1])) == (own.bos_token_id, own.eos_token_id)
    assert len(set(ids[1:-1].tolist())) == 1
    assert [base._windows(found) for found in ([], ["a", "x " * 75], ["x " * 76, "a"])] == [1, 1, 2]


def test_a_hidden_caption_is_what_is_drawn_without(texts, monkeypatch):
    """Of a base that reads a negative prompt otherwise than a prompt; from the same cache."""
    plain, base = texts()

    def embed_negative(self, caption):
        return {"context": self.embed(caption)["context"] + 1}

    monkeypatch.setattr(type(base), "embed_negative", embed_negative)
    made, base = texts()
    wanted = plain.empty["context"] + 1
    assert made.empty["context"].equal(wanted) and made.prompt("", negative=True)["context"].equal(wanted)
    assert made.prompt("")["context"].equal(plain.empty["context"]) and base.blank["context"].equal(plain.empty["context"])
    assert made.prompt("blue", negative=True)["context"].equal(plain.prompt("blue")["context"] + 1)
