# SPDX-License-Identifier: Apache-2.0
"""CSV, TSV and the tables of Markdown."""

from __future__ import annotations

import csv
import io

import pytest
from builders.text_data import load, problems, write

HEAD = ["问题", "答案", "备注"]


@pytest.mark.parametrize("name", ["d.csv", "d.tsv"])
@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_quote_that_swallows_rows_is_a_bad_row(tmp_path, name, columns, lost):
    separator = "\t" if name == "d.tsv" else ","
    lines = [[f"{i}？", f"答{i}", "x"][:columns] for i in range(lost + 2)]
    lines[0][-1] = f'"{lines[0][-1]}'
    lines[lost][-1] += '"'
    text = "\n".join(separator.join(line) for line in [HEAD[:columns], *lines]) + "\n"
    found = problems(write(tmp_path / name, text))
    assert found[0].startswith(f"{name}, row 2: a quote in line 2 seems never to end") and f"down to line {lost + 2}," in found[0]


@pytest.mark.parametrize(
    "answer", ["first, second\nthird, fourth", "有 1,000 元\n有 2,000 元", "一\n二\n三", "甲、乙\n丙，丁", "a,b,c,d\nx", "", "一\n\n二"]
)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_an_answer_of_several_lines_stays_one(tmp_path, answer, quoting):
    made = io.StringIO()
    csv.writer(made, quoting=quoting).writerows([HEAD[:2], ["一？", answer or "好"], ["二？", "行"]])
    assert [r.output for r in load(write(tmp_path / "d.csv", made.getvalue()))[0]] == [answer or "好", "行"]


def test_lines_that_an_unmatched_quote_takes_are_named(tmp_path):
    assert (
        "The lines 2 to 4 are lost by it." in problems(write(tmp_path / "d.csv", '问题,答案\n一？,"好\n二？,行\n三？,"行"\n四？,好\n'))[0]
    )


TABLES = {
    "bars": "| 问题 | 答案 |\n|---|---|\n| 一？ | 好 |\n| 二？ | 行 |\n",
    "none at the ends": "问题 | 答案\n--- | ---\n一？ | 好\n二？ | 行\n",
    "aligned": "| 问题 | 答案 |\n|:---|:---:|\n| 一？ | 好 |\n| 二？ | 行 |\n",
    "another before": "| 甲 | 乙 |\n|---|---|\n| 1 | 2 |\n\n| 问题 | 答案 |\n|---|---|\n| 一？ | 好 |\n| 二？ | 行 |\n",
    "two": "| 问题 | 答案 |\n|---|---|\n| 一？ | 好 |\n\n## 二\n\n| 问题 | 答案 |\n|---|---|\n| 二？ | 行 |\n",
}


@pytest.mark.parametrize("name", ["d.md", "d.markdown"])
@pytest.mark.parametrize("shape", TABLES)
def test_tables_of_markdown(tmp_path, name, shape):
    records, notes = load(write(tmp_path / name, f"# 说明\n\n{TABLES[shape]}\n结束\n"))
    assert [(r.instruction, r.output) for r in records] == [("一？", "好"), ("二？", "行")]
    assert records[0].where.startswith(f"{name}, line ") and any("lines beside them are not: 说明" in note for note in notes)


@pytest.mark.parametrize(
    ("cell", "read"), [(r"a \| b", "a | b"), ("一<br>二", "一\n二"), ("一<br/>二", "一\n二"), ("**重要**", "**重要**")]
)
def test_cells_of_markdown(tmp_path, cell, read):
    assert load(write(tmp_path / "d.md", f"| 问题 | 答案 |\n|---|---|\n| 一？ | {cell} |\n"))[0][0].output == read


def test_a_table_in_an_answer_or_in_a_fence_is_text(tmp_path):
    table = "| 年限 | 月数 |\n|---|---|\n| 一年 | 两个月 |"
    assert load(write(tmp_path / "d.md", f"## 一？\n\n{table}\n"))[0][0].output == table
    fenced = f"```\n{TABLES['bars']}```"
    assert load(write(tmp_path / "e.md", f"## 一？\n\n{fenced}\n"))[0][0].output == fenced
