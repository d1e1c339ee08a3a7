# SPDX-License-Identifier: Apache-2.0
"""Caption files and their pictures; every one that is not read is named."""

from __future__ import annotations

import pytest
from builders.picture_folders import load, names, picture, problems, put


@pytest.mark.parametrize(
    ("file", "of"),
    [
        ("a.TXT", "a.png"),
        ("A.txt", "a.png"),
        ("a.png.txt", "a.png"),
        ("a.Caption", "a.png"),
        ("e\u0301.txt", "\u00e9.png"),
        ("a.PNG.TXT", "a.png"),
    ],
)
def test_a_file_that_can_be_of_one_picture_alone_is_its_caption(tmp_path, file, of):
    picture(tmp_path / of), picture(tmp_path / "other.png")
    put(tmp_path / file, "a cat")
    records, notes = load(tmp_path, trigger_word="sks")
    assert {one.where: one.caption for one in records} == {of: "a cat", "other.png": "sks"}
    assert any("called otherwise than usual" in note and file in note and of in note for note in notes)
    assert "2 pictures, 1 with a caption of their own; 1 take the trigger word alone" in notes[0]


def test_every_caption_that_is_not_read_is_named(tmp_path):
    picture(tmp_path / "a.png", "a cat"), picture(tmp_path / "sub" / "b.png")
    for name in ("a.caption", "orphan.txt", "b.txt", "sub/readme.txt", "sub/b.tags", "a.json"):
        put(tmp_path / name, "x")
    text = "\n".join(load(tmp_path, trigger_word="sks")[1])
    assert "because their picture has another one: a.caption (a.png)" in text
    assert "text files that belong to no picture: b.txt, orphan.txt, sub/readme.txt" in text
    assert "no captions by their ending: a.json, sub/b.tags" in text


def test_another_ending_leaves_the_usual_ones(tmp_path):
    picture(tmp_path / "a.png", "not this"), put(tmp_path / "a.tags", "a, b")
    records, notes = load(tmp_path, caption_extension=".tags")
    assert records[0].caption == "a, b" and any("no captions by their ending: a.txt" in note for note in notes)


def test_two_pictures_of_one_name_share_their_caption_and_two_spellings_do_not(tmp_path):
    picture(tmp_path / "a.png", "a cat"), picture(tmp_path / "a.jpg")
    assert [one.caption for one in load(tmp_path)[0]] == ["a cat"] * 2
    picture(tmp_path / "x" / "B.png"), picture(tmp_path / "x" / "b.png"), put(tmp_path / "x" / "b.TXT", "small")
    captions = {one.where: one.caption for one in load(tmp_path, trigger_word="sks")[0]}
    assert captions["x/b.png"] == "small" and captions["x/B.png"] == "sks"


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\xff\xfe", "\u3000\n".encode()])
def test_an_empty_file_is_called_empty(tmp_path, content):
    picture(tmp_path / "a.png"), put(tmp_path / "a.txt", content)
    assert problems(tmp_path)[0] == "a.png: a.txt is empty. Write the caption into it, or set trigger_word."
    records, notes = load(tmp_path, trigger_word="sks")
    assert records[0].caption == "sks" and "caption files in which nothing stands: a.txt" in notes


def test_a_huge_folder_prints_a_handful_of_lines(tmp_path):
    picture(tmp_path / "a.png", "a cat")
    for i in range(300):
        put(tmp_path / f"lost-{i:03}.txt"), put(tmp_path / f"film-{i:03}.mp4"), put(tmp_path / f"a-{i}.npz")
    notes = load(tmp_path)[1]
    assert len(notes) == 4 and all(len(note) < 300 for note in notes)
    assert any("lost-000.txt, lost-001.txt, lost-002.txt, lost-003.txt, lost-004.txt ... (300)" in note for note in notes)
    assert names(load(tmp_path)[0]) == ["a.png"]


def test_the_file_that_would_be_read_is_the_one_that_is_asked_for(tmp_path):
    picture(tmp_path / "a.png", "x")
    assert "Write one into a.cap or metadata.csv" in problems(tmp_path, caption_extension=".cap")[0]
