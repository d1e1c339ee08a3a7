# SPDX-License-Identifier: Apache-2.0
"""Tokens are counted without transformers, as its tokenizer makes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loraforge_image.families.base_files import EMBEDDED
from loraforge_image.families.stable_diffusion.caption_length import counts, windows
from loraforge_image.records import ImageKeys

from loraforge import RunConfig

TEXTS = [
    "a ball",
    "",
    "1girl, solo,red  hair!!! it's <|endoftext|> 12345",
    "青い髪の少女、制服",
    "café ﬁne Ünïcode 🙂",
    "x!y ! z",
    "\t a\u3000b\n",
]


def tokenizer(folder):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_as_many_tokens_as_transformers_makes(family, sd_bases):
    config = RunConfig(train_data_dir="x", base_model=str(sd_bases(family)))
    names = ["tokenizer", "tokenizer_2"] if family == "sdxl" else ["tokenizer"]
    right = [tokenizer(sd_bases(family) / name) for name in names]
    wanted = [max(len(one(line, add_special_tokens=False).input_ids) for one in right for line in text.split("\n")) for text in TEXTS]
    assert counts(config, family, ImageKeys(), TEXTS) == wanted


@pytest.fixture(scope="module")
def embedded():
    return tokenizer(EMBEDDED["tiny-sd"] / "tokenizer")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40))
def test_whatever_stands_in_a_caption(embedded, text):
    config = RunConfig(train_data_dir="x", base_model="tiny-sd")
    assert counts(config, "sd15", ImageKeys(), [text]) == [len(embedded(text, add_special_tokens=False).input_ids)]


def test_the_longest_of_several_captions_counts_and_the_mark_does_not():
    config = RunConfig(train_data_dir="x", base_model="tiny-sd")
    one, two = counts(config, "sd15", ImageKeys(), ["a", "a, b, c"])
    assert counts(config, "sd15", ImageKeys(), ["a\na, b, c"]) == [two] and one < two
    assert counts(config, "sd15", ImageKeys(keep_tokens_separator="|||"), ["a ||| b, c"]) == [two]


@pytest.mark.parametrize(("tokens", "count"), [(0, 1), (75, 1), (76, 2), (150, 2), (151, 3), (225, 3), (1000, 3)])
def test_windows(tokens, count):
    assert windows(tokens) == count


def test_one_file_holds_a_tokenizer_too_and_none_is_no_error(tmp_path, sd_bases):
    import shutil

    folder = shutil.copytree(sd_bases("sd15"), tmp_path / "base")
    config = RunConfig(train_data_dir="x", base_model=str(folder))
    right = counts(config, "sd15", ImageKeys(), TEXTS)
    words = json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "tokenizer" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words, "merges": []}}), encoding="utf-8")
    (other / "tokenizer" / "vocab.json").unlink()
    config = RunConfig(train_data_dir="x", base_model=str(other))
    assert counts(config, "sd15", ImageKeys(), TEXTS) == right
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "tokenizer" / "vocab.json").write_text("[]", encoding="utf-8")
    assert counts(RunConfig(train_data_dir="x", base_model=str(broken)), "sd15", ImageKeys(), TEXTS) is None
    assert counts(RunConfig(train_data_dir="x", base_model=str(tmp_path / "none")), "sd15", ImageKeys(), TEXTS) is None
