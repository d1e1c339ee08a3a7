# SPDX-License-Identifier: Apache-2.0
"""Folders with a concept.yaml of their own, and pictures at several resolutions."""

from __future__ import annotations

import pytest
from builders.picture_folders import load, picture, problems, put

from loraforge.data import splitting


def test_what_a_concept_says_of_its_pictures(tmp_path):
    (
        picture(tmp_path / "style" / "a.png"),
        picture(tmp_path / "style" / "sub" / "b.png", "a house"),
        picture(tmp_path / "5_me" / "c.png", "me"),
    )
    put(tmp_path / "style" / "concept.yaml", "# ours\nrepeats: 3\ncaption: ink drawing\ntrigger_word: inkstyle\n")
    records, notes = load(tmp_path, trigger_word="sks")
    assert {one.where: (one.caption, one.repeats, one.trigger) for one in records} == {
        "style/a.png": ("ink drawing", 3, "inkstyle"), "style/sub/b.png": ("a house", 3, "inkstyle"), "5_me/c.png": ("me", 5, None),
    }  # fmt: skip
    assert "style/concept.yaml is read, for 2 pictures in style" in notes


@pytest.mark.parametrize("concept", [True, False])
def test_every_picture_at_every_resolution_on_one_side(tmp_path, concept):
    from loraforge_image.task import IMAGE

    for i in range(4):
        picture(tmp_path / f"{i}.png", f"number {i}")
    if concept:
        put(tmp_path / "concept.yaml", "resolution: [512, 256, 768]\n")
    records, notes = load(tmp_path, resolution=512 if concept else [512, 256, 768])
    assert [(one.where, one.resolution) for one in records[:3]] == [("0.png", None), ("0.png at 256", 256), ("0.png at 768", 768)]
    assert len({one.where for one in records}) == len({one.content_hash() for one in records}) == 12
    assert "4 pictures at several resolutions make 12 examples" in notes
    sides = splitting.split([IMAGE.fingerprint(one) for one in records], 0.5).sides
    assert all(len(set(sides[i : i + 3])) == 1 for i in range(0, 12, 3)) and len(set(sides)) == 2


def test_a_single_resolution_of_its_own(tmp_path):
    picture(tmp_path / "x" / "a.png", "a"), picture(tmp_path / "b.png", "b"), put(tmp_path / "x" / "concept.yml", "resolution: 768")
    assert [(one.where, one.resolution) for one in load(tmp_path)[0]] == [("b.png", None), ("x/a.png", 768)]


def test_a_concept_of_prior_pictures_is_balanced(tmp_path):
    picture(tmp_path / "me" / "a.png", "me")
    for i in range(5):
        picture(tmp_path / "people" / f"{i}.png")
    put(tmp_path / "people" / "concept.yaml", "prior: true\ncaption: a person\n")
    records, _ = load(tmp_path, trigger_word="sks")
    assert [(one.caption, one.prior) for one in records] == [("me", False), ("a person", True)]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("repeats: 3\nrepeat: 2\n", 2, "unknown key 'repeat'. Did you mean 'repeats'?"),
        ("\nresolution: [512, 20]\n", 2, "resolution must be"),
        ("repeats: -1", 1, "repeats must be"),
        ("repeats: yes", 1, "repeats must be"),
        ("caption: 5", 1, "caption must be text"),
        ("trigger_word: on", 1, "trigger_word must be text"),
        ("caption: x\nprior: maybe", 2, "prior must be true or false"),
        ("repeats: 2\nrepeats: 3", 2, "'repeats' stands there twice"),
        ("caption: x\n\tb: [", 2, "is no YAML"),
        ("- a\n- b", 1, "is no YAML"),
    ],
)
def test_what_is_wrong_stands_with_its_line(tmp_path, text, line, said):
    picture(tmp_path / "x" / "a.png", "a"), put(tmp_path / "x" / "concept.yaml", text)
    assert any(found.startswith(f"x/concept.yaml:{line}: ") and said in found for found in problems(tmp_path)), problems(tmp_path)
