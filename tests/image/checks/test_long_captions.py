# SPDX-License-Identifier: Apache-2.0
"""Captions that are longer than what is read of them: said, with what to set."""

from __future__ import annotations

import pytest
from loraforge_image.checks.long_captions import LongCaptions
from loraforge_image.records import ImageKeys, Picture

from loraforge import KeySet, RunConfig


def find(captions, base="tiny-sd", trigger=None, **keys):
    config = RunConfig(train_data_dir="x", base_model=str(base))
    rows = [Picture(where=f"{i}.txt", path=f"{i}.png", caption=caption) for i, caption in enumerate(captions)]
    return list(LongCaptions().run(config, KeySet({RunConfig: config, ImageKeys: ImageKeys(trigger_word=trigger, **keys)}), rows))


@pytest.mark.parametrize(("setting", "length", "advice"), [("auto", 225, None), ("auto", 226, "Shorten them"), (75, 75, None), (75, 76, "max_caption_tokens: 150"),
                                                           (75, 160, "max_caption_tokens: 225"), (150, 151, "max_caption_tokens: 225"), (225, 226, "Shorten them")])  # fmt: skip
def test_what_to_set(setting, length, advice):
    found = find(["short", "! a " * (length // 2) + "!" * (length % 2)], max_caption_tokens=setting)
    assert bool(found) == bool(advice)
    if advice:
        assert found[0].rows == (1,) and advice in found[0].message and f"1.txt ({length})" in found[0].message
        assert ("never read" in found[0].message) == (length > 225)
        assert found[0].message.startswith("1 caption is longer than")


def test_the_first_five_are_named_and_the_others_counted():
    (found,) = find(["! a " * 60] * 8, max_caption_tokens=75)
    assert found.rows == tuple(range(8)) and found.message.count(".txt") == 5 and "8 captions" in found.message


def test_the_trigger_word_and_every_alternative_count():
    text = "! a " * 37 + "!"
    assert not find([text], max_caption_tokens=75)
    assert find([text], trigger="zz", max_caption_tokens=75) and find([f"short\n{text} a"], max_caption_tokens=75)


def test_bases_that_read_captions_in_another_way_are_left_alone(sd_bases):
    assert not find(["! a " * 500], base=sd_bases("sd3")) and not find(["! a " * 500], base="no/such-base")
