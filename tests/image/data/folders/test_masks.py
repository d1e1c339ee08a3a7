# SPDX-License-Identifier: Apache-2.0
"""Masks among pictures are recognised and never learned; pictures of masks are pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from builders.picture_folders import load, mask, names, picture, problems, put

MASKS = [
    "a-masklabel.png",
    "a_mask.png",
    "a-mask.png",
    "a.mask.png",
    "A_Mask.PNG",
    "masks/a.png",
    "mask/a.png",
    "masks/a_mask.webp",
    "a.png-mask.png",
    "a mask.png",
]


@pytest.mark.parametrize("mode", ["auto", "folder", "off", "alpha"])
@pytest.mark.parametrize("file", MASKS)
def test_a_mask_is_found_and_never_learned(tmp_path, file, mode):
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png"), mask(tmp_path / file)
    records, notes = load(tmp_path, trigger_word="sks", mask=mode)
    assert names(records) == ["a.png", "b.png"]
    if mode in ("auto", "folder"):
        assert Path(records[0].mask) == tmp_path / file and not records[1].mask
        assert records[0].mask_sha256 == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
        assert any(f"masks, which are not learned themselves: {file}" in note for note in notes)
    else:
        assert not records[0].mask and any(f"because mask is {mode}: {file}" in note for note in notes)


@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("images", "images_masks"), ("10_cat", "mask"), ("x/img", "x/masks")])
def test_folders_of_masks_beside_those_of_pictures(tmp_path, images, masks):
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / images / name, "a cat"), mask(tmp_path / masks / name.replace("jpg", "png"))
    records, _ = load(tmp_path)
    assert [(Path(one.path).stem, Path(one.mask).stem) for one in records] == [("a", "a"), ("b", "b")]


def test_a_folder_of_masks_anywhere(tmp_path):
    picture(tmp_path / "data" / "a.png", "x"), picture(tmp_path / "data" / "s" / "b.png", "y"), picture(tmp_path / "data" / "c.png", "z")
    mask(tmp_path / "else" / "a.png"), mask(tmp_path / "else" / "s" / "b_mask.png"), mask(tmp_path / "else" / "d.png")
    records, notes = load(tmp_path / "data", mask_dir=str(tmp_path / "else"))
    assert [Path(one.mask).name for one in records] == ["a.png", "", "b_mask.png"]
    assert any("belong to no picture, and are left out: d.png" in note for note in notes)


def test_pictures_of_masks_are_pictures(tmp_path):
    for name in ("lion_mask.png", "venetian-mask.png", "cats/1.png", "masks/1.png"):
        picture(tmp_path / name, name)
    records, notes = load(tmp_path)
    assert sorted(names(records)) == ["1.png", "1.png", "lion_mask.png", "venetian-mask.png"] and not any(one.mask for one in records)
    assert any("called like masks, but trained as pictures" in note and "lion_mask.png, masks/1.png" in note for note in notes)
    picture(tmp_path / "lion.png", "a lion")
    assert "lion_mask.png" in names(load(tmp_path)[0])  # it has a caption, and is colourful


def test_a_mask_that_a_captioner_has_captioned_is_one(tmp_path):
    picture(tmp_path / "a.png", "a cat"), mask(tmp_path / "a_mask.png"), put(tmp_path / "a_mask.txt", "a white square on black")
    records, _ = load(tmp_path)
    assert names(records) == ["a.png"] and records[0].mask
    put(tmp_path / "metadata.csv", "file_name,text\na.png,a cat\na_mask.png,a white square\n")
    assert names(load(tmp_path)[0]) == ["a.png"]


def test_masks_without_a_picture_and_second_masks_are_named(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("a-masklabel.png", "a_mask.png", "gone-masklabel.png", "away_mask.png"):
        mask(tmp_path / name)
    records, notes = load(tmp_path, trigger_word="t")
    assert names(records) == ["a.png"] and Path(records[0].mask).name == "a-masklabel.png"
    assert "masks that belong to no picture, and are left out: away_mask.png, gone-masklabel.png" in notes
    assert "masks that are not used, because their picture has another one: a_mask.png" in notes


def test_other_proportions_are_told_and_other_sizes_are_not(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png", size=(64, 48))
    mask(tmp_path / "a_mask.png", (128, 96)), mask(tmp_path / "b_mask.png", (48, 64))
    [told] = [note for note in load(tmp_path, trigger_word="t")[1] if "masks whose" in note]
    assert "b_mask.png (48x64 / 64x48)" in told and "a_mask" not in told


def test_a_damaged_mask_is_refused_with_the_name_of_its_picture(tmp_path):
    picture(tmp_path / "a.png"), put(tmp_path / "a_mask.png", b"\x89PNG nothing")
    assert problems(tmp_path, trigger_word="t")[0].startswith("a.png: its mask a_mask.png cannot be used")


def test_mask_folder_needs_masks(tmp_path):
    picture(tmp_path / "a.png", "x"), picture(tmp_path / "b.png", "x")
    assert problems(tmp_path, mask="folder")[0].startswith("mask: folder: no picture has a mask")
    assert problems(tmp_path, mask="folder", core={"on_bad_row": "skip"})[0].startswith("mask: folder: no picture has a mask")
    mask(tmp_path / "a_mask.png")
    assert "without a mask, and learned everywhere: b.png" in load(tmp_path, mask="folder")[1]


def test_a_column_names_the_mask(tmp_path):
    picture(tmp_path / "a.png"), mask(tmp_path / "m" / "1.png")
    put(tmp_path / "metadata.csv", "file_name,text,mask\na.png,x,m/1.png\n")
    records, notes = load(tmp_path)
    assert Path(records[0].mask) == tmp_path / "m" / "1.png" and not any("m/1.png" in note and "list" in note for note in notes)


def test_the_content_of_a_row_knows_its_mask(tmp_path):
    picture(tmp_path / "a.png", "x")
    before = load(tmp_path)[0][0].content_hash()
    mask(tmp_path / "a_mask.png")
    assert load(tmp_path)[0][0].content_hash() != before == load(tmp_path, mask="off")[0][0].content_hash()


@pytest.mark.parametrize("file", ["mask_d.png", "masks-d.png", "d_mask_1.png", "d-masklabel2.png"])
def test_names_that_only_speak_of_masks_are_said(tmp_path, file):
    picture(tmp_path / "d.png", "d"), mask(tmp_path / file)
    records, notes = load(tmp_path, trigger_word="x")
    assert names(records) == sorted(["d.png", file]) and any("called like masks" in note and file in note for note in notes)
