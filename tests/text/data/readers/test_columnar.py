# SPDX-License-Identifier: Apache-2.0
"""Parquet, Arrow and the folders of Hugging Face's datasets, written by pyarrow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders.text_data import load, problems
from loraforge_text.records import Conversation, Message

pyarrow = pytest.importorskip("pyarrow")
ROWS = [{"question": "一？", "answer": "好"}, {"question": "二？", "answer": "行"}]
CHAT = [{"messages": [{"role": "user", "content": "问", "weight": None}, {"role": "assistant", "content": "答", "weight": 1}]}]


def save(path: Path, rows: list[dict]) -> Path:
    from pyarrow import feather, parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, compression="uncompressed")
    else:  # the stream that datasets writes
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return path


def saved_to_disk(folder: Path, rows: list[dict]) -> None:
    """What ``Dataset.save_to_disk`` leaves (datasets 4)."""
    save(folder / "data-00000-of-00001.arrow", rows)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}, "citation": ""}))


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "d.feather"])
def test_tables_and_conversations(tmp_path, name):
    records, _ = load(save(tmp_path / name, ROWS))
    assert [(r.instruction, r.output, r.where) for r in records] == [("一？", "好", f"{name}, row 1"), ("二？", "行", f"{name}, row 2")]
    assert load(save(tmp_path / name, CHAT))[0] == [Conversation("问", "答", where="x")]
    marked = [
        {
            "messages": [
                *CHAT[0]["messages"],
                {"role": "user", "content": "再", "weight": None},
                {"role": "assistant", "content": "b", "weight": 1},
            ]
        }
    ]
    marked[0]["messages"][1] = {**marked[0]["messages"][1], "weight": 0}
    assert load(save(tmp_path / name, marked))[0][0].messages[1] == Message("assistant", "答", learn=False)


def test_a_saved_dataset_and_one_of_several_parts(tmp_path):
    saved_to_disk(tmp_path / "one", ROWS)
    assert [(r.instruction, r.side) for r in load(tmp_path / "one")[0]] == [("一？", None), ("二？", None)]
    saved_to_disk(tmp_path / "two" / "train", ROWS[:1])
    saved_to_disk(tmp_path / "two" / "validation", ROWS[1:])
    (tmp_path / "two" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    assert sorted((r.instruction, r.side) for r in load(tmp_path / "two")[0]) == [("一？", "train"), ("二？", "held-out")]


def test_shards_of_the_hub_by_their_names(tmp_path):
    for name, row in (("train-00000-of-00002", 0), ("train-00001-of-00002", 1), ("test-00000-of-00001", 1)):
        save(tmp_path / f"{name}.parquet", [{"question": f"{name} {row}？", "answer": "好"}])
    assert sorted(r.side for r in load(tmp_path)[0]) == ["held-out", "train", "train"]


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "d.feather"])
@pytest.mark.parametrize("kind", ["cut", "noise", "empty", "flipped"])
def test_damaged_files_end_in_a_sentence(tmp_path, name, kind):
    whole = save(tmp_path / name, ROWS * 50).read_bytes()
    flipped = whole[:8] + bytes(byte ^ 0xFF for byte in whole[8:40]) + whole[40:]
    if kind == "flipped" and name == "d.feather":
        return  # its columns carry no checksum
    data = {"cut": whole[: len(whole) // 2], "noise": bytes(range(256)) * 4, "empty": b"", "flipped": flipped}[kind]
    (tmp_path / name).write_bytes(data)
    assert f"{name}: " in problems(tmp_path / name)[0]


def test_more_rows_than_anybody_means(tmp_path):
    from pyarrow import parquet

    column = pyarrow.array(["一？"], pyarrow.string()).dictionary_encode()
    indices = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000_001, pyarrow.int8()), column.dictionary)
    parquet.write_table(pyarrow.table({"question": indices, "answer": indices}), tmp_path / "d.parquet")
    assert (tmp_path / "d.parquet").stat().st_size < 100_000
    assert "more than the 1000000 rows or 200 MB" in problems(tmp_path / "d.parquet")[0]


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    import sys

    file = save(tmp_path / "d.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'loraforge[parquet]'" in problems(file)[0]


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "d.feather"])
def test_bytes_are_text_or_no_column(tmp_path, name):
    rows = [
        {"question": "一？", "answer": "好".encode(), "scan": b"\xff\xd8\xff"},
        {"question": "二？", "answer": "行".encode(), "scan": b"x"},
    ]
    records, notes = load(save(tmp_path / name, rows))
    assert [r.output for r in records] == ["好", "行"] and any("bytes that are no text" in n and "scan" in n for n in notes)
    assert "no column is the" in problems(save(tmp_path / name, [{"question": "一？", "answer": b"\xff\xfe\x00"}]))[0]


@pytest.mark.parametrize("name", ["d.parquet", "d.arrow", "d.feather"])
def test_nan_is_an_empty_cell(tmp_path, name):
    rows = [{"question": "一？", "answer": "好", "input": float("nan")}, {"question": "二？", "answer": "行", "input": 0.5}]
    assert [r.input for r in load(save(tmp_path / name, rows))[0]] == ["", "0.5"]
