# SPDX-License-Identifier: Apache-2.0
"""Metadata files as spreadsheets and scripts write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders.picture_folders import load, picture, problems, put

from loraforge import DataError


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("separator", [";", "\t", "|", "；", "，", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_any_separator_of_any_country(folder, separator, encoding):
    if encoding == "cp1252" and not separator.isascii():
        pytest.skip("no such character")
    rows = [["file_name", "text", "repeats"], ["a.png", '"schöner, Hund; groß"', "2"], ["b.png", "né", ""], ["", "", ""]]
    put(folder / "metadata.csv", "\r\n".join(separator.join(row) for row in rows).encode(encoding))
    records, notes = load(folder)
    assert [(one.caption, one.repeats) for one in records] == [("schöner, Hund; groß", 2), ("né", 1)]
    assert any("columns are separated by" in note for note in notes) == (separator != ",")


def test_excels_own_first_line(folder):
    put(folder / "metadata.csv", "sep=;\nfile_name;text\na.png;x\nb.png;\n")
    assert problems(folder)[0].startswith("metadata.csv, row 4: b.png has no caption")
    assert [one.where for one in load(folder, trigger_word="t")[0]] == ["metadata.csv, row 3", "metadata.csv, row 4"]


def test_a_text_that_is_cut_by_its_own_commas_is_refused(folder):
    put(folder / "metadata.csv", "file_name,text\na.png,red hair, smile\nb.png,fine\n")
    found = problems(folder)
    assert found[0].startswith("metadata.csv, row 2: it has more cells than there are columns ( smile)")
    records, notes = load(folder, core={"on_bad_row": "skip"})
    assert [one.caption for one in records] == ["fine"] and not any("does not list" in note for note in notes)


def test_columns_that_are_not_read_are_named(folder):
    put(folder / "metadata.csv", "file_name,text,prompt,artist,scene\na.png,x,y,me,night\nb.png,,z,,day\n")
    records, notes = load(folder, core={"split_by": "scene"})
    assert [one.caption for one in records] == ["x", "z"] and [one.group for one in records] == ["night", "day"]
    assert any("several columns hold captions; not read: prompt" in note for note in notes)
    assert any("columns that are not read: artist" in note for note in notes)


def test_pictures_that_are_not_listed_are_named_with_their_captions(folder):
    put(folder / "metadata.csv", "file_name,text\na.png,x\n"), put(folder / "b.txt", "y"), picture(folder / "sub" / "c.png")
    records, notes = load(folder)
    assert [one.caption for one in records] == ["x"]
    assert "1 picture, 1 with a caption of their own; 2 left out: metadata.csv does not list them (2)" in notes[0]
    assert "left out, because metadata.csv does not list them: b.png, sub/c.png" in notes
    assert "caption files that are not read, because metadata.csv says the captions: b.txt" in notes


def test_a_row_without_a_text_takes_the_file_beside_the_picture(folder):
    put(folder / "metadata.csv", "file_name,keep\na.png,yes\nb.png,no\n"), put(folder / "a.txt", "a cat")
    assert [one.caption for one in load(folder)[0]] == ["a cat"]


@pytest.mark.parametrize("held", ["test", "validation", "Val"])
def test_folders_of_hugging_face(tmp_path, held):
    for part, names in (("train", "abc"), (held, "de")):
        for name in names:
            picture(tmp_path / part / f"{name}.png")
        rows = [{"file_name": f"{name}.png", "text": f"{part} {name}"} for name in names]
        put(tmp_path / part / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    records, notes = load(tmp_path)
    assert {one.caption: one.side for one in records} == {
        **{f"train {name}": "train" for name in "abc"}, **{f"{held} {name}": "held-out" for name in "de"}
    }  # fmt: skip
    assert any("train is learned" in note for note in notes) and "train/metadata.jsonl, line 1" in [one.where for one in records]


def test_one_folder_with_metadata_beside_one_with_captions(tmp_path):
    picture(tmp_path / "x" / "a.png"), picture(tmp_path / "x" / "b.png"), picture(tmp_path / "y" / "c.png", "c")
    put(tmp_path / "x" / "metadata.csv", "file_name,text\na.png,a\n")
    records, notes = load(tmp_path)
    assert sorted(one.caption for one in records) == ["a", "c"] and all(one.side is None for one in records)
    assert any("x/metadata.csv does not list them: x/b.png" in note for note in notes)


def test_a_second_list_is_named(folder):
    put(folder / "metadata.csv", "file_name,text\na.png,a\nb.png,b\n"), put(folder / "metadata.jsonl", "{}"), put(folder / "prompts.xlsx")
    assert any("tables that are not read: metadata.jsonl, prompts.xlsx" in note for note in load(folder)[1])


def test_pictures_by_name_as_sd_scripts_writes_them(folder):
    put(folder / "metadata.json", json.dumps({"a.png": {"caption": "a cat", "tags": "x"}, "b.png": {"caption": "a dog"}}))
    records, notes = load(folder)
    assert [one.caption for one in records] == ["a cat", "a dog"] and any("not read: tags" in note for note in notes)


def test_the_account_stands_even_where_nothing_is_left(folder):
    put(folder / "metadata.csv", "file_name,text,keep\na.png,x,no\n")
    notes: list[str] = []
    with pytest.raises(DataError, match="no picture of it is left"):
        load(folder, notes=notes)
    assert "0 pictures" in notes[0] and any("because the column keep says so: a.png" in note for note in notes)


@pytest.mark.parametrize(
    ("there", "listed"), [("e\u0301tude.png", "\u00e9tude.png"), ("A.PNG", "a.png"), ("v1.2.png", "v1.2"), ("s/b.jpg", "s\\B")]
)
def test_names_are_compared_as_windows_macos_and_sd_scripts_write_them(tmp_path, there, listed):
    picture(tmp_path / there), put(tmp_path / "metadata.jsonl", json.dumps({"file_name": listed, "text": "x"}))
    assert [Path(one.path) for one in load(tmp_path)[0]] == [tmp_path / there]


def test_a_name_that_could_be_two_pictures_is_none(tmp_path):
    picture(tmp_path / "a.png"), picture(tmp_path / "a.jpg"), put(tmp_path / "metadata.csv", "file_name,text\na,x\n")
    assert "there is no file a" in problems(tmp_path)[0]


@pytest.mark.parametrize("text", [" ", '"  "', '""'])
def test_blanks_are_no_text(tmp_path, text):
    picture(tmp_path / "a.png", "a cat"), put(tmp_path / "metadata.csv", f"file_name,text\na.png,{text}\n")
    assert [one.caption for one in load(tmp_path)[0]] == ["a cat"]


@pytest.mark.parametrize("word", ["nein", "x", "maybe"])
def test_a_keep_that_is_neither_yes_nor_no_is_refused(tmp_path, word):
    picture(tmp_path / "a.png"), put(tmp_path / "metadata.csv", f"file_name,text,keep\na.png,x,{word}\n")
    assert f"row 2: keep must be yes or no; got '{word}'" in problems(tmp_path)[0]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_lines_may_end_as_on_any_system(tmp_path, end):
    picture(tmp_path / "a.png"), put(tmp_path / "metadata.csv", end.join(("file_name,text,keep", 'a.png,"x, y",1.0', "b.png,z,0.0", "")))
    assert [one.caption for one in load(tmp_path)[0]] == ["x, y"]


def test_the_list_that_stands_for_a_caption_is_that_of_its_folder(tmp_path):
    for part in ("test", "train"):
        picture(tmp_path / part / "a.png"), put(tmp_path / part / "metadata.csv", "file_name,text\na.png,x\n")
    picture(tmp_path / "train" / "b.png", "b")
    assert "caption files that are not read, because train/metadata.csv says the captions: train/b.txt" in load(tmp_path)[1]
