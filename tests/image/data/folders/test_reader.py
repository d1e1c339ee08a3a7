# SPDX-License-Identifier: Apache-2.0
"""The account of a folder stands at the start of check and train, and names every file that is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders.picture_folders import load, mask, names, picture, put


@pytest.fixture
def messy(tmp_path):
    """A config of six pictures in a metadata.csv, with all that lies around in such folders."""
    from builders.tiny_images import draw_pictures
    from builders.tiny_text import write_config

    folder = draw_pictures(tmp_path / "pictures")
    for name in ("orphan.txt", "set.zip", "film.mp4", "0.npz", "notes.kra", "Thumbs.db", ".DS_Store", "__MACOSX/._0.png"):
        put(folder / name, "x")
    mask(folder / "0_mask.png", (64, 64)), picture(folder / "more.png", "one more")
    return write_config(
        tmp_path / "c.yaml",
        train_data_dir=str(folder),
        base_model="tiny-sd",
        output_dir=str(tmp_path / "out"),
        resolution=64,
        bucket_step=16,
    )


NAMED = (
    "metadata.csv does not list them: more.png",
    "belong to no picture: orphan.txt",
    "notes.kra",
    "not read: film.mp4, set.zip",
    "0.npz",
    "0_mask.png",
)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_it_stands_in_what_check_says(messy, command, words):
    code, out, err = command("check", "image", messy, *words)
    assert code == 0, err
    shown = "\n".join(json.loads(out)["notes"]) if words else out
    assert "pictures: 6 pictures, 6 with a caption of their own; 1 left out" in shown and all(name in shown for name in NAMED)
    assert not any(name in shown for name in ("Thumbs.db", "DS_Store", "MACOSX", "contact-sheet"))


def test_it_stands_at_the_start_of_train(messy, command, monkeypatch):
    from loraforge import RunError

    def session(*_: object) -> None:
        raise RunError("the data are read")

    monkeypatch.setattr("loraforge.pipeline.run.Session", session)
    code, out, err = command("train", "image", messy)
    assert code == 2 and "the data are read" in err and "6 pictures, 6 with a caption" in out and all(name in out for name in NAMED)


def test_what_prepare_writes_is_no_stranger(tmp_path, command):
    for i in range(3):
        picture(tmp_path / "pics" / f"{i}.png", f"number {i}", (320, 260))
    mask(tmp_path / "pics" / "0_mask.png", (320, 260))
    code, _, err = command("prepare", "image", tmp_path / "pics")
    assert code == 0, err
    assert "0_mask" not in (tmp_path / "pics" / "metadata.csv").read_text(encoding="utf-8")
    records, notes = load(tmp_path / "pics")
    assert names(records) == ["0.png", "1.png", "2.png"] and records[0].mask
    assert not any("contact-sheet" in note or "findings" in note or "columns" in note for note in notes)


def test_prepare_keeps_lines_and_what_folders_say(tmp_path, command):
    picture(tmp_path / "3_cat" / "a.png", "1girl\nsmile", (320, 260)), picture(tmp_path / "0_off" / "b.png", "x", (320, 260))
    code, _, err = command("prepare", "image", tmp_path, "--trigger", "sks")
    assert code == 0, err
    records, _ = load(tmp_path, caption_lines="any", trigger_word="sks")
    assert [(one.caption, one.repeats) for one in records] == [("sks, 1girl\nsks, smile", 3)]


@pytest.mark.parametrize("inside", ["output", "deep/output"])
def test_a_run_inside_its_own_data_is_not_learned(tmp_path, inside):
    picture(tmp_path / "a.png", "a"), picture(tmp_path / inside / "samples" / "1.png")
    records, notes = load(tmp_path, core={"output_dir": str(tmp_path / inside)})
    assert names(records) == ["a.png"] and any(f"{inside}: not looked into; it is this run's output_dir" in note for note in notes)


def test_a_linked_folder_is_named(tmp_path):
    picture(tmp_path / "data" / "a.png", "a"), picture(tmp_path / "else" / "b.png", "b")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "else", target_is_directory=True)
    records, notes = load(tmp_path / "data")
    assert names(records) == ["a.png"] and any("more: not looked into; it is a link" in note for note in notes)


def test_a_picture_called_like_our_sheet_is_a_picture(tmp_path):
    picture(tmp_path / "contact-sheet.png", "grapes"), picture(tmp_path / "a.png", "a")
    assert names(load(tmp_path)[0]) == ["a.png", "contact-sheet.png"]


def test_nothing_but_what_is_not_read(tmp_path):
    from builders.picture_folders import problems

    put(tmp_path / "a.kra", "x"), put(tmp_path / "b.txt", "x")
    text = "\n".join(problems(tmp_path))
    assert "no pictures in it" in text and "a.kra" in text and "b.txt" in text


def test_a_caption_that_is_the_trigger_word_alone_is_none_of_its_own(tmp_path):
    for name, text in {"a": "sks", "b": "SKS", "c": "sks, a cat"}.items():
        picture(tmp_path / f"{name}.png", text)
    assert "3 pictures, 1 with a caption of their own; 2 take the trigger word alone" in load(tmp_path, trigger_word="sks")[1][0]


def test_prepare_knows_concepts_and_names_as_the_loader_does(tmp_path, command):
    for name in ("ink/a.png", "ink/b.png", "old/c.png", "\u00e9t\u00e9.png"):
        picture(tmp_path / name, None if name == "ink/a.png" else "a cat", (320, 260))
    (
        put(tmp_path / "ink" / "concept.yaml", "trigger_word: inkstyle\ncaption: a drawing\n"),
        put(tmp_path / "old" / "concept.yaml", "prior: true\n"),
    )
    put(tmp_path / "metadata.csv", "file_name,text\ne\u0301te\u0301.png,summer\n")
    for _ in range(2):  # calling twice is calling once
        code, out, err = command("prepare", "image", tmp_path, "--trigger", "sks", "--overwrite")
        assert code == 0 and "concept.yaml" not in out, out + err
        found = {Path(one.path).name: one.caption for one in load(tmp_path, trigger_word="sks")[0]}
        assert found == {"a.png": "inkstyle, a drawing", "b.png": "inkstyle, a cat", "c.png": "a cat", "\u00e9t\u00e9.png": "sks, summer"}


def test_what_the_column_keep_leaves_out_is_named_with_its_folder(tmp_path):
    (
        picture(tmp_path / "s" / "a.png"),
        picture(tmp_path / "b.png"),
        put(tmp_path / "metadata.csv", "file_name,text,keep\ns/a.png,x,no\nb.png,x,\n"),
    )
    assert "left out, because the column keep says so: s/a.png" in load(tmp_path)[1]


def test_a_picture_in_the_place_of_a_table_is_named(tmp_path):
    from builders.picture_folders import problems

    picture(tmp_path / "a.png", "a")
    told = problems(tmp_path, core={"metadata_path": str(tmp_path / "a.png")})
    assert len(told) == 1 and told[0].startswith(f"metadata_path: {tmp_path / 'a.png'} is a picture")
