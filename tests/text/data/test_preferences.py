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
