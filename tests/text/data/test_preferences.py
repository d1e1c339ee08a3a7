# SPDX-License-Identifier: Apache-2.0
"""Answers that the data call bad are never learned."""

from __future__ import annotations

import json

import pytest
from builders.text_data import load, problems, write

U = {"role": "user", "content": "问"}


def said(text: str) -> dict:
    return {"role": "assistant", "content": text}


PAIRS = {
    "LLaMA-Factory, alpaca": {"instruction": "问", "input": "", "chosen": "好", "rejected": "坏"},
    "LLaMA-Factory, sharegpt": {"conversations": [{"from": "human", "value": "问"}], "chosen": {"from": "gpt", "value": "好"}, "rejected": {"from": "gpt", "value": "坏"}},
    "TRL": {"prompt": "问", "chosen": "好", "rejected": "坏"},
    "TRL, messages": {"prompt": [U], "chosen": [said("好")], "rejected": [said("坏")]},
    "TRL, prompt inside": {"chosen": [U, said("好")], "rejected": [U, said("坏")]},
    "UltraFeedback": {"prompt": "问", "chosen": [U, said("好")], "rejected": [U, said("坏")]},
}  # fmt: skip


@pytest.mark.parametrize("shape", PAIRS)
def test_pairs_stop_with_the_line_that_learns_the_good_ones(tmp_path, shape):
    file = write(tmp_path / "d.jsonl", json.dumps(PAIRS[shape]) + "\n" + json.dumps(PAIRS[shape]))
    [told] = problems(file)
    assert "columns: {output: chosen}" in told and "rejected" in told
    made, _ = load(file, columns={"output": "chosen"})
    assert [(m.instruction, m.output, m.history) for m in made] == [("问", "好", ())] * 2
    assert "never learned" in problems(file, columns={"output": "rejected"})[0]


@pytest.mark.parametrize("name", ["label", "kto_tag", "desirable", "评价"])
@pytest.mark.parametrize(("good", "bad"), [(True, False), (1, 0), ("true", "false"), ("好", "坏")])
def test_feedback_stops_and_learns_only_the_good_ones(tmp_path, name, good, bad):
    lines = [{"messages": [U, said("好" if i % 2 else "坏")], name: good if i % 2 else bad} for i in range(6)]
    file = write(tmp_path / "d.jsonl", "\n".join(map(json.dumps, lines)))
    [told] = problems(file)
    assert "3 of 6 answers bad" in told and f"columns: {{label: {name}}}" in told
    made, notes = load(file, columns={"label": name})
    assert [m.output for m in made] == ["好"] * 3 and any("3 rows whose answer is marked as bad" in note for note in notes)


def test_labels_of_another_kind_are_a_column_like_others(tmp_path):
    made, notes = load(write(tmp_path / "a.csv", "问题,答案,label\n一,答,合同\n二,答,侵权\n"))
    assert len(made) == 2 and any("not used: label" in note for note in notes)
    file = write(tmp_path / "b.csv", "问题,答案,label\n一,答,1\n二,答,0\n")  # a class
    assert len(load(file, columns={"label": ""})[0]) == 2
    assert len(load(write(tmp_path / "c.csv", "问题,答案,label\n一,答,1\n二,答,1\n"))[0]) == 2
    found = problems(write(tmp_path / "d.csv", "问题,答案,label\n一,答,1\n二,答,vielleicht\n"), columns={"label": "label"})
    assert "label: 'vielleicht' says neither good nor bad" in found[0]


def test_a_field_with_an_empty_name_has_no_column(tmp_path):
    file = write(tmp_path / "d.csv", "问题,答案,思考\n一,答,想\n")
    assert load(file)[0][0].messages and not load(file, columns={"reasoning": ""})[0][0].messages


WORDS = [
    ("correct", "wrong"), ("right", "incorrect"), ("thumbs up", "thumbs down"), ("Thumbs_Up", "Thumbs-Down"), ("好", "不好"), ("合格", "不合格"),
    ("👍", "👎"), ("👍🏽", "👎🏿"), ("采纳", "未采纳"), ("满意", "不满意"), ("有用", "无用"), ("ＹＥＳ", "ＮＯ"), ("good ", " Bad"), ("pass", "fail"),
    (1.0, 0.0), (1, -1), ("✅", "❌"), ("accepted", "rejected"), ("like", "dislike"),
]  # fmt: skip


def feedback(tmp_path, name, *values):
    lines = [{"instruction": f"问{i}", "output": "答", name: value} for i, value in enumerate(values)]
    return write(tmp_path / "d.jsonl", "\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize(("good", "bad"), WORDS)
def test_words_that_judge_are_understood(tmp_path, good, bad):
    file = feedback(tmp_path, "label", good, bad, good, bad)
    assert "2 of 4 answers bad" in problems(file)[0]
    assert [m.instruction for m in load(file, columns={"label": "label"})[0]] == ["问0", "问2"]


@pytest.mark.parametrize("name", ["是否采纳", "是否正确", "is_correct", "用户反馈", "Rating", "thumbs", "点赞"])
def test_columns_that_judge_are_known_by_their_names(tmp_path, name):
    assert f"columns: {{label: {name}}}" in problems(feedback(tmp_path, name, "是", "否", "是"))[0]


@pytest.mark.parametrize("third", ["neutral", "一般", "?"])
def test_a_third_value_does_not_hide_the_bad_ones(tmp_path, third):
    assert "1 of 3 answers bad" in problems(feedback(tmp_path, "label", "good", "bad", third))[0]


@pytest.mark.parametrize(
    ("name", "values"),
    [("rating", [1, 5]), ("评分", [1, 2, 3, 4, 5]), ("label", [1, 2]), ("score", ["0", "1", "2"]), ("评价", ["甲等", "乙等", "丙等"]),
     ("label", ["prima", "mies"]), ("label", ["good", "neutral", "soso"]), ("星级", ["1星", "5星"])],
)  # fmt: skip
def test_values_that_may_judge_are_asked_about(tmp_path, name, values):
    file = feedback(tmp_path, name, *values * 3)
    [told] = problems(file)
    assert "may judge the answers" in told and 'columns: {label: ""}' in told
    assert len(load(file, columns={"label": ""})[0]) == 3 * len(values)


@pytest.mark.parametrize(
    ("name", "values"), [("标签", ["合同", "侵权", "婚姻"] * 4), ("标签", list("一二三四五六七八九十")), ("评价", [f"写得不错{i}" for i in range(20)]),
                         ("score", [i / 37 for i in range(30)]), ("label", ["合同"] * 9), ("label", ["", None] * 3)]
)  # fmt: skip
def test_values_that_judge_nothing_are_no_stop(tmp_path, name, values):
    assert len(load(feedback(tmp_path, name, *values))[0]) == len(values)


REJECTED = ["response_rejected", "rejected_response", "Rejected Answer", "non_preferred_output", "dispreferred", "错误答案", "错误的回答", "负样本",
            "负例回答", "bad_response", "incorrect_answers", "差的回答", "拒绝的回答", "worse answer", "loser", "reject"]  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
@pytest.mark.parametrize("good", ["output", "回答", "messages", "chosen", "preferred_output", "正确答案"])
def test_columns_of_bad_answers_are_known_and_the_advice_names_the_good_one(tmp_path, name, good):
    value = [U, said("好")] if good == "messages" else "好"
    row = ({} if good == "messages" else {"instruction": "问"}) | {good: value, name: "坏"}
    file = write(tmp_path / "d.jsonl", json.dumps(row))
    [told] = problems(file)
    assert f"columns: {{output: {good}}}" in told and f"'{name}'" in told
    [made], notes = load(file, columns={"output": good})
    assert (made.instruction, made.output) == ("问", "好")
    assert any(f"not used: {name}" in note for note in notes) and not any(f"input: {name}" in note for note in notes)
    assert "never learned" in problems(file, columns={"output": name})[0]


def test_bad_answers_without_good_ones_name_what_there_is(tmp_path):
    [told] = problems(write(tmp_path / "d.jsonl", json.dumps({"frage": "问", "antwort": "好", "rejected": "坏"})))
    assert "frage, antwort" in told and "..." not in told
