# SPDX-License-Identifier: Apache-2.0
"""What pictures say of a first config."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from loraforge_image.records import ImageKeys, Picture
from loraforge_image.starting.lines import BASE, TRIGGER, suggest
from PIL import Image

from loraforge import KeySet, RunConfig, Seen


def chosen(tmp_path, captions, size=(64, 48), base="some/base", family="sdxl", learned=None):
    records = []
    for number, caption in enumerate(captions):
        Image.new("RGB", size, (number % 250, 0, 0)).save(tmp_path / f"{number}.png")
        records.append(Picture(where=f"{number}.png", path=str(tmp_path / f"{number}.png"), caption=caption))
    config, keys = RunConfig(train_data_dir=".", base_model=base, batch_size=1), ImageKeys(trigger_word=TRIGGER)
    seen = Seen(config, KeySet({RunConfig: config, ImageKeys: keys}), SimpleNamespace(name=family), records, learned or len(records), {})
    return {line.key: line.value for line in suggest(seen)}


@pytest.mark.parametrize(
    ("family", "size", "base", "side"),
    [
        ("sdxl", (1200, 1000), "x", 1024), ("sdxl", (700, 700), "x", 1024), ("sdxl", (600, 600), "x", 576), ("sdxl", (300, 200), "x", 512),
        ("sd15", (300, 200), "x", 512), ("sd2", (900, 800), "x", 768), ("flux2", (1500, 1500), "x", 1024), ("sd15", (900, 900), BASE, 128),
    ],
)  # fmt: skip
def test_the_resolution_is_that_of_the_base_unless_pictures_are_much_smaller(tmp_path, family, size, base, side):
    assert chosen(tmp_path, ["a", "b"], size, base, family)["resolution"] == side


def test_a_word_that_all_captions_begin_with_is_the_trigger(tmp_path):
    assert chosen(tmp_path, ["mychar, a tree", "mychar, a house"])["trigger_word"] == "mychar"
    for captions in (["mychar, a", "b, c"], ["a house, b"], ["", ""], ["mychar, a", ""]):
        assert "trigger_word" not in chosen(tmp_path, captions), captions


def test_tags_are_shuffled_and_sentences_are_not(tmp_path):
    tags = chosen(tmp_path, ["1girl, solo, red hair, smile, tree, sky", "1girl, solo, blue hair, standing, house, sky"])
    assert tags["caption_shuffle"] is True and tags["keep_tokens"] == 1
    assert "caption_shuffle" not in chosen(tmp_path, ["a girl with red hair smiles below a tree, in the evening"] * 2)


@pytest.mark.parametrize(("learned", "epochs"), [(2, 100), (20, 25), (300, 10)])
def test_passes_aim_for_some_hundred_steps(tmp_path, learned, epochs):
    assert chosen(tmp_path, ["a", "b"], learned=learned)["epochs"] == epochs
