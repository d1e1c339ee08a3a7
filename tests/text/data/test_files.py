# SPDX-License-Identifier: Apache-2.0
"""Which files are read, which are only asked, and which are named as not read."""

from __future__ import annotations

import json

import pytest
from builders.text_data import load, problems, write
from loraforge_text.data.readers.splits import split_called


def table(path, *questions):
    return write(path, "问题,答案\n" + "".join(f"{q},答。\n" for q in questions))


@pytest.mark.parametrize(
    ("name", "side"),
    [("train", "train"), ("training", "train"), ("训练集", "train"), ("train-00000-of-00002", "train"), ("legal_train", "train"),
     ("test", "test"), ("legal_test", "test"), ("test-legal", "test"), ("valid", "test"), ("validation-00000-of-00001", "test"), ("dev", "test"),
     ("eval", "test"), ("val", "test"), ("hold-out", "test"), ("测试集", "test"), ("法律_验证集", "test"), ("Test", "test"),
     ("latest", ""), ("contest", ""), ("metadata", ""), ("evaluate_law", ""), ("training_of_doctors_2024", "train"), ("a", "")],
)  # fmt: skip
def test_names_of_parts(name, side):
    assert split_called(name) == side


@pytest.mark.parametrize("names", [("train.csv", "test.csv"), ("train.csv", "valid.csv"), ("data.csv", "dev.csv"), ("训练集.csv", "测试集.csv"),
                                   ("train-00000-of-00001.csv", "test-00000-of-00001.csv")])  # fmt: skip
def test_a_file_called_test_is_held_out(tmp_path, names):
    table(tmp_path / names[0], "一？", "二？")
    table(tmp_path / names[1], "三？")
    records, notes = load(tmp_path)
    assert sorted((r.instruction, r.side) for r in records) == [("一？", "train"), ("三？", "held-out"), ("二？", "train")]
    assert any(f"{names[1]}: held out" in note and names[0] in note for note in notes)


def test_files_whose_names_say_nothing_or_all_the_same_are_just_data(tmp_path):
    for folder, names in (("a", ("a.csv", "b.csv")), ("b", ("test.csv",)), ("c", ("test1.csv", "test.csv"))):
        for name in names:
            table(tmp_path / folder / name, name)
        sides = {r.side for r in load(tmp_path / folder)[0]}
        assert sides == {None}


def test_parts_of_a_json_file(tmp_path):
    parts = {"train": [{"question": "一？", "answer": "答"}], "test": [{"question": "二？", "answer": "答"}]}
    records, notes = load(write(tmp_path / "d.json", json.dumps(parts)))
    assert [(r.instruction, r.side, r.where) for r in records] == [
        ("二？", "held-out", "d.json (test), item 1"),
        ("一？", "train", "d.json (train), item 1"),
    ]
    assert any("d.json (test): held out" in note for note in notes)


def test_a_column_that_says_the_split(tmp_path):
    records, _ = load(write(tmp_path / "d.csv", "问题,答案,split\n一？,答,train\n二？,答,test\n三？,答,\n"))
    assert {r.instruction: r.side for r in records} == {"一？": "train", "二？": "held-out", "三？": None}
    records, notes = load(write(tmp_path / "e.csv", "问题,答案,split\n一？,答,左\n"))
    assert records[0].side is None and any("not used: split" in note for note in notes)


def test_what_is_not_read_is_named_in_one_note(tmp_path):
    table(tmp_path / "a.csv", "一？")
    for name in ("b.pdf", "c.doc", "notes.txt", "d.zip", ".hidden", "README.md"):
        write(tmp_path / name, "x")
    table(tmp_path / "more" / "e.csv", "二？")
    records, notes = load(tmp_path)
    [told] = [note for note in notes if "not read" in note]
    assert len(records) == 1 and all(
        name in told for name in ("b.pdf", "c.doc", "notes.txt", "d.zip", "more/", "README.md", "metadata_path")
    )
    assert ".hidden" not in told


def test_a_folder_without_data_says_what_there_is(tmp_path):
    write(tmp_path / "a.pdf", "x")
    table(tmp_path / "mine" / "train.csv", "一？")
    [told] = problems(tmp_path)
    assert "a.pdf" in told and "mine/" in told and "train_data_dir" in told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.pdf", "is a PDF"),
        ("a.doc", "old Word file"),
        ("a.rar", "is an archive"),
        ("a.7z", "is an archive"),
        ("a.xyz", "cannot read files of this kind"),
    ],
)
def test_a_file_of_another_kind_gets_its_sentence(tmp_path, name, words):
    assert words in problems(write(tmp_path / name, "x"))[0]


def test_llama_factorys_dataset_info_names_the_columns(tmp_path):
    write(tmp_path / "mine.json", json.dumps([{"frage": "一？", "antwort": "答"}]))
    info = {"mine": {"file_name": "mine.json", "columns": {"prompt": "frage", "response": "antwort"}}, "far": {"hf_hub_url": "x/y"}}
    write(tmp_path / "dataset_info.json", json.dumps(info))
    records, notes = load(tmp_path)
    assert [(r.instruction, r.output) for r in records] == [("一？", "答")] and any("frage -> instruction" in note for note in notes)


@pytest.mark.parametrize(
    ("files", "sides"),
    [({"train/a.csv": "一？", "test/b.csv": "二？"}, {"train/a.csv, row 2": "train", "test/b.csv, row 2": "held-out"}),
     ({"训练集/a.csv": "一？", "测试集/a.csv": "二？"}, {"训练集/a.csv, row 2": "train", "测试集/a.csv, row 2": "held-out"}),
     ({"data/train-00000-of-00001.csv": "一？", "data/validation-00000-of-00001.csv": "二？", "README.md": ""},
      {"data/train-00000-of-00001.csv, row 2": "train", "data/validation-00000-of-00001.csv, row 2": "held-out"}),
     ({"data/train/a.csv": "一？", "data/dev/a.csv": "二？"}, None), ({"data/a.csv": "一？"}, {"data/a.csv, row 2": None}),
     ({"train/a.csv": "一？"}, {"train/a.csv, row 2": None})],
)  # fmt: skip
def test_folders_as_hugging_face_parts_them(tmp_path, files, sides):
    for name, asked in files.items():
        table(tmp_path / name, asked) if asked else write(tmp_path / name, "# x")
    if sides is None:
        assert "there is no data file" in problems(tmp_path)[0]
        return
    records, notes = load(tmp_path)
    assert {r.where: r.side for r in records} == sides
    assert any("not read: README.md" in note for note in notes) == ("README.md" in files)


@pytest.mark.parametrize("names", [("train", "other"), ("one", "two"), ("data", "more")])
def test_other_folders_are_named_and_not_read(tmp_path, names):
    for name in names:
        table(tmp_path / name / "a.csv", "一？")
    assert all(f"{name}/" in problems(tmp_path)[0] for name in names)


def test_the_same_complaint_about_many_rows_is_one_sentence(tmp_path):
    text = "问题,答案\n" + "".join(f"问{i}？,\n" for i in range(60)) + ",答\n"
    found = problems(write(tmp_path / "d.csv", text))
    assert len(found) == 3 and found[0].startswith("d.csv, row 2: '答案' is empty. The same holds for 59 more rows: d.csv, row 3; ")
    assert found[1] == "d.csv, row 62: '问题' is empty." and "Bad rows: 61" in found[2]


# --- metadata.csv ------------------------------------------------------------------------------------------------------------


def test_metadata_keeps_conversations_and_sides(tmp_path, command):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]}
    turns = [
        {"role": "system", "content": "S"}, {"role": "user", "content": "一？"}, call, {"role": "tool", "tool_call_id": "1", "content": "3"},
        {"role": "assistant", "content": "坏", "weight": 0}, {"role": "user", "content": "再？"}, {"role": "assistant", "content": "答", "thinking": "想"},
    ]  # fmt: skip
    lines = [{"messages": turns, "tools": [{"name": "f"}]}, {"instruction": "二？", "output": "答"}]
    write(tmp_path / "in" / "train.jsonl", "\n".join(map(json.dumps, lines)))
    table(tmp_path / "in" / "test.csv", "三？")
    code, out, _ = command("metadata", tmp_path / "in", "--out", tmp_path / "metadata.csv")
    assert code == 0 and "columns instruction, output, system, messages, tools, split" in out
    before, after = load(tmp_path / "in")[0], load(tmp_path / "metadata.csv")[0]
    assert before == after and [r.side for r in before] == [r.side for r in after] == ["held-out", "train", "train"]
    assert before[1].messages and before[1].tools
