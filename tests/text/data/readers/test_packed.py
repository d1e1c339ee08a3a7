# SPDX-License-Identifier: Apache-2.0
"""Packed files, and what must not come out of them."""

from __future__ import annotations

import gzip
import zlib

import pytest
from builders import office
from builders.text_data import load, problems

CSV = "问题,答案\n一？,好\n".encode()


@pytest.mark.parametrize("name", ["d.csv.gz", "d.jsonl.gz", "d.json.gz"])
def test_gzip(tmp_path, name):
    data = {"d.csv.gz": CSV, "d.jsonl.gz": b'{"question": "q", "answer": "a"}', "d.json.gz": b'[{"question": "q", "answer": "a"}]'}[name]
    (tmp_path / name).write_bytes(gzip.compress(data))
    [record], _ = load(tmp_path)
    assert record.where.startswith(name[:-3])


def test_a_zip_with_parts_and_other_things(tmp_path):
    book = office.xlsx(tmp_path / "b.xlsx", [["问题", "答案"], ["二？", "行"]]).read_bytes()
    files = {"数据/train.csv": CSV, "数据/test.xlsx": book, "a.pdf": b"x", "__MACOSX/._train.csv": b"x", ".DS_Store": b"x"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "d.zip").write_bytes(office.zipped(files))
    records, notes = load(tmp_path / "in")
    assert sorted((r.instruction, r.side) for r in records) == [("一？", "train"), ("二？", "held-out")]
    assert records[1].where == "d.zip/数据/train.csv, row 2" and any("not read: d.zip/a.pdf" in note for note in notes)


def test_chinese_names_that_windows_packed_are_readable(tmp_path):
    data = office.zipped({"XXXXXXXX.csv": CSV, "b.csv": CSV}).replace(b"XXXXXXXX", "法律问答".encode("gbk"))
    (tmp_path / "d.zip").write_bytes(data)
    assert {r.where for r in load(tmp_path / "d.zip")[0]} == {"d.zip/法律问答.csv, row 2", "d.zip/b.csv, row 2"}


BOMBS = {
    "d.csv.gz": lambda: gzip.compress(b"a" * 201_000_000, 1),
    "d.zip": lambda: office.zipped({"a.csv": b"a" * 201_000_000}),
    "e.zip": lambda: office.zipped({f"{i}.csv": b"a" for i in range(1001)}),
}
DAMAGED = {
    "cut.csv.gz": lambda: gzip.compress(CSV * 50)[:-20], "noise.csv.gz": lambda: bytes(range(256)), "empty.csv.gz": lambda: b"",
    "wrong.csv.gz": lambda: gzip.compress(CSV)[:-6] + b"\0" * 6, "cut.zip": lambda: office.zipped({"a.csv": CSV})[:-10],
    "empty.zip": lambda: b"", "nothing.zip": lambda: office.zipped({}), "picture.zip": lambda: office.zipped({"a.png": b"x"}),
    "crc.zip": lambda: office.zipped({"a.csv": CSV}).replace(zlib.crc32(CSV).to_bytes(4, "little"), b"\0\0\0\0"),
}  # fmt: skip


@pytest.mark.parametrize("name", [*BOMBS, *DAMAGED])
def test_bombs_and_damaged_files_end_in_a_sentence(tmp_path, name):
    (tmp_path / name).write_bytes((BOMBS | DAMAGED)[name]())
    assert f"{name}: " in problems(tmp_path / name)[0]
