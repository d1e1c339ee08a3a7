# SPDX-License-Identifier: Apache-2.0
"""Columns that may say which rows are not to be learned."""

from __future__ import annotations

import pytest
from builders.text_data import load, problems, write

NAMES = [
    "训练",
    "是否启用",
    "有效",
    "已作废",
    "删除",
    "采用",
    "enabled",
    "is_valid",
    "deleted",
    "Is Active",
    "archived",
    "use",
    "keep",
    "draft",
    "mask",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("values", [("是", "否"), ("true", "false"), ("1", "0"), ("yes", "no")])
def test_a_mark_of_rows_stops_until_it_is_said_what_it_means(tmp_path, name, values):
    file = write(tmp_path / "d.csv", f"问题,答案,{name}\n一？,好,{values[0]}\n二？,行,{values[1]}\n")
    assert f"the column '{name}' may say which rows are not to be learned" in problems(file)[0]
    assert [r.instruction for r in load(file, columns={"weight": name})[0]] == ["一？"]
    assert len(load(file, columns={"weight": ""})[0]) == 2


@pytest.mark.parametrize("name", ["训练", "有效", "use", "keep"])
def test_words_in_such_a_column_are_something_else(tmp_path, name):
    file = write(tmp_path / "d.csv", f"问题,答案,{name}\n一？,好,每周\n二？,行,每天\n")
    assert len(load(file)[0]) == 2


@pytest.mark.parametrize("state", ["作废", "已失效", "草稿", "Deprecated", "inactive", "已删除"])
@pytest.mark.parametrize("name", ["状态", "status"])
def test_a_state_in_which_a_row_is_hardly_meant_stops_the_run(tmp_path, name, state):
    file = write(tmp_path / "d.csv", f"问题,答案,{name}\n一？,好,{state}\n二？,行,有效\n三？,行,有效\n")
    assert f"the column '{name}' says '{state}' of 1 of 3 rows" in problems(file)[0]
    assert len(load(file, columns={"weight": ""})[0]) == 3


def test_other_states_and_other_columns_do_not(tmp_path):
    file = write(tmp_path / "d.csv", "问题,答案,状态,备注\n一？,好,有效,作废\n二？,行,现行,草稿\n")
    assert len(load(file)[0]) == 2


@pytest.mark.parametrize(
    ("values", "told"), [(("训练", "测试"), True), (("train", "dev"), True), (("训练", "训练"), False), (("训练", "合同"), False)]
)
def test_a_column_that_parts_the_rows_is_told_with_its_line(tmp_path, values, told):
    file = write(tmp_path / "d.csv", f"问题,答案,集合\n一？,好,{values[0]}\n二？,行,{values[1]}\n")
    assert any("columns: {split: 集合}" in note for note in load(file)[1]) == told
    if told:
        assert [r.side for r in load(file, columns={"split": "集合"})[0]] == ["held-out", "train"]
