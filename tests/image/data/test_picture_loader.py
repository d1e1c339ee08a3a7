"""Pictures and captions as people have them: formats, layouts, buckets, and everything that can be wrong, at once."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from pathlib import Path

import pytest
from loraforge_image.data.buckets import Bucket, assign, buckets, fit
from loraforge_image.data.captions import CaptionTemplate, parts, shuffled, tag_counts
from loraforge_image.data.pictures import read_picture, read_size
from loraforge_image.records import Picture
from PIL import Image, ImageDraw

from loraforge import DataError
from loraforge.data.dataset import load_data
from loraforge.plan import make_plan


def halves(size=(40, 20)) -> Image.Image:
    """Red at the left, blue at the right."""
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (size[0] // 2, 0, size[0], size[1]))
    return image


def near(pixel, colour, by=40) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, colour, strict=True))


# --- formats -----------------------------------------------------------------------------------------------------------------


def test_the_camera_was_held_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    halves().save(tmp_path / "a.jpg", exif=exif)
    assert read_size(tmp_path / "a.jpg") == (20, 40)
    image = read_picture(tmp_path / "a.jpg")
    assert image.size == (20, 40) and near(image.getpixel((10, 5)), (255, 0, 0)) and near(image.getpixel((10, 35)), (0, 0, 255))


def test_cmyk_sixteen_bits_transparency_and_palettes(tmp_path):
    halves().convert("CMYK").save(tmp_path / "c.jpg")
    assert near(read_picture(tmp_path / "c.jpg").getpixel((5, 5)), (255, 0, 0))
    Image.frombytes("I;16", (2, 1), struct.pack("<2H", 65535, 32768)).save(tmp_path / "s.png")
    deep = read_picture(tmp_path / "s.png")
    assert deep.getpixel((0, 0)) == (255, 255, 255) and near(deep.getpixel((1, 0)), (128, 128, 128), 1)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "t.png")
    assert read_picture(tmp_path / "t.png").getpixel((1, 1)) == (255, 255, 255)
    halves().quantize(4).save(tmp_path / "p.gif")
    assert near(read_picture(tmp_path / "p.gif").getpixel((5, 5)), (255, 0, 0))


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_the_first_picture_of_an_animation(tmp_path, ending):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    assert near(read_picture(tmp_path / f"a.{ending}").getpixel((3, 3)), (255, 0, 0))


def bomb(path: Path) -> None:
    """A PNG that says it is 60000 x 60000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


def test_everything_that_is_wrong_is_told_at_once(tmp_path, gallery, command):
    folder = tmp_path / "bad"
    folder.mkdir()
    buffer = io.BytesIO()
    halves((200, 200)).save(buffer, "PNG")
    (folder / "cut.png").write_bytes(buffer.getvalue()[:200])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("hello", encoding="utf-8")
    bomb(folder / "bomb.png")
    halves((8, 8)).save(folder / "small.png")
    halves((64, 64)).save(folder / "good.png")
    halves((64, 64)).save(tmp_path / "outside.png")
    rows = [("cut.png", "a"), ("empty.png", "b"), ("text.png", "c"), ("bomb.png", "d"), ("small.png", "e"), ("good.png", ""),
            ("../outside.png", "f"), ("gone.png", "g")]  # fmt: skip
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(f"{a},{b}\n" for a, b in rows), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = command("train", "image", gallery(train_data_dir=str(folder)))
    lines = err.splitlines()
    for row, what in (
        (2, "is damaged"), (3, "empty (0 bytes)"), (4, "no picture that can be read"), (5, "60000x60000"), (6, "only 8x8"),
        (7, "good.png has no caption"), (8, "lies outside of the folder"), (9, "there is no file gone.png"),
    ):  # fmt: skip
        assert any(line.startswith(f"metadata.csv, row {row}:") and what in line for line in lines), (row, err)
    assert code == 2 and "Traceback" not in err
    assert [p for p in sorted(tmp_path.rglob("*")) if p not in before and p.name != "config.yaml"] == []


def test_bad_rows_can_be_left_out(tmp_path, gallery, host):
    (tmp_path / "pictures" / "0.png").write_bytes(b"")
    data = load_data(make_plan(host, "image", gallery(on_bad_row="skip")))
    assert len(data.records) == 5 and any("skipped" in note and "0 bytes" in note for note in data.notes)


# --- layouts -----------------------------------------------------------------------------------------------------------------


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
    assert any("1 pictures are left out" in note for note in data.notes)
    (tmp_path / "pictures" / "metadata.jsonl").write_text("nonsense\n[1]\n" + text, encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: it is no JSON object[\s\S]*line 2: it is no JSON object"):
        load(host, gallery())


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
    assert any("3.png has no caption" in p for p in error.value.problems) and any("4.txt is not UTF-8" in p for p in error.value.problems)
    data = load(host, gallery(trigger_word="zzz", on_bad_row="skip"))
    assert [t[0].text for t in data.texts].count("zzz") == 1 and len(data.records) == 5


def write_captions(folder: Path, captions: dict[str, bytes]) -> None:
    (folder / "metadata.csv").unlink(missing_ok=True)
    for name, data in captions.items():
        (folder / f"{name}.txt").write_bytes(data)


def test_captions_that_could_be_either_encoding_are_read_like_the_others(tmp_path, gallery, host):
    """一只猫 (a cat) in GB18030 is valid UTF-8; alone it proves nothing."""
    folder = tmp_path / "pictures"
    assert "一只猫".encode("gb18030").decode("utf-8") == "\u04bb\u05bb\u00e8"
    texts = {"0": "一只猫", "1": "霓虹", "2": "雨夜的街道", "3": "a ball", "4": "夜景", "5": "蓝色的房子"}
    write_captions(folder, {name: text.encode("gb18030") for name, text in texts.items()})
    data = load(host, gallery())
    assert {Path(r.path).stem: r.caption for r in data.records} == texts
    assert any("captions are read as GB18030, because they are not UTF-8" in note for note in data.notes)
    assert any("1 short captions could be UTF-8 or GB18030 (0); they are read as GB18030" in note for note in data.notes)


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
    assert any("1 captions are read as GB18030" in note and "(5)" in note for note in data.notes)
    assert any("they are read as UTF-8, like most of the folder" in note for note in data.notes)


def test_captions_and_metadata_in_utf16(tmp_path, gallery, host):
    folder = tmp_path / "pictures"
    metadata = (folder / "metadata.csv").read_text(encoding="utf-8")
    write_captions(folder, {str(i): f"第{i}张 ball".encode("utf-16" if i % 2 else "utf-16-le") for i in range(6)})
    assert sorted(r.caption for r in load(host, gallery()).records) == [f"第{i}张 ball" for i in range(6)]
    for encoding, name in (("utf-16", "UTF-16"), ("utf-16-be", "UTF-16-BE"), ("gb18030", "GB18030")):
        (folder / "metadata.csv").write_bytes(metadata.replace("a ball", "一个球").encode(encoding))
        data = load(host, gallery())
        assert data.records[0].caption == "一个球, number 0, on a wall"
        assert any(f"metadata.csv: read as {name}, because it is not UTF-8" in note for note in data.notes)


def test_every_bad_caption_is_told_at_once(tmp_path, gallery, command):
    folder = tmp_path / "pictures"
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    write_captions(folder, {"0": b"a ball", "1": b"", "2": b" \n", "3": b"\xff\xff\xff"})
    (folder / "4.txt").symlink_to(tmp_path / "secret.txt")
    code, out, err = command("check", "image", gallery())
    assert code == 2 and "secret" not in out + err.replace("secret.txt", "")
    for name, what in (("1.png", "1.png has no caption"), ("2.png", "2.png has no caption"), ("3.png", "3.txt is not UTF-8 text"),
                       ("4.png", "4.txt cannot be read: it lies outside of the folder"), ("5.png", "5.png has no caption")):  # fmt: skip
        assert any(line.startswith(f"{name}: ") and what in line for line in err.splitlines()), (name, err)
    assert "Bad rows: 5" in err and "Traceback" not in err


def test_a_picture_that_may_not_be_read_is_told(tmp_path, gallery, command, monkeypatch):
    real = Path.open

    def forbidden(self: Path, *arguments, **named):
        if self.name == "2.png":
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", forbidden)
    code, out, err = command("check", "image", gallery())
    assert code == 2 and "metadata.csv, row 4: 2.png cannot be read: Permission denied." in err and "Traceback" not in out + err


def test_a_prior_picture_is_called_after_its_folder(tmp_path, gallery, host):
    from tinysd import draw_pictures

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
    from tinysd import draw_pictures

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


# --- captions ----------------------------------------------------------------------------------------------------------------


def test_parts_shuffling_and_tags():
    assert parts("a, b，c、 d,") == ["a", "b", "c", "d"]
    rng = random.Random(1)
    orders = {shuffled("a, b, c, d, e", 2, rng) for _ in range(50)}
    assert len(orders) == 6 and all(order.startswith("a, b, ") for order in orders)
    assert tag_counts(["Neon, rain", "neon"]) == {"neon": 2, "rain": 1}


def test_the_trigger_word_stands_in_front_once():
    template = CaptionTemplate("zz style")

    def text(caption, **more):
        return template.render(Picture(path="a.png", caption=caption, where="x", **more))[0].text

    assert text("a ball") == "zz style, a ball" and text("a ZZ style ball") == "a ZZ style ball"
    assert text("jazz styles") == "zz style, jazz styles" and text("a ball", prior=True) == "a ball"
    assert template.render(Picture(path="", caption="a ball", where="x"))[0].text == "a ball"
    assert CaptionTemplate("霓虹").render(Picture(path="a", caption="霓虹的城市", where="x"))[0].text == "霓虹的城市"
    inline = CaptionTemplate("zz", "a photo of {caption}")
    assert CaptionTemplate().recall(inline.describe()) == inline
    assert inline.render(Picture(path="a", caption="{0.x}", where="x"))[0].text == "zz, a photo of {0.x}"


# --- buckets -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (1024, 64), (128, 32), (768, 64)])
def test_buckets_hold_at_most_the_area_and_come_in_pairs(resolution, step):
    found = buckets(resolution, step, 2.0)
    assert Bucket(resolution, resolution) in found and len(found) == len(set(found)) > 2
    for bucket in found:
        assert bucket.width % step == bucket.height % step == 0 and bucket.width * bucket.height <= resolution * resolution
        assert Bucket(bucket.height, bucket.width) in found and max(bucket.width / bucket.height, bucket.height / bucket.width) <= 2


def test_pictures_go_to_the_nearest_shape():
    found = buckets(512, 64, 2.0)
    assert assign((1000, 1000), found) == Bucket(512, 512)
    wide = assign((1600, 900), found)
    assert abs(wide.width / wide.height - 16 / 9) < 0.25 and assign((900, 1600), found) == Bucket(wide.height, wide.width)


def test_fitting_never_distorts_and_crops_where_it_is_told():
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).ellipse((100, 50, 200, 150), fill="black")
    fitted = fit(image, Bucket(64, 64))
    box = fitted.convert("L").point(lambda v: 255 if v < 128 else 0).getbbox()
    assert abs((box[2] - box[0]) - (box[3] - box[1])) <= 1
    left, right = fit(halves((400, 100)), Bucket(64, 64), (0.0, 0.5)), fit(halves((400, 100)), Bucket(64, 64), (1.0, 0.5))
    assert near(left.getpixel((32, 32)), (255, 0, 0)) and near(right.getpixel((32, 32)), (0, 0, 255))
