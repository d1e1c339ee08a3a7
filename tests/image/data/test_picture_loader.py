# SPDX-License-Identifier: Apache-2.0
"""Folders of pictures in every layout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from builders.halves import halves

from loraforge import DataError
from loraforge.data.dataset import load_data
from loraforge.plan import make_plan


def load(host, config):
    return load_data(make_plan(host, "image", config))


def test_metadata_as_jsonl_with_chinese_columns_keep_and_repeats(tmp_path, gallery, host):
    rows = [
        {"图片": "0.png", "描述": "一个球", "keep": "yes"},
        {"图片": "1.png", "描述": "b", "keep": "no"},
        {"图片": "2.png", "描述": "c", "repeats": 3},
    ]
    (tmp_path / "pictures" / "metadata.csv").unlink()
    text = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    (tmp_path / "pictures" / "metadata.jsonl").write_text("\ufeff" + text + "\n", encoding="utf-8")
    data = load(host, gallery(eval_ratio=0))
    assert [(r.caption, r.repeats) for r in data.records] == [("一个球", 1), ("c", 3)]
    assert any("left out, because the column keep says so: 1.png" in note for note in data.notes)
    (tmp_path / "pictures" / "metadata.jsonl").write_text("nonsense\n[1]\n" + text, encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: it is no JSON object[\s\S]*line 2: it is no JSON object"):
        load(host, gallery())


def test_a_column_that_pictures_stand_together_by(tmp_path, gallery, host):
    lines = ["file_name,text,Scene", *(f"{i}.png,picture {i},{'night' if i < 3 else ''}" for i in range(6))]
    (tmp_path / "pictures" / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = load(host, gallery(split_by="Scene", eval_ratio=0.4))
    assert [one.group for one in data.records] == ["night"] * 3 + [None] * 3 and len(set(data.split.sides[:3])) == 1
    assert any("near-identical examples and those with one Scene stay on one side (4 groups)" in note for note in data.notes)
    with pytest.raises(DataError, match="split_by: no row says anything in a column 'place'"):
        load(host, gallery(split_by="place"))


def test_captions_in_files_beside_the_pictures(tmp_path, gallery, host):
    folder = tmp_path / "pictures"
    (folder / "metadata.csv").unlink()
    for i in range(6):
        (folder / f"{i}.txt").write_bytes(f"第{i}张, a ball\n".encode("gb18030" if i % 2 else "utf-8"))
    data = load(host, gallery())
    assert sorted(r.caption for r in data.records)[0] == "第0张, a ball" and len(data.records) == 6
    (folder / "3.txt").unlink()
    (folder / "4.txt").write_bytes(b"\xff\xfe\x00\xff")
    with pytest.raises(DataError) as error:
        load(host, gallery())
    assert any("3.png has no caption" in p for p in error.value.problems) and any(
        "4.png: 4.txt:1: is not text" in p for p in error.value.problems
    )
    data = load(host, gallery(trigger_word="zzz", on_bad_row="skip"))
    assert [t[0].text for t in data.texts].count("zzz") == 1 and len(data.records) == 5


def write_captions(folder: Path, captions: dict[str, bytes]) -> None:
    (folder / "metadata.csv").unlink(missing_ok=True)
    for name, data in captions.items():
        (folder / f"{name}.txt").write_bytes(data)


def test_captions_that_could_be_either_encoding_are_read_like_the_others(tmp_path, gallery, host):
    """脗 in GB18030 is Â in UTF-8; alone it proves nothing."""
    folder = tmp_path / "pictures"
    assert "脗".encode("gb18030").decode("utf-8") == "\u00c2"
    texts = {"0": "脗", "1": "霓虹", "2": "雨夜的街道", "3": "a ball", "4": "夜景", "5": "蓝色的房子"}
    write_captions(folder, {name: text.encode("gb18030") for name, text in texts.items()})
    data = load(host, gallery())
    assert {Path(r.path).stem: r.caption for r in data.records} == texts
    assert any("captions are read as GB18030, because they are not UTF-8" in note for note in data.notes)
    assert any("1 short caption could be UTF-8 or GB18030 (0.txt); they are read as GB18030" in note for note in data.notes)


def test_captions_in_utf8_stay_what_they_are(tmp_path, gallery, host):
    folder = tmp_path / "pictures"
    texts = {"0": "café", "1": "霓虹", "2": "мяч", "3": "naïve", "4": "é", "5": "雨"}
    write_captions(folder, {name: text.encode() for name, text in texts.items()})
    data = load(host, gallery())
    assert {Path(r.path).stem: r.caption for r in data.records} == texts and not any("GB18030" in note for note in data.notes)
    # One file of another encoding among them: what is certain stays, what is not goes with the majority.
    write_captions(folder, {"5": "第五张图".encode("gb18030")})
    data = load(host, gallery())
    assert {Path(r.path).stem: r.caption for r in data.records} == {**texts, "5": "第五张图"}
    assert any("1 caption is read as GB18030" in note and "(5.txt)" in note for note in data.notes)
    assert any("they are read as UTF-8, like most of the folder" in note for note in data.notes)


def test_captions_and_metadata_in_utf16(tmp_path, gallery, host):
    folder = tmp_path / "pictures"
    metadata = (folder / "metadata.csv").read_text(encoding="utf-8")
    write_captions(folder, {str(i): f"第{i}张 ball".encode("utf-16" if i % 2 else "utf-16-le") for i in range(6)})
    assert sorted(r.caption for r in load(host, gallery()).records) == [f"第{i}张 ball" for i in range(6)]
    for encoding, said in (
        ("utf-16", "UTF-16, because it begins with that byte order mark"),
        ("utf-16-be", "UTF-16-BE, because it is not UTF-8"),
        ("gb18030", "GB18030, because it is not UTF-8"),
    ):
        (folder / "metadata.csv").write_bytes(metadata.replace("a ball", "一个球").encode(encoding))
        data = load(host, gallery())
        assert data.records[0].caption == "一个球, number 0, on a wall"
        assert any(f"metadata.csv: read as {said}" in note for note in data.notes)


def test_every_bad_caption_is_told_at_once(tmp_path, gallery, command):
    folder = tmp_path / "pictures"
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    write_captions(folder, {"0": b"a ball", "1": b"", "2": b" \n", "3": b"\xff\xff\xff"})
    (folder / "4.txt").symlink_to(tmp_path / "secret.txt")
    code, out, err = command("check", "image", gallery())
    assert code == 2 and "secret" not in out + err.replace("secret.txt", "")
    for name, what in (("1.png", "1.txt is empty"), ("2.png", "2.txt is empty"), ("3.png", "3.txt: is not UTF-8"),
                       ("4.png", "4.txt cannot be read: it lies outside of the folder"), ("5.png", "5.png has no caption")):  # fmt: skip
        assert any(line.startswith(f"{name}: ") and what in line for line in err.splitlines()), (name, err)
    assert "Bad rows: 5" in err and "Traceback" not in err


def test_a_picture_that_may_not_be_read_is_told(tmp_path, gallery, command, monkeypatch):
    real = os.open

    def forbidden(path, *arguments, **named):
        if os.fspath(path).endswith("2.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", forbidden)
    code, out, err = command("check", "image", gallery())
    assert code == 2 and "metadata.csv, row 4: 2.png cannot be read: Permission denied." in err and "Traceback" not in out + err


def test_a_prior_picture_is_called_after_its_folder(tmp_path, gallery, host):
    from builders.tiny_images import draw_pictures

    prior = draw_pictures(tmp_path / "class pictures", 3)
    records = load(host, gallery(prior_data_dir=str(prior))).records
    assert {r.where for r in records if r.prior} == {f"class pictures/metadata.csv, row {n}" for n in (2, 3, 4)}
    assert len({r.where for r in records}) == len(records) == 9
    (prior / "1.png").write_bytes(b"")
    (tmp_path / "pictures" / "1.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        load(host, gallery(prior_data_dir=str(prior)))
    found = [line.partition(":")[0] for line in error.value.problems if "0 bytes" in line]
    assert found == ["metadata.csv, row 3", "class pictures/metadata.csv, row 3"]


def test_a_prior_folder_named_like_one_of_the_pictures_has_its_whole_path(tmp_path, gallery, host):
    from builders.tiny_images import draw_pictures

    (tmp_path / "pictures" / "metadata.csv").unlink()
    for folder in (tmp_path / "pictures" / "ball", tmp_path / "prior" / "ball"):
        draw_pictures(folder, 2)
        (folder / "metadata.csv").unlink()
        for i in range(2):
            (folder / f"{i}.txt").write_text("a ball", encoding="utf-8")
    records = load(host, gallery(prior_data_dir=str(tmp_path / "prior" / "ball"), trigger_word="zz")).records
    assert len({r.where for r in records}) == len(records) == 10
    assert {r.where for r in records if r.prior} == {f"{(tmp_path / 'prior' / 'ball').as_posix()}/{i}.png" for i in range(2)}


def test_a_folder_without_pictures_says_so(tmp_path, gallery, host):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="there are no pictures in it"):
        load(host, gallery(train_data_dir=str(tmp_path / "none")))


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path, gallery, host):
    halves((64, 64)).save(tmp_path / "secret.png")
    (tmp_path / "pictures" / "link.png").symlink_to(tmp_path / "secret.png")
    with (tmp_path / "pictures" / "metadata.csv").open("a", encoding="utf-8") as file:
        file.write(f"link.png,a\n0.png,again\nx/../0.png,again\n{'long' * 400}.png,a\n")
    with pytest.raises(
        DataError,
        match=r"row 8: link.png lies outside[\s\S]*row 9: 0.png stands in metadata.csv, row 2 already[\s\S]*row 10: x/../0.png[\s\S]*row 11",
    ):
        load(host, gallery())


def test_a_row_changes_with_its_picture_not_with_its_place(tmp_path, gallery, host):
    import shutil

    one = load(host, gallery()).digest()
    shutil.copytree(tmp_path / "pictures", tmp_path / "elsewhere")
    assert load(host, gallery(train_data_dir=str(tmp_path / "elsewhere"))).digest() == one
    halves((64, 64)).save(tmp_path / "elsewhere" / "0.png")
    assert load(host, gallery(train_data_dir=str(tmp_path / "elsewhere"))).digest() != one


def test_check_prints_the_plan_and_the_buckets(gallery, command):
    code, out, err = command("check", "image", gallery(epochs=3))
    assert code == 0, err
    assert "6 pictures, 6 with repeats; x 3 epochs / batch 2 = 9 steps" in out
    assert "buckets: 48x80 (2), 64x64 (2), 80x48 (2)" in out
