# SPDX-License-Identifier: Apache-2.0
"""The word that calls the style."""

from __future__ import annotations

import pytest
from builders.image_checks import captions, run_check, severity
from loraforge_image.checks.missing_trigger import edits, misspelt
from loraforge_image.records import Picture


@pytest.mark.parametrize(
    ("trigger", "caption", "near"),
    [
        ("cyberpunk style", "a street, cyberpunk stlye", "cyberpunk stlye"),
        ("cyberpunk style", "cyberpnuk style, a street", "cyberpnuk style"),
        ("cyberpunk style", "cyberpunk_style, a street", "cyberpunk style"),
        ("cyberpunk style", "cyberpunkstyle street", "cyberpunkstyle"),
        ("zwxdoll", "zwx doll on a table", "zwx doll"),
        ("赛博朋克", "赛搏朋克，一条街", "赛搏朋克"),
        ("cyberpunk style", "cyberpunk styles", ""),
        ("cyberpunk style", "a street in a cyberpunk city", ""),
        ("sks", "a sky above a house", ""),
        ("flower", "two flowers", ""),
        ("油画", "一幅水画", ""),
    ],
)
def test_what_is_a_misspelt_trigger(trigger, caption, near):
    assert misspelt(trigger, caption) == near


@pytest.mark.parametrize(("one", "other", "count"), [("style", "style", 0), ("stlye", "style", 1), ("styl", "style", 1), ("abc", "xyz", 3)])
def test_edits(one, other, count):
    assert edits(one, other) == edits(other, one) == count


def test_a_trigger_that_the_template_adds_is_not_missing(tmp_path):
    plain = captions(tmp_path, *(f"a street with {i} houses" for i in range(12)))
    assert run_check("missing_trigger", plain, trigger_word="cyberpunk style") == []
    some = captions(tmp_path, "cyberpunk style, a street", *(f"a street with {i} houses" for i in range(11)))
    assert run_check("missing_trigger", some, trigger_word="cyberpunk style") == []


def test_a_misspelt_trigger_is_a_warning(tmp_path):
    data = captions(tmp_path, *(f"cyberpunk style, {i} houses" for i in range(11)), "cyberpunk stlye, a car")
    [found] = run_check("missing_trigger", data, trigger_word="cyberpunk style")
    assert found.rows == (11,) and severity("missing_trigger", found) == "warning" and "'cyberpunk stlye' is nearly" in found.message
    assert run_check("missing_trigger", data, "cyberpunk style, {caption}", trigger_word="cyberpunk style") == []


def test_a_real_word_near_a_short_trigger_is_left_alone(tmp_path):
    data = captions(tmp_path, *(f"a horse with {i} spots" for i in range(12)))
    assert run_check("missing_trigger", data, trigger_word="house") == []
    data = captions(tmp_path, *(f"house, {i} windows" for i in range(11)), "hosue, a door")
    assert [f.rows for f in run_check("missing_trigger", data, trigger_word="house")] == [(11,)]


def test_a_trigger_misspelt_in_the_config_is_one_finding(tmp_path):
    data = captions(tmp_path, *(f"cyberpunk style, {i} houses" for i in range(12)))
    [found] = run_check("missing_trigger", data, trigger_word="cyberpnk style")
    assert len(found.rows) == 12 and "trigger_word is 'cyberpnk style'" in found.message


def test_an_exception_to_the_trigger_is_a_hint(tmp_path):
    data = captions(tmp_path, *(f"a zwx dog, {i} bones" for i in range(12)), "a cat on a wall")
    [found] = run_check("missing_trigger", data, trigger_word="zwx")
    assert found.rows == (12,) and severity("missing_trigger", found) == "hint" and "prior_data_dir" in found.message
    prior = [*data[:12], Picture("x.png", "a cat on a wall", "x", True, where="row 12")]
    assert run_check("missing_trigger", prior, trigger_word="zwx") == []


def test_without_trigger_word_the_common_beginning_is_one(tmp_path):
    data = captions(tmp_path, *(f"zwx style, {i} houses" for i in range(14)), "a car at night", "zwx stlye, a train")
    found = {f.rows[0]: f for f in run_check("missing_trigger", data)}
    assert set(found) == {14, 15}
    assert severity("missing_trigger", found[14]) == "hint" and "set trigger_word" in found[14].message
    assert severity("missing_trigger", found[15]) == "warning" and "'zwx stlye'" in found[15].message
    for common in ("1girl", "a street", "photo of a dog"):
        data = captions(tmp_path, *(f"{common}, {i} houses" for i in range(14)), "1boy, a car")
        assert run_check("missing_trigger", data) == []
