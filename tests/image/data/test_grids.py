# SPDX-License-Identifier: Apache-2.0
"""Pictures beside each other, with their labels."""

from __future__ import annotations

import pytest
from loraforge_image.data.grids import _headings, grid

STYLE = "cyberpunk style, neon lights, highly detailed, cinematic, "


def lines(*headings, letters=24):
    return _headings(headings, lambda text: len(text) <= letters)


def test_headings_are_wrapped_between_words():
    assert lines("cyberpunk style, a street in the rain", "a ball") == [["cyberpunk style, a", "street in the rain"], ["a ball"]]
    assert lines("A" * 30) == [["A" * 24, "A" * 6]]
    assert lines() == [] and lines("") == [[]]


def test_no_line_begins_with_a_comma():
    assert lines("赛博朋克风格，一条街道", letters=6) == [["赛博朋克风", "格，一条街道"]]
    assert all(line[0] not in "，。" for line in lines("雨夜，街道，霓虹灯。" * 3, letters=7)[0])


def test_headings_that_are_too_long_lose_their_common_beginning():
    assert lines(STYLE + "a street in the rain", STYLE + "a tall tower") == [["… street in the rain"], ["… tall tower"]]
    assert lines(STYLE + "and a very long street in the rain") == [
        ["cyberpunk style, neon", "lights, highly detailed,", "cinematic, and a very …"]
    ]


@pytest.mark.parametrize("second", [STYLE * 2 + "b", "赛博朋克风格，一座高塔，下雨了，霓虹灯"])
def test_headings_that_look_alike_are_numbered(second):
    first = STYLE * 2 + "a" if second.isascii() else "赛博朋克风格，一条街道，下雨了，霓虹灯"
    other = STYLE * 2 + "c" if second.isascii() else "另一幅"
    found = lines(first, second, other, letters=24)
    assert len({tuple(each) for each in found}) == 3
    same = lines(STYLE, STYLE)
    assert [each[0][:2] for each in same] == ["1.", "2."] and all(len(each) <= 3 for each in same)


def test_a_grid_keeps_its_headings_inside_of_its_columns():
    import numpy as np
    from PIL import Image

    small = Image.new("RGB", (64, 64), (9, 99, 9))
    prompts = [STYLE + "a street in the rain", STYLE + "a tall tower"]
    sheet = np.asarray(grid([[small, small]], ["base"], prompts))
    ink = (sheet.max(axis=2) < 120) & (sheet[:, :, 1] < 90)
    columns = [ink[:, -2 * 156 : -156], ink[:, -156:]]
    assert all(column.any() for column in columns) and (columns[0] != columns[1]).any()
    assert not ink[:, -2 * 156 - 4 : -2 * 156].any() and not ink[:, -6:].any()
