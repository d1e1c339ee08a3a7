# SPDX-License-Identifier: Apache-2.0
"""The shapes that JSON tables have."""

from __future__ import annotations

import json

import pytest
from builders.text_data import load, problems, write

ROWS = [{"question": "一？", "answer": "好"}, {"question": "二？", "answer": "行"}]
SHAPES = {
    "list": ROWS,
    "columns": {"question": ["一？", "二？"], "answer": ["好", "行"]},
    "pandas": {"question": {"0": "一？", "1": "二？"}, "answer": {"0": "好", "1": "行"}},
    "pandas split": {"columns": ["question", "answer"], "index": [0, 1], "data": [["一？", "好"], ["二？", "行"]]},
    "lists with a header": [["question", "answer"], ["一？", "好"], ["二？", "行"]],
    "by key": {"q1": ROWS[0], "q2": ROWS[1]},
    "wrapped": {"version": "1", "data": ROWS},
    "wrapped beside another list": {"tags": ["a", "b"], "data": ROWS},
    "one part": {"train": ROWS},
    "messages alone": [[{"role": "user", "content": q["question"]}, {"role": "assistant", "content": q["answer"]}] for q in ROWS],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_rows(tmp_path, shape):
    records, _ = load(write(tmp_path / "d.json", json.dumps(SHAPES[shape])))
    assert [(r.instruction, r.output, r.side) for r in records] == [("一？", "好", None), ("二？", "行", None)]


def test_lines_in_a_json_file_and_one_single_row(tmp_path):
    records, notes = load(write(tmp_path / "d.json", "\n".join(map(json.dumps, ROWS))))
    assert len(records) == 2 and any("JSON Lines" in note for note in notes)
    assert load(write(tmp_path / "e.json", json.dumps(ROWS[0])))[0][0].output == "好"


def test_what_is_left_out_of_a_wrapper_is_named_and_uneven_columns_stop(tmp_path):
    _, notes = load(write(tmp_path / "d.json", json.dumps({"meta": {"a": 1}, "data": ROWS})))
    assert any("left out: meta" in note for note in notes)
    assert (
        "not equally long: question 2, answer 1"
        in problems(write(tmp_path / "e.json", json.dumps({"question": ["一", "二"], "answer": ["好"]})))[0]
    )


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("column", ["answer", "input"])
def test_nan_is_an_empty_cell(tmp_path, kind, column):
    row = {"question": "一？", "answer": "好", "input": "材料"} | {column: float("nan")}
    file = write(tmp_path / f"d.{kind}", json.dumps([row] if kind == "json" else row))
    if column == "answer":
        assert "'answer' is empty" in problems(file)[0]
    else:
        assert load(file)[0][0].input == ""


SLIPS = {
    "a comma before a bracket": '[{"instruction": "q", "output": "a, // ,] b",},]',
    "comments": '// 我的\n[{"instruction": "q", /* x */ "output": "a, // ,] b"} // y\n]',
    "a comma and a comment": '[{"instruction": "q", "output": "a, // ,] b"}, /* x */ ]',
}


@pytest.mark.parametrize("shape", SLIPS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_commas_and_comments_that_json_does_not_know(tmp_path, shape, mark):
    records, notes = load(write(tmp_path / "d.json", mark + SLIPS[shape]))
    assert [(r.instruction, r.output) for r in records] == [("q", "a, // ,] b")]
    assert any("which JSON does not know, are passed over" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [("d.jsonl", '{"instruction": "q", "output": "a"},\n{"instruction": "r", "output": "b"},\n'),
     ("d.jsonl", '[{"instruction": "q", "output": "a"},\n{"instruction": "r", "output": "b"}]\n'),
     ("d.jsonl", '{\n"instruction": "q",\n"output": "a"\n}\n{\n"instruction": "r",\n"output": "b"\n}\n'),
     ("d.json", '{\n"instruction": "q",\n"output": "a"\n}\n{\n"instruction": "r",\n"output": "b"\n}\n'),
     ("d.json", '{"instruction": "q", "output": "a"} {"instruction": "r", "output": "b"}')],
)  # fmt: skip
def test_lists_and_lines_that_are_mixed_up(tmp_path, name, text):
    records, notes = load(write(tmp_path / name, text))
    assert [(r.instruction, r.output) for r in records] == [("q", "a"), ("r", "b")] and notes


@pytest.mark.parametrize(
    "text", ["[{'instruction': 'q'}]", '[{"instruction": "q" "output": "a"}]', '[{"instruction": "q",, "output": "a"}]', "[1, 2"]
)
def test_what_is_no_json_stays_an_error_with_its_line(tmp_path, text):
    assert "d.json:1: is not valid JSON" in problems(write(tmp_path / "d.json", text))[0]


@pytest.mark.parametrize("name", ["d.json", "d.jsonl"])
def test_a_key_that_stands_twice_is_a_bad_row(tmp_path, name):
    row = '{"instruction": "q", "output": "a", "output": "b"}'
    assert "has 'output' twice" in problems(write(tmp_path / name, f"[{row}]" if name == "d.json" else row))[0]
    same = row.replace('"b"', '"a"')
    assert load(write(tmp_path / name, f"[{same}]" if name == "d.json" else same))[0][0].output == "a"
