# SPDX-License-Identifier: Apache-2.0
"""Tables in which data are mended, and small pictures: large ones, damaged ones, and two who write at once."""

from __future__ import annotations

import base64
import io
import threading
import time

import pytest
from loraforge_studio.problems import Refused
from loraforge_studio.work.data import thumbs
from loraforge_studio.work.data.making import keep_copies
from loraforge_studio.work.data.masks import keep_mask, proposed
from loraforge_studio.work.data.tables import Change, Tables, parsed
from loraforge_studio.work.folders import Work
from PIL import Image


def test_of_two_who_change_a_row_at_once_one_is_told(tmp_path):
    place = tmp_path / "metadata.csv"
    place.write_bytes("\ufeffinstruction,output\r\n一,甲\r\n二,乙\r\n".encode())
    tables, told = Tables(), []

    def write(value: str) -> None:
        try:
            Tables.change(tables, place, [Change(0, {"instruction": "一", "output": "甲"}, {"output": value})])
        except Refused as error:
            told.append((error.status, error.problems[0]))

    threads = [threading.Thread(target=write, args=(f"new {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 7 and all(status == 409 and "row 2 has been changed meanwhile" in text for status, text in told)
    assert place.read_bytes().startswith("\ufeffinstruction,output\n一,new ".encode()) and "二,乙" in place.read_text(encoding="utf-8")


def test_a_change_adds_its_columns_keeps_all_others_and_cleans_what_no_file_can_hold(tmp_path):
    place = tmp_path / "metadata.csv"
    place.write_text('instruction,output,topic\n"a, ""b""\nc",d,t\n,,\n', encoding="utf-8")
    table = Tables().change(place, [Change(0, {}, {"output": "e\r\nf\x00\ud800", "waive": "hedging"})])
    assert table.cells(0) == {"instruction": 'a, "b"\nc', "output": "e\nf", "topic": "t", "waive": "hedging"}
    assert parsed(place.read_bytes(), "x").rows == table.rows
    with pytest.raises(Refused, match="at most"):
        Tables().change(place, [Change(0, {}, {"output": "x" * 200_001})])
    for data in (b"", b"a,a\n1,2\n", b"a\n1,2\n"):
        with pytest.raises(Refused, match="no table"):
            parsed(data, "x")


def test_fifty_thousand_rows_are_searched_and_changed_in_moments(tmp_path):
    place = tmp_path / "metadata.csv"
    place.write_text("instruction,output\n" + "".join(f"question {n}?,answer {n} 第{n}条\n" for n in range(50_000)), encoding="utf-8")
    tables = Tables()
    began = time.process_time()
    assert tables.read(place).where("第49999条 QUESTION", "open") == [49_999]
    table = tables.set_all(place, tables.read(place).version, range(50_000), {"approved": "yes", "reviewer": "w"})
    assert table.counts["approved"] == 50_000 and table.counts["open"] == 0
    with pytest.raises(Refused, match="nothing was overwritten"):
        tables.set_all(place, "another", [0], {"approved": "no"})
    assert time.process_time() - began < 5


def test_small_pictures_are_bounded_and_damaged_ones_told(tmp_path, monkeypatch):
    work = Work(tmp_path)
    Image.new("RGB", (3000, 600), "red").save(tmp_path / "wide.jpg")
    small = thumbs.thumbnail(work, tmp_path / "wide.jpg", 256)
    assert Image.open(small).size == (256, 51) and thumbs.thumbnail(work, tmp_path / "wide.jpg", 200) == small
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(Refused, match=r"broken\.png: it is damaged"):
        thumbs.thumbnail(work, tmp_path / "broken.png", 256)
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    with pytest.raises(Refused, match="144 megapixels"):
        thumbs.thumbnail(work, tmp_path / "bomb.png", 256)
    monkeypatch.setattr(thumbs, "_KEPT", 1)
    thumbs._bound(small.parent)
    assert list(small.parent.iterdir()) == []


def test_masks_and_captions_find_their_way_into_the_table(tmp_path):
    out = io.BytesIO()
    Image.new("RGBA", (8, 4), "white").save(out, format="PNG")
    name = keep_mask(tmp_path, "../../a/b.png", base64.b64encode(out.getvalue()).decode())
    assert name.startswith("masks/b-") and Image.open(tmp_path / name).mode == "L"
    for wrong in ("no base64!", base64.b64encode(b"no picture").decode()):
        with pytest.raises(Refused, match="no mask"):
            keep_mask(tmp_path, "a.png", wrong)
    mine = parsed(b"file_name,text\na.png,\nb.png,mine\n", "x")
    made = parsed(b"file_name,text\na.png,a house\nb.png,a tree\n", "y")
    assert [(one.row, one.values) for one in proposed(mine, made)] == [(0, {"text": "a house"})]
    place = tmp_path / "metadata.csv"
    place.write_text("file_name,text,keep\n./=a.png,x,no\nb.png,y,no\nc.png,z,no\n", encoding="utf-8")
    found = [("=a.png", "near_duplicate"), ("b.png", "damaged"), ("c.png", "duplicate"), ("c.png", "outside")]
    keep_copies(Tables(), place, [{"file": file, "kind": kind, "keep": False} for file, kind in found])
    assert [row[2] for row in Tables().read(place).rows] == ["yes", "no", "no"]
