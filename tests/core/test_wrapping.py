# SPDX-License-Identifier: Apache-2.0
"""Lines are broken where a reader expects it, and what is copied stays whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from loraforge.wrapping import cells, lines, wrap

WHOLE = [
    "`loraforge verify 'output/mine dir' --seal HEX`",
    "'/a folder/with spaces/c.yaml'",
    "/srv/合同（副本）/第一批/表格.csv",
    "output/legal/export/peft/adapter_model.safetensors",
    "loraforge train text configs/法律.yaml --resume",
    "pip install 'loraforge[pictures]'",
    "learning_rate: 0.0002",
    r"D:\法律\data\metadata.csv",
    "[默认：1.0]",
]


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize("part", WHOLE)
@pytest.mark.parametrize(
    "around", ["Look into {} and then go on with whatever comes next. ", "请先看 {}，然后继续做后面的事情，直到全部完成为止。"]
)
def test_what_is_copied_is_never_broken(part, around, width):
    text = wrap("x " * 7 + around.format(part), width)
    assert part in text
    for line in text.split("\n"):
        assert cell_len(line) <= width or part in line


@pytest.mark.parametrize("width", [12, 33, 40, 80])
def test_no_closing_sign_begins_a_line_and_no_opening_one_ends_it(width):
    text = "“留出”的问题（共 12 个，见《数据说明》）已经问过；回答、引用、格式都已核对！还有什么要说的吗？没有……" * 3
    for line in wrap(text, width).split("\n"):
        assert cell_len(line) <= width and not re.match("[。，、；：？！）》”…]", line) and not re.search("[（《“]$", line)


def test_the_lines_of_a_label_hang_under_its_text():
    assert wrap("  advice:     " + "word " * 8, 30).split("\n") == ["  advice:     word word word", "    word word word word word"]
    assert wrap("  封印：      " + "字" * 30, 48).split("\n")[1].startswith(" " * 14 + "字")


@given(st.text(alphabet="ab (（）)，。,.`'/:字符\n-" + "  ", max_size=80), st.integers(1, 30))
def test_nothing_is_lost_and_nothing_is_added(text, width):
    assert "".join(wrap(text, width).split()) == "".join(text.split())


@given(st.text(alphabet="ab字符 ，。（）", max_size=60), st.integers(4, 30))
def test_lines_follow_each_other(text, width):
    found = lines(text, width)
    assert all(a <= b for a, b in found) and all(found[i][1] <= found[i + 1][0] for i in range(len(found) - 1))


def test_cells():
    assert (cells("ab"), cells("字符"), cells("")) == (2, 4, 0)
