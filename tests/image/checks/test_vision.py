# SPDX-License-Identifier: Apache-2.0
"""Blurred and small pictures."""

from __future__ import annotations

from builders.image_checks import row, rows, run_check, scene, severity
from loraforge_image.data import perceptual_hash
from loraforge_image.data.vision import BLURRED
from PIL import ImageFilter


def test_a_blurred_picture_among_sharp_ones_is_a_hint(tmp_path):
    data = rows(tmp_path, *["a thing"] * 5)
    data.append(row(scene(9).filter(ImageFilter.GaussianBlur(4)), tmp_path / "soft.png"))
    [found] = run_check("blur", data)
    assert found.rows == (5,) and severity("blur", found) == "hint" and "sharpness" in found.message and found.excerpt == "soft.png"
    data[5] = row(None, tmp_path / "soft.png", prior=True)
    assert run_check("blur", data) == []


def test_a_soft_style_is_no_blur(tmp_path):
    soft = [scene(i).filter(ImageFilter.GaussianBlur(1.8)) for i in range(6)]
    data = [row(image, tmp_path / f"{i}.png") for i, image in enumerate(soft)]
    assert all(perceptual_hash.picture_info(one.path).sharpness < BLURRED for one in data) and run_check("blur", data) == []
    data.append(row(scene(9).filter(ImageFilter.GaussianBlur(6)), tmp_path / "mist.png"))
    assert [f.rows for f in run_check("blur", data)] == [(6,)]


def test_small_pictures_are_told_with_the_factor(tmp_path):
    data = [
        row(scene(i, size), tmp_path / f"{i}.png") for i, size in enumerate([(512, 512), (480, 480), (400, 400), (200, 200), (300, 150)])
    ]
    found = {f.rows[0]: f for f in run_check("small", data)}
    assert set(found) == {2, 3, 4}, "a twentieth more is not seen"
    assert "400x400 pixels" in found[2].message and "1.3 times" in found[2].message and severity("small", found[2]) == "hint"
    assert "2.6 times" in found[3].message and "512x512" in found[3].message and severity("small", found[3]) == "warning"
    assert run_check("small", data, resolution=128) == []
