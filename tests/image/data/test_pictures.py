# SPDX-License-Identifier: Apache-2.0
"""Whatever picture an illustrator has, the right way up."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from builders.halves import halves, near
from loraforge_image.data import pictures
from loraforge_image.data.pictures import SUFFIXES, UNREAD, read_picture, read_size, sources, unread
from PIL import Image

from loraforge import DataError
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


KINDS = {
    ".png": "PNG", ".jpg": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".jif": "JPEG", ".mpo": "MPO", ".webp": "WEBP", ".bmp": "BMP",
    ".dib": "DIB", ".tif": "TIFF", ".gif": "GIF", ".avif": "AVIF", ".tga": "TGA", ".jp2": "JPEG2000", ".j2k": "JPEG2000",
    ".ppm": "PPM", ".heic": "HEIF", ".jxl": "JXL",
}  # fmt: skip
LOSSY = ("JPEG", "MPO", "AVIF", "HEIF", "JXL")


def kept(image: Image.Image, path: Path, kind: str, **options) -> Path:
    """The picture as a file of a kind."""
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif kind == "JXL":
        pytest.importorskip("pillow_jxl")
    image.save(path, kind, **options)
    return path


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("called", ["as it is", ".png", ".JPG"])
def test_every_kind_is_read_and_the_content_says_which_it_is(tmp_path, ending, called):
    """A telephone's HEIC that is called a.jpg, Windows' a.jfif, a painter's a.tga."""
    kind = KINDS[ending]
    if kind == "TGA" and called != "as it is":
        return  # a Targa file has no mark by which it is known
    path = kept(halves(), tmp_path / f"a{ending if called == 'as it is' else called}", kind, **({"quality": 95} if kind in LOSSY else {}))
    assert path.suffix.lower() in SUFFIXES and read_size(path) == (40, 20)
    image = read_picture(path)
    assert image.size == (40, 20) and near(image.getpixel((5, 5)), (255, 0, 0)) and near(image.getpixel((35, 15)), (0, 0, 255))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "JXL", "AVIF"])
@pytest.mark.parametrize("turn", [3, 6])
def test_every_kind_is_turned_as_the_camera_was_held(tmp_path, kind, turn):
    """As Pillow turns a JPEG; but a JPEG XL says itself how it is turned, and its EXIF is not to be followed (ISO/IEC 18181-2)."""
    exif = Image.Exif()
    exif[0x0112] = turn
    path = kept(halves(), tmp_path / "a", kind, exif=exif.tobytes())
    image = read_picture(path)
    size = (20, 40) if turn == 6 and kind != "JXL" else (40, 20)
    assert image.size == size == read_size(path)
    first = (255, 0, 0) if turn == 6 or kind == "JXL" else (0, 0, 255)
    assert near(image.getpixel((3, 3)), first, 40)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_tiff_that_lies_on_its_side_is_turned_whatever_its_kind(tmp_path, mode, compression):
    """Pillow scrambles those that it maps into memory: uncompressed ones of some modes."""
    image = halves().convert(mode) if mode != "I;16" else Image.new("I;16", (40, 20), 60000)
    if mode == "I;16":
        image.paste(0, (20, 0, 40, 20))
    image.save(tmp_path / "upright.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.tif", exif=exif, compression=compression)
    wanted = read_picture(tmp_path / "upright.tif").transpose(Image.Transpose.ROTATE_270)
    found = read_picture(tmp_path / "a.tif")
    assert read_size(tmp_path / "a.tif") == found.size == (20, 40) and found.tobytes() == wanted.tobytes()


def test_a_targa_without_opacity_is_opaque_and_others_are_no_targa(tmp_path):
    clear = halves().convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "a.tga")
    assert near(read_picture(tmp_path / "a.tga").getpixel((5, 5)), (255, 0, 0))
    halves().save(tmp_path / "b.tga")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.tga").read_bytes())
    with pytest.raises(DataError, match="no picture that can be read"):
        read_picture(tmp_path / "b.png")


@pytest.mark.parametrize("ending", [".png", ".tga", ".psd", ".jp2"])
@pytest.mark.parametrize("data", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"BUFR" + b"\0" * 60, b"hello" * 20])
def test_what_is_no_picture_is_none_under_any_name(tmp_path, ending, data):
    (tmp_path / f"a{ending}").write_bytes(data)
    with pytest.raises(DataError, match="no picture that can be read"):
        read_picture(tmp_path / f"a{ending}")


@pytest.mark.parametrize(("package", "kind", "name"), [("pillow_heif", "HEIF", "HEIC"), ("pillow_jxl", "JXL", "JPEG XL")])
def test_what_needs_a_package_names_it(tmp_path, monkeypatch, package, kind, name):
    import sys

    path = kept(halves(), tmp_path / "a.jpg", kind)
    for loaded in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, package, None)
    pictures._opener.cache_clear()
    with pytest.raises(DataError, match=rf"{name}.*loraforge\[pictures\]"):
        read_picture(path)
    pictures._opener.cache_clear()


def test_files_of_other_kinds_are_named_with_what_to_do(monkeypatch):
    assert not set(UNREAD) & set(SUFFIXES)
    assert unread(["a.png", "b.txt", "c.jfif"]) == []
    told = unread(["art/a.CLIP", "b.kra", "c.procreate", "d.sai2", "e.cr3", "f.svg", "g.dds"])
    assert told == ["7 files are of a kind that is not read; save them as PNG or JPEG: art/a.CLIP, b.kra, c.procreate, d.sai2, e.cr3 ..."]
    monkeypatch.setattr(pictures, "UNREAD", {".heic": "extra", ".jxl": "extra", ".psb": "saved"})
    both = unread(["a.heic", "b.JXL", "c.psb"])
    assert len(both) == 2 and "loraforge[pictures]" in both[0] and "a.heic, b.JXL" in both[0] and "c.psb" in both[1]


def test_a_photoshop_file_beside_its_export_is_no_second_picture():
    files = [Path(name) for name in ("a.psd", "a.png", "b.psd", "x/a.psd", "c.PSD", "c.webp")]
    assert sources(files) == {Path("a.psd"): Path("a.png"), Path("c.PSD"): Path("c.webp")}


def test_a_jpeg_xl_says_its_size_before_it_is_decoded(tmp_path, monkeypatch):
    import importlib

    plugin = pytest.importorskip("pillow_jxl.JpegXLImagePlugin")
    for size in ((8, 8), (1, 1), (64, 48), (777, 3), (1920, 1080), (12, 10)):
        for boxes in ({}, {"use_container": True}):
            buffer = io.BytesIO()
            Image.new("RGB", size).save(buffer, "JXL", effort=1, **boxes)
            assert importlib.import_module("loraforge_image.data.formats.jpeg_xl").jxl_size(buffer.getvalue()) == size
    # 60000 x 60000 by its first bytes; the package is never asked to decode it.
    bits = 0 | 2 << 1 | 59999 << 3 | 1 << 21
    (tmp_path / "bomb.jxl").write_bytes(b"\xff\x0a" + bits.to_bytes(8, "little") + b"\0" * 60)
    monkeypatch.setattr(plugin, "Decoder", None)
    with pytest.raises(DataError, match="60000x60000"):
        read_size(tmp_path / "bomb.jxl")


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
