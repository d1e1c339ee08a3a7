"""Files, and rows of one file, that name the same things differently."""

from __future__ import annotations

import json

import pytest
from builders.text_data import load, problems, write

PAIRS = [("question", "answer"), ("instruction", "output"), ("prompt", "completion"), ("问题", "答案"), ("query", "response")]


def lines(*rows) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.mark.parametrize("one", PAIRS)
@pytest.mark.parametrize("other", PAIRS)
def test_rows_that_name_a_field_differently(tmp_path, one, other):
    rows = [{asked: f"问{i}", answered: f"答{i}", "input": "料"} for i, (asked, answered) in enumerate([one, other, one, other])]
    made, notes = load(write(tmp_path / "d.jsonl", lines(*rows)))
    assert [(m.instruction, m.output, m.input) for m in made] == [(f"问{i}", f"答{i}", "料") for i in range(4)]
    assert sum("no row has both" in note for note in notes) == (0 if one == other else 2)


def test_two_names_that_one_row_has_both_stay_doubtful(tmp_path):
    rows = [{"question": "问", "query": "问二", "output": "答"}, {"query": "问", "output": "答"}]
    assert "could all be 'instruction'" in problems(write(tmp_path / "d.jsonl", lines(*rows)))[0]


@pytest.mark.parametrize(
    "columns", [{"instruction": "客户问", "output": "律师答"}, {"instruction": "客户问", "output": "律师答", "system": "身份"}]
)
def test_columns_hold_for_the_files_that_have_them(tmp_path, columns):
    write(tmp_path / "a.jsonl", lines({"instruction": "一", "output": "甲"}))
    write(tmp_path / "b.csv", "客户问,律师答\n二,乙\n")
    if "system" in columns:
        write(tmp_path / "c.csv", "问题,答案,身份\n三,丙,律师\n")
    made, _ = load(tmp_path, columns=columns)
    assert [(m.instruction, m.output) for m in made] == [("一", "甲"), ("二", "乙"), ("三", "丙")][: len(made)] and len(made) == len(
        columns
    )
    assert made[-1].system == ("律师" if "system" in columns else None)


def test_a_column_that_no_file_has_is_an_error(tmp_path):
    write(tmp_path / "a.jsonl", lines({"instruction": "一", "output": "甲"}))
    write(tmp_path / "b.csv", "问题,答案\n二,乙\n")
    assert all("there is no column '身份'" in told for told in problems(tmp_path, columns={"system": "身份"}))


@pytest.mark.parametrize("tool", ["天平", "手术刀；镊子", "Excel"])
def test_a_column_of_other_tools_is_not_used(tmp_path, tool):
    made, notes = load(write(tmp_path / "d.csv", f"问题,答案,工具\n一,甲,{tool}\n二,乙,\n"))
    assert len(made) == 2 and not made[0].tools and any("not used: 工具" in note for note in notes)


@pytest.mark.parametrize("broken", ['"[{""name"": "', '"{}"', '"[1]"'])
def test_tools_that_are_badly_written_are_bad_rows(tmp_path, broken):
    assert "expected a list of tools" in problems(write(tmp_path / "d.csv", f"问题,答案,工具\n一,甲,{broken}\n"))[0]


def test_bad_rows_are_counted_once(tmp_path):
    file = write(tmp_path / "d.csv", "问题,答案,备注\n,,x\n一,甲,\n,,y\n")
    assert problems(file)[-1].startswith("Bad rows: 2.")


@pytest.mark.parametrize("kind", ["csv", "json", "xlsx"])
@pytest.mark.parametrize("twice", ["备注", "答案", "思考"])
def test_a_name_that_occurs_twice_matters_where_it_is_used(tmp_path, kind, twice):
    table = (
        [["问题", "答案", twice, twice], ["一", "甲", "左", "右"]] if twice != "答案" else [["问题", "答案", "答案"], ["一", "甲", "乙"]]
    )
    file = tmp_path / f"d.{kind}"
    if kind == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in table:
            book.active.append(row)
        book.save(file)
    else:
        write(file, json.dumps(table) if kind == "json" else "\n".join(map(",".join, table)))
    if twice == "备注":
        [made], notes = load(file)
        assert made.output == "甲" and any("not used: 备注, 备注 (2)" in note for note in notes)
    else:
        assert f"the column '{twice}' occurs twice" in problems(file)[0]
