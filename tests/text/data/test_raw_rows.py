# SPDX-License-Identifier: Apache-2.0
"""What stands beside messages, and rows in the shapes of other libraries."""

from __future__ import annotations

import json

import pytest
from builders.text_data import load, problems, write

U = {"role": "user", "content": "问"}
A = {"role": "assistant", "content": "答"}


def rows(tmp_path, *lines):
    return write(tmp_path / "d.jsonl", "\n".join(json.dumps(line, ensure_ascii=False) for line in lines))


WITH_MESSAGES = {
    "whole": {"messages": [U, A]},
    "prompt and completion": {"prompt": [U], "completion": [A]},
    "chosen with its prompt": {"chosen": [U, A]},
    "text and message": {"prompt": "问", "completion": [A]},
    "messages and text": {"messages": [U], "output": "答"},
}


@pytest.mark.parametrize("shape", WITH_MESSAGES)
@pytest.mark.parametrize("column", ["reasoning", "思考过程", "cot"])
def test_reasoning_beside_messages_belongs_to_the_last_answer(tmp_path, shape, column):
    [made], _ = load(rows(tmp_path, WITH_MESSAGES[shape] | {column: "想"}))
    assert (made.messages[-1].content, made.messages[-1].reasoning) == ("答", "想")
    [plain], _ = load(rows(tmp_path, WITH_MESSAGES[shape]))
    assert plain.messages == () and (plain.instruction, plain.output) == ("问", "答")


@pytest.mark.parametrize("answer", [{**A, "reasoning_content": "甲"}, {**A, "content": "<think>甲</think>答"}])
def test_two_reasonings_that_differ_are_told(tmp_path, answer):
    _, notes = load(rows(tmp_path, *[{"messages": [U, answer], "reasoning": "乙"}] * 3))
    assert any("3 rows have their reasoning in the answer and in a column" in note for note in notes)


@pytest.mark.parametrize("shape", ["whole", "prompt and completion"])
@pytest.mark.parametrize(("column", "value"), [("input", "合同"), ("history", [["早", "好"]]), ("instruction", "一句话"), ("背景", "合同")])
def test_what_is_not_used_beside_messages_is_named_with_its_count(tmp_path, shape, column, value):
    if column == "instruction" and shape != "whole":
        pytest.skip("the prompt is the instruction")
    lines = [WITH_MESSAGES[shape] | {column: value}] * 2 + [WITH_MESSAGES[shape] | {column: ""}]
    made, notes = load(rows(tmp_path, *lines))
    assert len(made) == 3 and any(f"2 rows have messages and also something in '{column}'" in note for note in notes)
    assert not any(f"{column} -> instruction" in note for note in notes)


def test_what_is_among_the_messages_is_no_news(tmp_path):
    _, notes = load(rows(tmp_path, {"messages": [U, A], "prompt": "问"}))  # as in UltraChat
    assert not any("also something" in note for note in notes)


def test_history_before_a_question_with_answers_in_messages_is_used(tmp_path):
    [made], _ = load(rows(tmp_path, {"prompt": "问", "history": [["早", "好"]], "completion": [A]}))
    assert made.history == (("早", "好"),) and (made.instruction, made.output) == ("问", "答")


@pytest.mark.parametrize(("column", "told"), [("甲", False), ("乙", True)])
def test_two_system_messages_that_differ_are_told(tmp_path, column, told):
    [made], notes = load(rows(tmp_path, {"messages": [{"role": "system", "content": "甲"}, U, A], "system": column}))
    assert made.system == "甲" and any("has a system message and another" in note for note in notes) == told


SHAPES = {
    "BELLE": ({"conversation": [{"human": "早", "assistant": "好"}, {"human": "问", "assistant": "答"}]}, {}),
    "as Parquet sorts it": ({"conversation": [{"assistant": "好", "human": "早"}, {"assistant": "答", "human": "问"}]}, {}),
    "XTuner": ({"conversation": [{"system": "", "input": "早", "output": "好"}, {"input": "问", "output": "答"}]}, {}),
    "hh-rlhf": (
        {"chosen": "\n\nHuman: 早\n\nAssistant: 好\n\nHuman: 问\n\nAssistant: 答", "rejected": "\n\nHuman: 早\n\nAssistant: 坏"},
        {"output": "chosen"},
    ),
    "OpenAI, preference": (
        {
            "input": {"messages": [{"role": "user", "content": "早"}, {"role": "assistant", "content": "好"}, U], "tools": []},
            "preferred_output": [A],
            "non_preferred_output": [{"role": "assistant", "content": "坏"}],
        },
        {"output": "preferred_output"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_other_libraries(tmp_path, shape):
    row, columns = SHAPES[shape]
    if columns:
        assert f"columns: {{output: {columns['output']}}}" in problems(rows(tmp_path, row))[0]
    [made], _ = load(rows(tmp_path, row), columns=columns)
    assert (made.history, made.instruction, made.output) == ((("早", "好"),), "问", "答")


def test_an_answer_that_quotes_a_dialogue_stays_as_it_is(tmp_path):
    quoted = "Human: 早\n\nAssistant: 好"
    [made], _ = load(rows(tmp_path, {"instruction": "写", "output": quoted}))
    assert made.output == quoted


@pytest.mark.parametrize("system", [[{"text": "律师"}], ["律师"], [{"type": "text", "text": "律师"}]])
def test_a_system_message_in_parts(tmp_path, system):
    parts = [{"role": one["role"], "content": [{"text": one["content"]}]} for one in (U, A)]  # as Bedrock writes them
    [made], _ = load(rows(tmp_path, {"system": system, "messages": parts}))
    assert (made.system, made.instruction, made.output) == ("律师", "问", "答")
    assert "system: expected text" in problems(rows(tmp_path, {"system": {"a": 1}, "messages": parts}))[0]


LEFT_OUT = [
    ("loss", 0, 1), ("train", False, True), ("weight", "0%", "100%"), ("权重", "０％", "１００％"), ("trainable", "no", "yes"),
    ("是否训练", "否", "是"), ("learn", 0.0, 1.0), ("权重", "×", "√"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "no", "yes"), LEFT_OUT)
def test_rows_that_are_not_to_be_learned(tmp_path, column, no, yes):
    made, notes = load(rows(tmp_path, *({"instruction": f"问{i}", "output": "答", column: no if i % 2 else yes} for i in range(6))))
    assert [m.instruction for m in made] == ["问0", "问2", "问4"] and any("3 rows with weight 0" in note for note in notes)


@pytest.mark.parametrize("column", ["mask", "loss_mask", "ignore", "skip", "不训练"])
def test_marks_that_could_mean_either_stop_and_ask(tmp_path, column):
    file = rows(tmp_path, *({"instruction": f"问{i}", "output": "答", column: i % 2} for i in range(6)))
    assert f"columns: {{weight: {column}}}" in problems(file)[0]
    assert len(load(file, columns={"weight": column})[0]) == 3
    assert len(load(file, columns={"weight": ""})[0]) == 6


def test_a_second_weight_that_says_otherwise_stops(tmp_path):
    line = {"instruction": "问", "output": "答", "weight": 1}
    assert "columns: {weight: loss}" in problems(rows(tmp_path, line | {"loss": 0}))[0]
    assert len(load(rows(tmp_path, line | {"loss": 1}))[0]) == 1


@pytest.mark.parametrize("key", ["trainable", "train", "loss", "weight", "learn"])
def test_messages_that_are_not_to_be_learned(tmp_path, key):
    [made], _ = load(rows(tmp_path, {"messages": [U, {**A, key: False}, U, {**A, key: True}]}))
    assert [one.learn for one in made.messages if one.role == "assistant"] == [False, True]


@pytest.mark.parametrize("key", ["mask", "loss_mask", "ignore", "skip"])
@pytest.mark.parametrize("value", [True, False, 0, 1])
def test_masks_of_messages_stop(tmp_path, key, value):
    assert f"'{key}' does not say what is learned" in problems(rows(tmp_path, {"messages": [U, {**A, key: value}]}))[0]


def test_a_given_weight_that_is_none_is_a_bad_row(tmp_path):
    file = rows(tmp_path, {"instruction": "问", "output": "答", "w": "viel"})
    assert "w: 'viel' is neither yes nor no" in problems(file, columns={"weight": "w"})[0]
