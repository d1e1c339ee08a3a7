# SPDX-License-Identifier: Apache-2.0
"""Line breaks of captions, and captions of which there are several."""

from __future__ import annotations

import json

import pytest
from builders.picture_folders import load, picture, problems, put

TAGS, SENTENCES = "1girl\nred hair,\n\n  smile \n", "A cat sits.\nIt is red.\n\nA dog"
MEANT = {
    ("first", TAGS): "1girl",
    ("any", TAGS): "1girl\nred hair,\nsmile",
    ("join", TAGS): "1girl, red hair, smile",
    ("first", SENTENCES): "A cat sits.",
    ("any", SENTENCES): "A cat sits.\nIt is red.\nA dog",
    ("join", SENTENCES): "A cat sits. It is red. A dog",
}


@pytest.mark.parametrize("where", ["a.txt", "metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize(("mode", "text"), MEANT)
def test_what_lines_mean(tmp_path, mode, text, where):
    picture(tmp_path / "a.png")
    rows = {
        "a.txt": text,
        "metadata.jsonl": json.dumps({"file_name": "a.png", "text": text}),
        "metadata.csv": f'file_name,text\na.png,"{text}"\n',
    }
    put(tmp_path / where, rows[where].replace("\n", "\r\n") if where == "a.txt" else rows[where])
    records, notes = load(tmp_path, caption_lines=mode)
    assert [one.caption for one in records] == [MEANT[mode, text]]
    assert any("more than one line" in note and "caption_lines: join" in note for note in notes) == (mode == "first")
    assert any("1 picture has several captions" in note for note in notes) == (mode == "any")


@pytest.mark.parametrize("file", ["metadata.jsonl", "metadata.json"])
def test_a_list_is_several_captions(tmp_path, file):
    picture(tmp_path / "a.png")
    row = {"file_name": "a.png", "text": ["one", "two, three", " "]}
    put(tmp_path / file, json.dumps([row] if file.endswith("json") else row))
    assert load(tmp_path)[0][0].caption == "one\ntwo, three"
    assert load(tmp_path, caption_lines="join")[0][0].caption == "one, two, three"


@pytest.mark.parametrize("value", [5, 1.5, True, {"a": 1}, ["a", ["b"]], ["a", None], [3], [{"x": "y"}]])
def test_what_is_no_text_is_told_with_its_row(tmp_path, value):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    rows = [{"file_name": "b.png", "text": "fine"}, {"file_name": "a.png", "text": value}]
    put(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    first, *_ = problems(tmp_path, trigger_word="sks")
    assert first.startswith("metadata.jsonl, line 2: ") and "not text" in first


def test_nothing_is_no_caption(tmp_path):
    picture(tmp_path / "a.png")
    put(tmp_path / "metadata.jsonl", json.dumps({"file_name": "a.png", "text": None}))
    assert load(tmp_path, trigger_word="sks")[0][0].caption == "sks"
