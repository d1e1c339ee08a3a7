# SPDX-License-Identifier: Apache-2.0
"""Which side a name says, wherever it stands: files, folders of an archive, parts of a JSON file."""

from __future__ import annotations

import json

import pytest
from builders import office
from builders.text_data import load, write
from loraforge_text.data.readers.splits import split_called

TEST = [
    "test", "test1", "test_2", "legal_test", "legal_test_v2", "test-00000-of-00001", "劳动法测试集", "勞動法測試集", "测试集2", "测试集_终版", "验证集", "评测集",
    "开发集", "my_test_set", "testdata", "testset", "valset", "val", "dev", "eval", "evalset", "eval_v3", "holdout", "hold-out", "test_sft",
    "Legal.Test", "legalTest", "TEST", "validation", "劳动法_test", "法律test集", "测试", "测试数据",
]  # fmt: skip
TRAIN = [
    "train",
    "train1",
    "legal_train_v2",
    "trainset",
    "traindata",
    "训练集",
    "劳动法训练集",
    "训练集1",
    "train_sft",
    "training",
    "训练数据",
]
NEITHER = ["latest", "contest", "劳动法考试", "protest_rights", "心理测试集锦", "康复训练", "软件测试", "软件开发", "trainers", "devices", "value",
           "retrain", "attestation", "data", "法律", ""]  # fmt: skip


@pytest.mark.parametrize(("name", "side"), [*((n, "test") for n in TEST), *((n, "train") for n in TRAIN), *((n, "") for n in NEITHER)])
def test_a_name_says_its_side(name, side):
    assert split_called(name) == side


def sides(path):
    return sorted((r.instruction, r.side) for r in load(path)[0])


@pytest.mark.parametrize("name", [n for n in TEST if n.strip()])
def test_parts_of_a_json_file_are_held_out_by_any_of_these_names(tmp_path, name):
    parts = {"train": [{"question": "一？", "answer": "好"}], name: [{"question": "二？", "answer": "行"}]}
    assert sides(write(tmp_path / "d.json", json.dumps(parts))) == [("一？", "train"), ("二？", "held-out")]


@pytest.mark.parametrize("folder", ["test", "data/test", "验证集", "test/part", "test1"])
def test_folders_of_an_archive_say_it_too(tmp_path, folder):
    files = {"data/train/a.csv": "问题,答案\n一？,好\n".encode(), f"{folder}/a.csv": "问题,答案\n二？,行\n".encode()}
    (tmp_path / "d.zip").write_bytes(office.zipped(files))
    assert sides(tmp_path / "d.zip") == [("一？", "train"), ("二？", "held-out")]
