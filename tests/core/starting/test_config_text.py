# SPDX-License-Identifier: Apache-2.0
"""Whatever is written into a config is read again as it was."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from loraforge import ConfigLine
from loraforge.config.yaml_reader import read
from loraforge.starting.config_text import config_file, merged, yaml_text

TEXTS = [
    "tiny-chat",
    "true",
    "no",
    "1e-3",
    "010",
    "",
    "a: b",
    "# x",
    "it's",
    "D:\\法律\\data",
    "'",
    '"',
    "客户 问题",
    "null",
    "~",
    "- a",
    "a\nb",
    "{a}",
    "x,y",
]


@pytest.mark.parametrize(
    "value", [*TEXTS[:5], *TEXTS[6:], TEXTS, {"instruction": "客户问", "a b": "c, d"}, 2e-4, 1.5e-5, 3.0, 7, True, [1, 2.5], 1 / 3]
)
def test_a_value_comes_back_as_it_was(tmp_path, value):
    file = tmp_path / "c.yaml"
    file.write_text(
        config_file(["标题: x"], [ConfigLine("key", value, "why # and\nhow: so \x01"), ConfigLine("last", 1)], ["", "end"]),
        encoding="utf-8",
    )
    values = read(file).values
    assert values["key"].value == value and type(values["key"].value) in (type(value), int) and values["last"].value == 1


@settings(max_examples=150)
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), min_size=1, max_size=12))
def test_any_text_comes_back(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(config_file([], [ConfigLine("key", [text])]), encoding="utf-8")
    assert read(file).values["key"].value == [text]


def test_a_number_keeps_all_its_digits():
    assert float(yaml_text(math.pi * 1e-5)) == math.pi * 1e-5


def test_lines_take_the_place_of_those_of_their_key():
    lines = merged([ConfigLine("a", 1), ConfigLine("b", 2)], [ConfigLine("c", 3), ConfigLine("a", 4)])
    assert [(line.key, line.value) for line in lines] == [("a", 4), ("b", 2), ("c", 3)]
