# SPDX-License-Identifier: Apache-2.0
"""The conventions of kohya's folders, and how many prior pictures stand against own ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.picture_folders import load, picture, problems, put


def seen(folder: Path, **keys) -> dict[str, tuple[str, int]]:
    return {one.where: (one.caption, one.repeats) for one in load(folder, **keys)[0]}


def test_repeats_and_class_of_the_nearest_folder(tmp_path):
    for name in ("3_cat/a.png", "3_cat/sub/b.png", "3_cat/sub/deep/c.png", "3_cat/5_black cat/d.png", "02_my_dog/e.png"):
        picture(tmp_path / name)
    assert seen(tmp_path) == {
        "3_cat/a.png": ("cat", 3), "3_cat/sub/b.png": ("cat", 3), "3_cat/sub/deep/c.png": ("cat", 3),
        "3_cat/5_black cat/d.png": ("black cat", 5), "02_my_dog/e.png": ("my dog", 2),
    }  # fmt: skip


def test_zero_repeats_leave_out_and_are_told(tmp_path):
    for name in ("0_unused/a.png", "0_unused/5_x/b.png", "3_cat/0_bad/c.png", "3_cat/d.png"):
        picture(tmp_path / name)
    records, notes = load(tmp_path)
    assert [one.where for one in records] == ["3_cat/d.png"]
    assert "left out, because the name of their folder says 0 repeats: 0_unused/5_x/b.png, 0_unused/a.png, 3_cat/0_bad/c.png" in notes
    (tmp_path / "3_cat" / "d.png").unlink()
    assert "no picture of it is left" in problems(tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("10_mycat", ("mycat", 10)), ("1_a b", ("a b", 1)), ("2024_photos", ("sks", 1)), ("0_all", ("sks", 1)), ("cat", ("sks", 1))],
)
def test_a_leaf_that_is_given_itself(tmp_path, name, meant):
    picture(tmp_path / name / "a.png"), picture(tmp_path / name / "sub" / "b.png")
    records, notes = load(tmp_path / name, trigger_word="sks")
    assert {(one.caption, one.repeats) for one in records} == {meant}
    assert any(f"{name} is read as {meant[1]} repeat{'s' * (meant[1] != 1)} of '{meant[0]}'" in note for note in notes) == (
        meant[0] != "sks"
    )


def test_pictures_beside_numbered_folders_are_told(tmp_path):
    picture(tmp_path / "3_cat" / "a.png"), picture(tmp_path / "b.png", "b"), picture(tmp_path / "other" / "c.png", "c")
    assert any("sd-scripts would not read: b.png, other/c.png" in note for note in load(tmp_path)[1])


def test_with_a_metadata_file_the_numbers_say_nothing_and_that_is_told(tmp_path):
    picture(tmp_path / "3_cat" / "a.png"), put(tmp_path / "metadata.csv", "file_name,text\n3_cat/a.png,x\n")
    records, notes = load(tmp_path)
    assert records[0].repeats == 1 and any("the numbers of folders say nothing (3_cat)" in note for note in notes)


def by_formula(own: int, repeats: list[int]) -> list[int]:
    """sd-scripts' rule, one picture after the other until there are as many as own ones; its last one is cut here to be exact."""
    counts, n, first = [0] * len(repeats), 0, True
    while n < own:
        for i, often in enumerate(repeats):
            add = min(often if first else 1, own - n)
            counts[i] += add
            n += add
            if n >= own:
                break
        first = False
    return [count for count in counts if count]


@pytest.mark.parametrize(("own", "times", "prior", "often"), [(4, 1, 40, 1), (4, 10, 7, 1), (3, 2, 6, 1), (2, 5, 3, 2), (5, 1, 4, 3)])
def test_as_many_prior_pictures_as_own_ones(tmp_path, own, times, prior, often):
    for i in range(own):
        picture(tmp_path / "own" / f"{times}_me" / f"{i}.png")
    for i in range(prior):
        picture(tmp_path / "class" / f"{often}_person" / f"{i:02}.png")
    records, notes = load(tmp_path / "own", prior_data_dir=str(tmp_path / "class"))
    mine, others = ([one.repeats for one in records if one.prior is kind] for kind in (False, True))
    assert sum(mine) == own * times == sum(others) and others == by_formula(own * times, [often] * prior)
    told = [note for note in notes if note.startswith("prior pictures: ")]
    assert bool(told) == (own * times != prior * often)
    again = load(tmp_path / "own", prior_data_dir=str(tmp_path / "class"))[0]
    assert [(one.where, one.repeats) for one in again] == [(one.where, one.repeats) for one in records]


def test_prior_pictures_inside_the_folder_are_not_learned(tmp_path):
    picture(tmp_path / "a.png", "me"), picture(tmp_path / "reg" / "b.png", "a person")
    records, notes = load(tmp_path, prior_data_dir=str(tmp_path / "reg"))
    assert [(one.caption, one.prior) for one in records] == [("me", False), ("a person", True)]
    assert any("reg: not looked into; it is prior_data_dir" in note for note in notes)


def test_a_prior_picture_without_a_class_is_not_sent_to_the_trigger_word(tmp_path):
    picture(tmp_path / "own" / "a.png", "x"), picture(tmp_path / "prior" / "b.png")
    first = problems(tmp_path / "own", prior_data_dir=str(tmp_path / "prior"), trigger_word="sks")[0]
    assert "prior/b.png: this prior picture has no caption" in first and "trigger_word" not in first


def test_a_year_in_front_of_a_folder_is_explained(tmp_path):
    picture(tmp_path / "2024_summer" / "a.png", "x"), picture(tmp_path / "3_cat" / "b.png")
    assert "a folder called 2024_summer means 2024 repeats" in (first := problems(tmp_path)[0]) and "summer_2024 for example" in first


@pytest.mark.parametrize("name", ["reg", "Reg_images", "regularization", "class_images"])
def test_a_folder_of_prior_pictures_that_is_learned_is_told(tmp_path, name):
    for file in ("img/10_cat/a.png", f"{name}/1_cat/b.png"):
        picture(tmp_path / file)
    records, notes = load(tmp_path)
    assert len(records) == 2 and any(f"write prior_data_dir: {tmp_path / name}" in note for note in notes)
    records, notes = load(tmp_path, prior_data_dir=str(tmp_path / name))
    assert [one.prior for one in records] == [False, True] and not any("called like one of prior" in note for note in notes)


def test_a_folder_of_that_name_alone_is_what_was_asked_for(tmp_path):
    picture(tmp_path / "reg" / "1_cat" / "a.png")
    assert not any("prior" in note for note in load(tmp_path)[1])
