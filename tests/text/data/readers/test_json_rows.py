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
