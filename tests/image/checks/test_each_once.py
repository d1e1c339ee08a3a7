# SPDX-License-Identifier: Apache-2.0
"""A picture at several resolutions is looked at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders.image_checks import CHECKS, row, rows, run_check, scene


@pytest.mark.parametrize("name", ["duplicates", "caption_outliers", "personal_data", "missing_trigger", "blur"])
def test_resolutions_of_a_picture_are_no_copies(tmp_path, name):
    data = rows(tmp_path, *(f"sks, a street with {i} houses and {i + 2} trees, mail me@example.org" for i in range(4)))
    sized = [replace(one, where=f"{one.where} at {side}", resolution=side) for one in data for side in (None, 256, 512)]
    once, often = run_check(name, data, trigger_word="sks"), run_check(name, sized, trigger_word="sks")
    assert [one.message for one in once] == [one.message for one in often] and name in CHECKS
    assert [tuple(place * 3 for place in one.rows) for one in once] == [one.rows for one in often]


def test_a_copy_of_one_of_them_is_found_all_the_same(tmp_path):
    data = [row(scene(0), tmp_path / "a.png"), row(scene(0), tmp_path / "b.png")]
    sized = [replace(one, resolution=side) for one in data for side in (None, 256)]
    assert [one.rows for one in run_check("duplicates", sized)] == [(2, 0)]
