# SPDX-License-Identifier: Apache-2.0
"""The columns in which people say who reviewed a row."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from builders.text_checks import said
from loraforge_text.data.columns import SYNONYMS
from loraforge_text.data.table_loader import TableKeys, TableLoader

from loraforge import DataError, KeySet, Review, RunConfig


def load(path: Path, text: str, on_bad_row: str = "stop", **keys) -> tuple[list, list[str]]:
    path.write_text(text, encoding="utf-8")
    config = RunConfig(train_data_dir=str(path), base_model="x", on_bad_row=on_bad_row)
    notes: list[str] = []
    return list(TableLoader().load(config, KeySet({RunConfig: config, TableKeys: TableKeys(**keys)}), notes.append)), notes


def cell(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


@pytest.mark.parametrize("field", ["reviewer", "approved", "waive"])
def test_every_name_of_a_review_column_is_understood_and_used(tmp_path, field):
    value, wanted = {"reviewer": ("张律师", "张律师"), "approved": ("是", True), "waive": ("hedging", ("hedging",))}[field]
    for name in SYNONYMS[field]:
        [record], notes = load(tmp_path / "d.csv", f"问题,答案,{name}\n问,答,{value}\n")
        assert getattr(record.review, {"waive": "waived"}.get(field, field)) == wanted, name
        assert not any("not used" in note for note in notes)
    assert {"reviewer": "审核医师", "approved": "审核结果", "waive": "豁免"}[field] in SYNONYMS[field]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "messages"])
def test_review_columns_in_every_layout_leave_the_fingerprint_alone(tmp_path, kind):
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    said_ = {"reviewer": "张医生", "approved": "yes", "waive": "hedging"}
    row = {"messages": turns} if kind == "messages" else {"instruction": "问", "output": "答"}
    if kind == "csv":
        made = [
            load(tmp_path / "a.csv", "instruction,output,reviewer,approved,waive\n问,答,张医生,yes,hedging\n"),
            load(tmp_path / "b.csv", "instruction,output\n问,答\n"),
        ]
    elif kind == "json":
        made = [load(tmp_path / "a.json", json.dumps([row | said_])), load(tmp_path / "b.json", json.dumps([row]))]
    else:
        made = [load(tmp_path / "a.jsonl", json.dumps(row | said_)), load(tmp_path / "b.jsonl", json.dumps(row))]
    (with_review,), (without,) = made[0][0], made[1][0]
    assert with_review.review == Review("张医生", True, ("hedging",)) and without.review == Review()
    assert with_review.content_hash() == without.content_hash() and with_review == without


@pytest.mark.parametrize(
    ("value", "approved"),
    [("yes", True), ("No", False), ("TRUE", True), ("false", False), ("1", True), ("0", False), ("是", True), ("否", False), ("通过", True),
     ("不通过", False), ("✓", True), ("√", True), ("x", False), ("Ｘ", False), ("", None), (" ", None)],
)  # fmt: skip
def test_decisions(tmp_path, value, approved):
    [record], _ = load(tmp_path / "d.csv", f"instruction,output,approved\n问,答,{value}\n")
    assert record.review.approved is approved
    if value.strip():
        [record], _ = load(tmp_path / "d.jsonl", json.dumps({"instruction": "问", "output": "答", "approved": approved}))
        assert record.review.approved is approved


def test_rows_that_were_not_approved_are_yielded(tmp_path):
    records, _ = load(tmp_path / "d.csv", "instruction,output,approved\n问,答,no\n问二,答二,yes\n")
    assert [record.review.passed for record in records] == [False, True]


def test_a_wrong_review_is_a_bad_row_with_what_may_stand_there(tmp_path):
    text = "instruction,output,审核结果,审核人,waive\n问,答,待定,张三,\n问,答,是,否,\n问,答,是,张三,已看过\n问,答,是,张三,hedging\n"
    with pytest.raises(DataError) as error:
        load(tmp_path / "d.csv", text)
    first, second, third, count = error.value.problems
    assert "d.csv, row 2: 审核结果: '待定'" in first and "通过" in first
    assert "row 3: 审核人: '否'" in second and "row 4: waive: '已看过'" in third and "3" in count
    records, _ = load(tmp_path / "d.csv", text, on_bad_row="skip")
    assert [record.review.waived for record in records] == [("hedging",)]


def test_a_column_of_decisions_called_审核_names_no_reviewer(tmp_path):
    [record], _ = load(tmp_path / "d.csv", "instruction,output,审核,审核人\n问,答,不通过,张三\n")
    assert record.review == Review("张三", False)
    records, _ = load(tmp_path / "d.csv", "instruction,output,审核\n问,答,通过\n问,答,\n")
    assert [record.review for record in records] == [Review(approved=True), Review()]
    with pytest.raises(DataError, match="待审核"):
        load(tmp_path / "d.csv", "instruction,output,审核\n问,答,通过\n问,答,待审核\n")


@pytest.mark.parametrize("nobody", ["待审核", "无", "N/A", "-", "未审核"])
def test_a_placeholder_is_nobody(tmp_path, nobody):
    [record, other], _ = load(tmp_path / "d.csv", f"instruction,output,reviewer\n问,答,{nobody}\n问,答,李四\n")
    assert not record.review.passed and other.review.passed


@pytest.mark.parametrize(
    "written",
    [
        "hedging,near_duplicates",
        "hedging、near_duplicates",
        "hedging; near_duplicates",
        "hedging near_duplicates",
        "hedging，near_duplicates",
    ],
)
def test_waived_checks_are_separated_as_people_write(tmp_path, written):
    [record], _ = load(tmp_path / "d.csv", f"instruction,output,waive\n问,答,{cell(written)}\n")
    assert record.review.waived == ("hedging", "near_duplicates")
    [record], _ = load(tmp_path / "d.csv", "instruction,output,waive\n问,答,*\n")
    assert record.review.waived == ("*",)


def test_lists_in_json_are_understood(tmp_path):
    row = {"instruction": "问", "output": "答", "reviewer": ["张三", "李四"], "waive": ["hedging", "*"]}
    [record], _ = load(tmp_path / "d.jsonl", json.dumps(row))
    assert record.review == Review("张三、李四", None, ("hedging", "*"))
    with pytest.raises(DataError, match="reviewer"):
        load(tmp_path / "d.jsonl", json.dumps(row | {"reviewer": {"name": "张三"}}))
    with pytest.raises(DataError, match="approved"):
        load(tmp_path / "d.jsonl", json.dumps(row | {"approved": ["yes"]}))


def test_review_columns_can_be_named(tmp_path):
    [record], _ = load(tmp_path / "d.csv", "instruction,output,主任\n问,答,王主任\n", columns={"reviewer": "主任"})
    assert record.review.reviewer == "王主任"


def test_chinese_says_it_in_chinese(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    for name, answer in (("hedging", "也许。"), ("personal_data", "13800138000"), ("control_tokens", "</s>"), ("unfinished", "应当，")):
        assert all(unicodedata.category(c) == "Lo" for c in said(name, answer)[0].message[:2])
