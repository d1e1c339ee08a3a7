# SPDX-License-Identifier: Apache-2.0
"""Captions are counted with the base's own tokenizer, and those that are cut are named."""

from __future__ import annotations

import json

from builders.dit import cases
from loraforge_image.families.dit.captions import caption_lengths, encoded_texts
from loraforge_image.records import ImageKeys, Picture

from loraforge import RunConfig, Span

CASE = cases()["z-image"]


def test_tokens_are_those_of_transformers(tiny):
    from transformers import AutoTokenizer

    folder = tiny(CASE) / CASE.family().tokenizer
    texts = ["a ball", "é, 球", "one\na longer one"]
    theirs = AutoTokenizer.from_pretrained(folder)
    lengths = [max(len(theirs(line, add_special_tokens=False).input_ids) for line in text.split("\n")) for text in texts]
    assert caption_lengths(folder, texts, ImageKeys()) == lengths
    assert caption_lengths(folder / "nothing", texts, ImageKeys()) is None


def test_the_older_files_of_a_tokenizer_are_enough(tiny, tmp_path):
    """A vocabulary of bytes and no merges, as files of their own: a token for every byte. And of what is damaged nothing is counted."""
    model = json.loads((tiny(CASE) / CASE.family().tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}', encoding="utf-8")
    texts = ["a ball", "é, 球 on a wall"]
    assert caption_lengths(tmp_path, texts, ImageKeys()) == [len(text.encode()) for text in texts]
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert caption_lengths(tmp_path / "damaged", texts, ImageKeys()) is None


def test_orders_are_counted_with_the_captions():
    assert encoded_texts(["a, b, c", "d"], ImageKeys()) == 3  # with the empty one
    assert encoded_texts(["a, b, c", "d"], ImageKeys(caption_shuffle=True)) == 3 + 6 + 1


def test_what_is_cut_is_told(case, tiny):
    family = case.family()
    template, most = family.text_tokens
    _, read = family.counted(tiny(case))
    texts = ["x" * (read + 1), "x" * 3]
    rows = [(Picture(where=f"row {i}", path="x", caption=text), [Span(text)]) for i, text in enumerate(texts)]
    config = RunConfig(train_data_dir="x", base_model=str(tiny(case)))
    facts, lines = family.examine_captions(config, ImageKeys(), rows)
    assert facts["texts"] == 3 and facts["caption_tokens"] == most
    if family.tokenizer == "tokenizer":  # here every letter is a token, and T5 begins with one more
        (line,) = lines
        assert line in [f"1 caption is cut at {read} tokens: row 0 ({read + more})" for more in (1, 2)]
    facts, lines = family.examine_captions(config, ImageKeys(), rows[1:])
    assert not lines and facts["caption_tokens"] <= template + 4
