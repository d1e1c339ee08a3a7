"""Whatever picture an illustrator has, the right way up."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from builders.halves import halves, near
from loraforge_image.data.pictures import read_picture, read_size
from PIL import Image

from loraforge.data.dataset import load_data
from loraforge.plan import make_plan


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


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files"), RuntimeError("can't start new thread")], ids=repr)
@pytest.mark.parametrize("where", ["open", "load", "getexif"])
def test_a_shortage_of_the_computer_is_no_pictures_fault(tmp_path, monkeypatch, where, error):
    from loraforge_image.data.pictures import read_picture, read_size
    from PIL import Image

    from loraforge import MachineError

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def refuse(*args, **options):
        raise error

    owner = Image if where == "open" else __import__("PIL.PngImagePlugin", fromlist=["PngImageFile"]).PngImageFile
    monkeypatch.setattr(owner, where, refuse)
    with pytest.raises(MachineError):
        (read_size if where == "getexif" else read_picture)(tmp_path / "a.png")
