# SPDX-License-Identifier: Apache-2.0
"""What is kept of people's thumbs: rows that the product's own loader learns, or leaves out and says so."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from datetime import datetime, timezone

import pytest
from loraforge_serve.feedback import Feedback, FeedbackFile
from pydantic import ValidationError

from loraforge import ConfigError, RunError
from loraforge.config.schema import KeySet, RunConfig

WHEN = datetime(2026, 11, 30, 12, 0, tzinfo=timezone.utc)
UP = {"model": "legal", "question": "试用期多长？", "answer": "不超过六个月。", "rating": "up"}


def row(**changes):
    return Feedback.model_validate({**UP, **changes}).row("alice", WHEN)


def learned(folder):
    """(records, notes) of the loader ``table`` on a folder."""
    from loraforge_text.data.table_loader import TableKeys, TableLoader

    notes: list[str] = []
    config = RunConfig(train_data_dir=str(folder), base_model="none")
    return list(TableLoader().load(config, KeySet({TableKeys: TableKeys()}), notes.append)), notes


def test_the_loader_learns_praise_and_corrections_and_says_what_it_leaves_out(tmp_path):
    kept = FeedbackFile(tmp_path / "feedback.jsonl")
    kept.check()
    kept.add(row())
    kept.add(row(question="加班费怎么算？", answer="看情况。", rating="down", correction="  不低于工资的百分之一百五十。\n"))
    kept.add(row(question="年假几天？", answer="三十天。", rating="down"))
    kept.add(row(question="那病假呢？", answer="见医疗期规定。", history=[["年假几天？", "五天起。"]]))
    records, notes = learned(tmp_path)
    assert [(r.instruction, r.output) for r in records] == [
        ("试用期多长？", "不超过六个月。"),
        ("加班费怎么算？", "不低于工资的百分之一百五十。"),
        ("那病假呢？", "见医疗期规定。"),
    ]
    assert records[2].history == (("年假几天？", "五天起。"),)
    assert any("1 row with weight 0 is left out" in note and "feedback.jsonl, line 3" in note for note in notes), notes
    lines = [json.loads(line) for line in kept.path.read_text(encoding="utf-8").splitlines()]
    assert lines[1]["answered"] == "看情况。" and lines[2]["output"] == "三十天。", "what was said stays on record"
    assert all(line["by"] == "alice" and line["when"] == "2026-11-30T12:00:00+00:00" for line in lines)


def test_a_file_of_nothing_but_wrong_answers_teaches_nothing(tmp_path):
    FeedbackFile(tmp_path / "feedback.jsonl").add(row(rating="down"))
    assert learned(tmp_path)[0] == []


def test_texts_come_back_as_they_were(tmp_path):
    odd = 'a "b" \\ \u2028 \u2029 \u0085 \t\n{"x": 1}\r\n<b>,\U0001f600'
    FeedbackFile(tmp_path / "feedback.jsonl").add(row(question="第一？", answer=odd))
    FeedbackFile(tmp_path / "feedback.jsonl").add(row(question="第二？"))
    text = (tmp_path / "feedback.jsonl").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 2, "no reader takes one row for two"
    records, _ = learned(tmp_path)
    assert [record.output for record in records] == [odd, "不超过六个月。"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rating": "down", "correction": " 不超过 六个月。"}, None),
        ({"rating": "down", "correction": "不超过六个月。\n"}, "the same as the answer"),
        ({"history": [["年假几天？", " "]]}, "an earlier question or answer is empty"),
        ({"question": " \n"}, "the question is empty"),
        ({"answer": ""}, "the answer is empty"),
        ({"rating": "sideways"}, "rating"),
        ({"answer": "half a character: \ud83d"}, "unicode"),
        ({"answer": "x" * 200_001}, "200000"),
        ({"model": 3}, "model"),
        ({"output": "x"}, "output"),
        ({"history": [["only a question"]]}, "history"),
    ],
)
def test_what_says_nothing_is_refused(changes, told):
    if told is None:
        assert row(**changes)["weight"] == 1
        return
    with pytest.raises(ValidationError, match=told):
        row(**changes)


def test_an_empty_correction_is_none():
    assert row(rating="down", correction=" \n")["weight"] == 0


def test_a_line_that_an_editor_left_open_is_ended_first(tmp_path):
    path = tmp_path / "feedback.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}', encoding="utf-8")
    FeedbackFile(path).add(row())
    assert [record.instruction for record in learned(tmp_path)[0]] == ["a", "试用期多长？"]


def _write(path, name, count):
    for number in range(count):
        FeedbackFile(path).add({"instruction": f"{name} {number}", "output": name * 9000, "weight": 1})


def test_lines_of_several_servers_stay_whole(tmp_path):
    path = tmp_path / "feedback.jsonl"
    context = multiprocessing.get_context("fork" if os.name != "nt" else "spawn")
    workers = [context.Process(target=_write, args=(path, name, 25)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["instruction"] for line in lines) == sorted(f"{name} {number}" for name in "abcd" for number in range(25))
    assert all(line["output"] == line["instruction"][0] * 9000 for line in lines)


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    kept = FeedbackFile(tmp_path / "feedback.jsonl")
    kept.add(row())
    before = kept.path.read_bytes()
    write, calls = os.write, []

    def half(handle, data):
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(1)
        return write(handle, bytes(data)[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(RunError, match=r"feedback\.jsonl.*No space left"):
            kept.add(row())
    assert kept.path.read_bytes() == before
    kept.add(row(question="noch da?"))
    assert len(kept.path.read_bytes().splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="rights are others there")
def test_only_the_owner_reads_what_people_ask(tmp_path):
    FeedbackFile(tmp_path / "feedback.jsonl").check()
    assert stat.S_IMODE((tmp_path / "feedback.jsonl").stat().st_mode) == 0o600


def test_places_that_cannot_keep_it_are_told_at_the_start(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    for path, told in (
        (tmp_path / "folder.jsonl", "it is no file but a folder"),
        (tmp_path / "feedback.csv", r"end in \.jsonl"),
        (tmp_path / "nowhere" / "feedback.jsonl", "there is no folder"),
    ):
        with pytest.raises(ConfigError, match=told):
            FeedbackFile(path).check()
    if os.name != "nt":
        os.mkfifo(tmp_path / "pipe.jsonl")
        with pytest.raises(ConfigError, match="a pipe"):
            FeedbackFile(tmp_path / "pipe.jsonl").check()
