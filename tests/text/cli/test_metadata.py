# SPDX-License-Identifier: Apache-2.0
"""``loraforge metadata`` advises its own options."""

from __future__ import annotations

import json
import shlex

import pytest
from builders.text_data import write
from click.testing import CliRunner
from loraforge_text.cli.metadata import _as_options, metadata

from loraforge import DataError


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("Write columns: {output: chosen} to", "Write --columns output=chosen to"),
        ('or columns: {label: ""} if', "or --columns label= if"),
        ("columns: {instruction: 客户 问, output: 答}", "--columns 'instruction=客户 问' --columns 'output=答'"),
        ("on_bad_row: skip leaves", "--skip leaves"),
        ("(header_row: 3)", "(--header-row 3)"),
        ("columns: there is no column 'x'.", "columns: there is no column 'x'."),
        ("header_row: row 3 is empty", "header_row: row 3 is empty"),
    ],
)
def test_advice_as_options(told, wanted):
    assert _as_options(told) == wanted


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("问题,答案,错误答案\n一,甲,坏\n二,乙,坏\n", ["甲", "乙"]),
        ("问题,答案,是否采纳\n一,甲,是\n二,坏,否\n", ["甲"]),
        ("问题,答案\n一,甲\n二,\n", ["甲"]),
    ],
)
def test_what_is_advised_works(tmp_path, text, answers):
    file = write(tmp_path / "d.csv", text)
    stopped = CliRunner().invoke(metadata, [str(file)])
    assert isinstance(stopped.exception, DataError)
    words = shlex.split(str(stopped.exception).replace("\n", " "))
    at = next(i for i, word in enumerate(words) if word.startswith("--"))
    advice = words[at : at + (1 if words[at] == "--skip" else 2)]
    done = CliRunner().invoke(metadata, [str(file), *advice])
    assert done.exit_code == 0, done.output
    assert [line.split(",")[1] for line in (tmp_path / "metadata.csv").read_text("utf-8-sig").splitlines()[1:]] == answers


def test_look_says_which_columns_each_file_has_and_writes_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("客户问,律师答\n可以吗？,可以。\n,不可以。\n", encoding="utf-8")
    (tmp_path / "b.xlsx").write_bytes(b"no workbook")
    told = json.loads(CliRunner().invoke(metadata, [str(tmp_path), "--look", "--json"]).output)
    assert told["files"] == [{"file": "a.csv", "rows": 2, "columns": {"客户问": ["可以吗？"], "律师答": ["可以。", "不可以。"]}}]
    assert len(told["problems"]) == 1 and "b.xlsx" in told["problems"][0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "b.xlsx"]
