# SPDX-License-Identifier: Apache-2.0
"""Pictures that are there twice."""

from __future__ import annotations

import shutil

import pytest
from builders.drawings import ORANGE, PURPLE, cat, cropped
from builders.image_checks import CYBERPUNK, row, run_check, scene, severity
from loraforge_image.data import perceptual_hash
from PIL import Image


def test_the_same_pixels_are_a_warning_in_any_format(tmp_path):
    image = scene(1)
    data = [row(image, tmp_path / "a.png"), row(scene(2), tmp_path / "b.png"), row(image, tmp_path / "c.bmp")]
    shutil.copy(tmp_path / "a.png", tmp_path / "d.png")
    data.append(row(None, tmp_path / "d.png"))
    found = run_check("duplicates", data)
    assert sorted(f.rows for f in found) == [(2, 0), (3, 0)]
    assert all("the same picture as that of a.png" in f.message and severity("duplicates", f) == "warning" for f in found)
    assert all("captions differ" not in f.message for f in found)


@pytest.mark.parametrize("change", ["jpeg", "webp", "half", "double"])
def test_a_copy_saved_again_is_a_warning_with_its_distance(tmp_path, change):
    image = scene(5)
    copy = {"half": image.resize((160, 120)), "double": image.resize((640, 480))}.get(change, image)
    path = tmp_path / {"jpeg": "b.jpg", "webp": "b.webp"}.get(change, "b.png")
    [found] = run_check("duplicates", [row(image, tmp_path / "a.png", "red patches"), row(copy, path, "blue patches")])
    assert found.rows == (1, 0) and severity("duplicates", found) == "warning" and found.excerpt == path.name
    assert "0 of the 64 bits" in found.message or "2 of the 64 bits" in found.message
    assert "Their captions differ" in found.message


def test_an_edited_copy_is_a_hint_and_another_dress_is_none(tmp_path):
    image = Image.open(CYBERPUNK / "neon-01.png").convert("RGB")
    edited = image.copy()
    edited.paste((120, 120, 120), (0, 0, image.width // 10, image.height // 10))
    data = [row(image, tmp_path / "a.png"), row(edited, tmp_path / "b.png")]
    apart = perceptual_hash.picture_info(data[0].path).distance(perceptual_hash.picture_info(data[1].path))
    assert 2 < apart <= 6
    [found] = run_check("duplicates", data)
    assert severity("duplicates", found) == "hint" and f"{apart} of the 64 bits" in found.message
    red, green, blue = image.split()
    inverse = Image.merge("RGB", (blue, red, green)).point(lambda value: min(255, value + 60))
    assert run_check("duplicates", [data[0], row(inverse, tmp_path / "c.png")]) == []


def test_each_copy_is_told_once_beside_the_nearest(tmp_path):
    image = scene(7)
    data = [row(image, tmp_path / "a.png")]
    data += [row(image.resize((320 * n, 240 * n)), tmp_path / f"{n}.png") for n in (2, 3)]
    found = run_check("duplicates", data)
    assert [f.rows[0] for f in found] == [1, 2]


@pytest.mark.parametrize("other", [cat(ORANGE), cat(PURPLE, size=(320, 420)), cat(pose="lies"), cat(size=(420, 320), share=0.7)])
def test_other_colours_proportions_and_poses_are_no_finding(tmp_path, other):
    assert run_check("duplicates", [row(cat(), tmp_path / "a.png"), row(other, tmp_path / "b.png")]) == []


def test_a_crop_is_a_hint_that_says_so(tmp_path):
    image = Image.open(CYBERPUNK / "neon-05.png").convert("RGB")
    [found] = run_check("duplicates", [row(image, tmp_path / "a.png"), row(cropped(image, left=0.1, top=0.05), tmp_path / "b.png")])
    assert found.rows == (1, 0) and severity("duplicates", found) == "hint" and "a.png, cropped" in found.message
