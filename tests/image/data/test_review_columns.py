# SPDX-License-Identifier: Apache-2.0
"""The columns in which people say who reviewed a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders.image_checks import scene
from loraforge_image.data.picture_loader import PictureKeys, PictureLoader
from loraforge_image.records import ImageKeys, Picture

from loraforge import DataError, KeySet, Review, RunConfig
from loraforge.plan import make_plan


def load(folder: Path, text: str, name: str = "metadata.csv", on_bad_row: str = "stop") -> tuple[list[Picture], list[str]]:
    (folder / name).write_text(text, encoding="utf-8")
    config = RunConfig(train_data_dir=str(folder), base_model="x", on_bad_row=on_bad_row)
    notes: list[str] = []
    keys = KeySet({RunConfig: config, PictureKeys: PictureKeys(), ImageKeys: ImageKeys()})
    return list(PictureLoader().load(config, keys, notes.append)), notes


@pytest.fixture
def two(tmp_path):
    for name in ("a.png", "b.png"):
        scene(ord(name[0])).save(tmp_path / name)
    return tmp_path


def test_review_columns_are_read_and_change_no_picture(two):
    plain, _ = load(two, "file_name,text\na.png,a\nb.png,b\n")
    data, notes = load(two, "file_name,text,审核人,审核结果,豁免\na.png,a,王老师,通过,\nb.png,b,待审核,不通过,blur、small\n")
    assert [one.review for one in data] == [Review("王老师", True), Review("", False, ("blur", "small"))]
    assert [one.content_hash() for one in data] == [one.content_hash() for one in plain] and plain[0].review == Review()
    assert any("审核人 -> reviewer" in note for note in notes)


def test_review_values_of_json_are_read(two):
    lines = [
        {"file_name": "a.png", "text": "a", "reviewer": ["Ann", "Bo"], "approved": True, "waive": "*"},
        {"file_name": "b.png", "text": "b"},
    ]
    data, _ = load(two, "\n".join(json.dumps(line) for line in lines), "metadata.jsonl")
    assert [one.review for one in data] == [Review("Ann、Bo", True, ("*",)), Review()]


def test_a_column_of_decisions_called_审核_names_no_reviewer(two):
    data, _ = load(two, "file_name,text,审核\na.png,a,通过\nb.png,b,\n")
    assert [one.review for one in data] == [Review("", True), Review()]


def test_what_cannot_be_meant_is_a_bad_row(two):
    text = "file_name,text,reviewer,approved,waive\na.png,a,yes,maybe,看过\nb.png,b,Ann,yes,\n"
    with pytest.raises(DataError) as error:
        load(two, text)
    name, decision, waive, _ = error.value.problems
    assert "metadata.csv, row 2: reviewer: 'yes' is nobody's name" in name and "'maybe' is no decision" in decision and "'看过'" in waive
    data, _ = load(two, text, on_bad_row="skip")
    assert [one.review.reviewer for one in data] == ["Ann"]
    with pytest.raises(DataError, match=r"the columns '审核人', '复核人' could all be 'reviewer'"):
        load(two, "file_name,text,审核人,复核人\na.png,a,Ann,Bo\n")


def test_a_run_leaves_out_what_was_rejected_and_waives_what_was_accepted(gallery, tmp_path, host):
    from loraforge.data import dataset

    file = tmp_path / "pictures" / "metadata.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    reviewed = [lines[0] + ",approved,waive", lines[1] + ",no,", *(line + ",yes,blur small" for line in lines[2:])]
    file.write_text("\n".join(reviewed) + "\n", encoding="utf-8")
    data = dataset.load_data(make_plan(host, "image", gallery(resolution=128)))
    assert len(data.records) == 5 and data.review["rejected"] == 1 and data.review["approved"] == 5
    small = [one for one in data.found if one.check == "small"]
    assert len(small) == 5 and all(one.waived for one in small)
