# SPDX-License-Identifier: Apache-2.0
"""Captions that say nothing."""

from __future__ import annotations

import pytest
from builders.image_checks import row, rows, run_check, scene, severity

USUAL = [f"a street with {n} houses and a green car at night" for n in range(2, 13)]


@pytest.mark.parametrize(
    ("caption", "words"), [("scene-0", "the file's name"), ("scene_0.png", "the file's name"), ("a picture of", "nothing"), ("图片", "nothing"),
                           ("TODO", "nothing"), ("untitled 12", "nothing")],
)  # fmt: skip
def test_captions_that_nobody_wrote_are_warnings(tmp_path, caption, words):
    [found] = run_check("caption_outliers", rows(tmp_path, caption, *USUAL))
    assert found.rows == (0,) and words in found.message and severity("caption_outliers", found) == "warning"


def test_captions_of_another_length_are_hints(tmp_path):
    found = run_check("caption_outliers", rows(tmp_path, "street", " ".join(USUAL[:5]), *USUAL))
    assert [f.rows for f in found] == [(0,), (1,)] and {severity("caption_outliers", f) for f in found} == {"hint"}
    assert "has 1 word, where 11 are usual" in found[0].message and "cut off" in found[1].message
    assert run_check("caption_outliers", rows(tmp_path, *["street", "long street with trees"] * 8)) == []


def test_the_trigger_alone_is_a_caption(tmp_path):
    assert run_check("caption_outliers", rows(tmp_path, *["img"] * 12), trigger_word="img") == []


def test_one_caption_for_unlike_pictures_is_a_hint(tmp_path):
    data = rows(tmp_path, *USUAL, USUAL[0])
    [found] = run_check("caption_outliers", data)
    assert found.rows == (11, 0) and "Was it pasted?" in found.message and severity("caption_outliers", found) == "hint"
    data[11] = row(scene(0).resize((640, 480)), tmp_path / "again.png", USUAL[0])
    assert run_check("caption_outliers", data) == []
    assert run_check("caption_outliers", rows(tmp_path, *["a street, houses, a car, night, neon"] * 12)) == []
