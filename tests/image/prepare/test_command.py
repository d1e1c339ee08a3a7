# SPDX-License-Identifier: Apache-2.0
"""`loraforge prepare image`: what it finds, what it writes, and that it leaves pictures alone."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from builders.drawings import ORANGE, PURPLE, cat, cropped
from builders.prepared import call, kinds, rows, scene
from click.testing import CliRunner
from loraforge_image.data.vision import BLURRED, sharpness
from loraforge_image.prepare.command import prepare
from PIL import Image, ImageDraw, ImageFilter

from loraforge import DataError


def hashes(folder) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- reading -------------------------------------------------------------------------------------------------------------------


def test_copies_are_upright_rgb_png_of_every_kind_of_picture(folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    left_red = Image.new("RGB", (300, 200), (0, 0, 255))
    left_red.paste((255, 0, 0), (0, 0, 150, 200))
    left_red.save(folder / "turned.jpg", exif=exif, quality=95)
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(folder / "cmyk.jpg", quality=95)
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(ramp).save(folder / "deep.png")
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    clear.paste((0, 128, 0, 255), (0, 0, 32, 64))
    clear.save(folder / "clear.png")
    frames = [Image.new("RGB", (64, 64), colour) for colour in ((250, 250, 0), (0, 0, 250))]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    before = hashes(folder)
    copies = tmp_path / "copies"
    call(folder, "--copy-to", copies)

    def opened(name):
        image = Image.open(copies / name)
        assert (image.mode, image.format) == ("RGB", "PNG") and not image.getexif().get(0x0112)
        return image

    turned = opened("turned.png")  # rotated clockwise: what was left is at the top
    assert turned.size == (200, 300) and turned.getpixel((100, 40))[0] > 200 and turned.getpixel((100, 260))[2] > 200
    assert abs(np.array(opened("cmyk.png").getpixel((30, 30)), dtype=int) - (255, 0, 0)).max() < 40
    deep = np.asarray(opened("deep.png"))[0, :, 0].astype(int)
    assert deep[0] == 0 and deep[-1] == 255 and abs(deep[32] - 129) < 3
    assert opened("clear.png").getpixel((50, 30)) == (255, 255, 255) and opened("clear.png").getpixel((10, 30)) == (0, 128, 0)
    assert opened("moving.png").getpixel((30, 30)) == (250, 250, 0)
    assert opened("moving-2.png").getpixel((30, 30)) == (250, 250, 0), "moving.gif and moving.webp have the same stem"
    assert {p.name for p in copies.iterdir()} == {*rows(copies / "metadata.csv"), "metadata.csv", "findings.csv", "contact-sheet.png"}
    assert hashes(folder) == before, "nothing is written into the folder of the pictures"


def test_files_that_cannot_be_read_are_left_out_with_the_reason(folder):
    scene(1).save(folder / "good.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"this is no picture")
    scene(2).save(folder / "whole.jpg")
    data = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    png = bytearray((folder / "good.png").read_bytes())
    png[len(png) // 2] ^= 0xFF
    (folder / "flipped.png").write_bytes(bytes(png))
    output = call(folder)
    table = rows(folder / "metadata.csv")
    assert {name for name, row in table.items() if row["keep"] == "no"} == {"empty.png", "text.jpg", "cut.jpg", "flipped.png"}
    assert "0 bytes" in table["empty.png"]["why"] and all(row["why"] for row in table.values() if row["keep"] == "no")
    assert kinds(folder)["cut.jpg"] == {"damaged"}
    assert "6 pictures: 2 to train on, 4 to leave out" in output and "cut.jpg: " in output


# --- findings ------------------------------------------------------------------------------------------------------------------


def test_copies_are_left_out_and_the_largest_stays(folder):
    scene(1).save(folder / "a.png")
    scene(1).save(folder / "same pixels.bmp")
    scene(2, 640, 576).save(folder / "large.png")
    scene(2, 640, 576).resize((320, 288)).save(folder / "c-recompressed.jpg", quality=60)
    scene(3).save(folder / "other.png")
    call(folder)
    table = rows(folder / "metadata.csv")
    assert [name for name, row in table.items() if row["keep"] == "no"] == ["c-recompressed.jpg", "same pixels.bmp"]
    assert "a.png" in table["same pixels.bmp"]["why"] and "large.png" in table["c-recompressed.jpg"]["why"]
    assert kinds(folder)["same pixels.bmp"] >= {"duplicate"} and kinds(folder)["c-recompressed.jpg"] >= {"near_duplicate"}


def test_the_same_drawing_in_other_colours_is_no_copy(folder):
    picture = Image.new("RGB", (300, 300), "white")
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 70, 255))):
        drawn = picture.copy()
        drawn.paste(colour, (60, 80, 240, 260))
        drawn.save(folder / f"{name}.png")
    call(folder)
    assert {row["keep"] for row in rows(folder / "metadata.csv").values()} == {"yes"}


def test_recoloured_variants_stay_and_crops_go(folder):
    for name, image in {
        "blue": cat(), "orange": cat(ORANGE, size=(320, 420)), "purple": cat(PURPLE), "lies": cat(pose="lies"),
        "crop": cropped(cat(), left=0.09), "corner": cropped(cat(PURPLE), right=0.05, bottom=0.05),
    }.items():  # fmt: skip
        image.save(folder / f"{name}.png")
    call(folder)
    assert [name for name, row in rows(folder / "metadata.csv").items() if row["keep"] == "no"] == ["corner.png", "crop.png"]
    assert kinds(folder)["crop.png"] >= {"near_duplicate"} and "purple.png" in rows(folder / "metadata.csv")["corner.png"]["why"]


def test_blurred_and_small_pictures_are_named_and_kept(folder):
    scene(1, 640, 576).save(folder / "sharp.png")
    scene(2, 640, 576).filter(ImageFilter.GaussianBlur(8)).save(folder / "blurred.png")
    scene(3, 320, 250).save(folder / "small.png")
    for name in ("sharp", "blurred", "small"):
        (folder / f"{name}.txt").write_text("a", encoding="utf-8")
    call(folder)
    assert kinds(folder) == {"blurred.png": {"blurred"}, "small.png": {"small"}}
    assert {row["keep"] for row in rows(folder / "metadata.csv").values()} == {"yes"}
    call(folder, "--min-size", 200, "--overwrite")
    assert "small.png" not in kinds(folder)


def noise(side: int, slope: float, contrast: float) -> Image.Image:
    """Random clouds with the spectrum of a photograph: the amplitude falls with the frequency to the power of ``slope``."""
    random = np.random.default_rng(side)
    high, wide = side, side * 3 // 2
    frequency = np.hypot(np.fft.fftfreq(high)[:, None], np.fft.rfftfreq(wide)[None])
    frequency[0, 0] = np.inf
    waves = (random.standard_normal(frequency.shape) + 1j * random.standard_normal(frequency.shape)) / frequency**slope
    values = np.fft.irfft2(waves, s=(high, wide))
    return Image.fromarray((values / values.std() * contrast + 128).clip(0, 255).astype(np.uint8))


def drawing(side: int, contrast: int) -> Image.Image:
    """Three shapes in flat colours with smoothed edges."""
    large = Image.new("L", (side * 3, side * 2), 200)
    pen = ImageDraw.Draw(large)
    for i, box in enumerate(((0.1, 0.1, 0.6, 0.5), (0.4, 0.3, 1.1, 0.8), (0.8, 0.2, 1.3, 0.6))):
        pen.ellipse([round(v * side * 2) for v in box], fill=200 - contrast * (i + 1) // 3)
    return large.resize((side * 3 // 2, side), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("side", [300, 700, 1500])
@pytest.mark.parametrize(
    "make",
    [
        lambda side: noise(side, 1.0, 50),
        lambda side: noise(side, 1.2, 15),
        lambda side: noise(side, 1.6, 50),
        lambda side: drawing(side, 20),
        lambda side: drawing(side, 180),
    ],
    ids=["1/f", "1/f^1.2, pale", "1/f^1.6, soft", "pale drawing", "drawing"],
)
def test_sharpness_depends_on_neither_content_nor_contrast_nor_size(make, side):
    picture = make(side)
    pixel = max(picture.size) / 512
    sharp, soft, blurred = (sharpness(picture.filter(ImageFilter.GaussianBlur(s * pixel)) if s else picture) for s in (0, 1, 3.2))
    assert sharp > 3 * BLURRED and sharp > soft > BLURRED > blurred


# --- captions ------------------------------------------------------------------------------------------------------------------


def test_captions_come_from_files_beside_the_pictures_in_any_usual_encoding(folder):
    texts = {
        "a.txt": b"a cat,\n sitting",
        "b.caption": "\ufeff水墨".encode(),
        "c.txt": "水墨画，一只猫坐在竹林里".encode("gb18030"),
        "d.txt": b"\xff\xfe\x00\xff",
    }
    for i, (name, data) in enumerate(texts.items()):
        (folder / name).write_bytes(data)
        scene(i).save((folder / name).with_suffix(".png"))
    scene(9).save(folder / "e.png")
    call(folder)
    table = rows(folder / "metadata.csv")
    assert [row["text"] for row in table.values()] == ["a cat,\nsitting", "水墨", "水墨画，一只猫坐在竹林里", "", ""]
    assert kinds(folder) == {"d.png": {"caption_unreadable"}, "e.png": {"no_caption"}}
    data = (folder / "metadata.csv").read_bytes()
    assert data.startswith(b"file_name,text,keep,why\n") and b"\r" not in data


def test_trigger_and_template_and_calling_twice(folder):
    (folder / "10_ink cat").mkdir()
    scene(1).save(folder / "10_ink cat" / "x.png")
    (folder / "10_ink cat" / "x.txt").write_text("{trigger} in {braces}", encoding="utf-8")
    scene(2).save(folder / "bare.png")
    call(folder, "--trigger", "mks")
    for _ in range(2):
        table = rows(folder / "metadata.csv")
        assert table["10_ink cat/x.png"]["text"] == "mks, {trigger} in {braces}", "captions are never templates"
        assert table["bare.png"]["text"] == "mks", "no comma is left over where there is no caption"
        assert kinds(folder)["bare.png"] == {"no_caption"}, "the trigger word that an earlier call wrote is no caption"
        assert table["10_ink cat/x.png"]["repeats"] == "10" and table["bare.png"]["repeats"] == ""
        call(folder, "--trigger", "mks", "--overwrite")
    (folder / "metadata.csv").unlink()
    call(folder, "--trigger", "mks", "--caption", "{folder}/{name}: {caption} by {trigger}", "--overwrite")
    assert rows(folder / "metadata.csv")["10_ink cat/x.png"]["text"] == "ink cat/x: {trigger} in {braces} by mks"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--caption", "{captoin}"], "{captoin}"),
        (["--caption", "{caption}", "--trigger", "x"], "{trigger}"),
        (["--caption", "{trigger}"], "--trigger"),
    ],
)
def test_templates_that_cannot_be_meant_are_refused(folder, arguments, told):
    scene(1).save(folder / "a.png")
    result = CliRunner().invoke(prepare, ["image", str(folder), *arguments])
    assert result.exit_code == 2 and told in result.output and not (folder / "metadata.csv").exists()


def test_an_earlier_metadata_gives_captions_and_what_it_left_out(folder):
    for i, name in enumerate("abc"):
        scene(i).save(folder / f"{name}.png")
    lines = [
        {"image": "a.png", "prompt": "first"},
        {"image": "b.png", "prompt": "second", "keep": "no"},
        {"image": "gone.png", "prompt": "x"},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (folder / "c.txt").write_text("beside", encoding="utf-8")
    output = call(folder)
    table = rows(folder / "metadata.csv")
    assert [(row["text"], row["keep"]) for row in table.values()] == [("first", "yes"), ("second", "no"), ("beside", "yes")]
    assert "gone.png" in output


# --- writing -------------------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unasked_and_pictures_never(folder):
    scene(1).save(folder / "a.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "metadata.csv").write_text("file_name,text\na.png,mine\n", encoding="utf-8")
    before = hashes(folder)
    assert str(folder / "metadata.csv") in call(folder, fails=DataError)
    assert hashes(folder) == before
    call(folder, "--overwrite")
    assert rows(folder / "metadata.csv") == {"a.png": {"file_name": "a.png", "text": "mine", "keep": "yes", "why": ""}}
    after = hashes(folder)
    assert {name: after[name] for name in ("a.png", ".hidden.png")} == {name: before[name] for name in ("a.png", ".hidden.png")}
    assert set(after) - set(before) == {"contact-sheet.png", "findings.csv"}


def test_a_picture_that_is_called_like_the_sheet_survives_overwrite(folder):
    scene(1).save(folder / "a.png")
    scene(2).save(folder / "contact-sheet.png")
    before = hashes(folder)
    assert "contact-sheet.png" in call(folder, "--overwrite", fails=DataError)
    assert hashes(folder) == before


def test_all_files_or_none(folder, tmp_path):
    scene(1).save(folder / "a.png")
    call(folder)
    before = hashes(folder)
    (tmp_path / "blocked").write_text("a file", encoding="utf-8")
    assert "blocked" in call(folder, "--out", tmp_path / "blocked" / "out", fails=DataError)
    # The last of the three fails: its hidden name is taken by a folder.
    import os

    (folder / f".metadata.csv.{os.getpid()}.new").mkdir()
    message = call(folder, "--overwrite", fails=DataError)
    assert "metadata.csv" in message and hashes(folder) == before


@pytest.mark.parametrize("where", ["inside", "full"])
def test_copies_go_into_a_folder_of_their_own(folder, tmp_path, where):
    scene(1).save(folder / "a.png")
    (tmp_path / "full").mkdir()
    scene(2).save(tmp_path / "full" / "a.png")
    before = hashes(tmp_path)
    target = folder / "copies" if where == "inside" else tmp_path / "full"
    assert "--copy-to" in call(folder, "--copy-to", target, "--overwrite", fails=DataError)
    assert hashes(tmp_path) == before


def test_copies_of_an_earlier_call_are_replaced(folder, tmp_path):
    scene(1).save(folder / "a.jpg")
    call(folder, "--copy-to", tmp_path / "new")
    scene(2).save(folder / "a.jpg")
    assert "not empty" in call(folder, "--copy-to", tmp_path / "new", fails=DataError)
    call(folder, "--copy-to", tmp_path / "new", "--overwrite")
    assert Image.open(tmp_path / "new" / "a.png").tobytes() == Image.open(folder / "a.jpg").tobytes()


def test_the_sheet_frames_what_is_left_out_in_red_and_findings_in_orange(folder):
    for name in ("a", "b"):
        scene(1).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("一只猫", encoding="utf-8")
    (folder / "b.txt").write_text("\U0001f431 \x07 ﷽", encoding="utf-8")
    scene(2, 320, 200).save(folder / "c.png")
    scene(3).save(folder / "d-很长的名字.png")
    (folder / "d-很长的名字.txt").write_text("x", encoding="utf-8")
    call(folder)
    sheet = Image.open(folder / "contact-sheet.png").convert("RGB")
    wide = sheet.width // 3  # four pictures: three columns
    assert [sheet.getpixel((i * wide + 5, 100)) for i in range(3)] != [sheet.getpixel((5, 100))] * 3
    assert sheet.getpixel((wide + 5, 100)) == (200, 30, 30), "b is a copy"
    assert sheet.getpixel((2 * wide + 5, 100)) == (230, 140, 0), "c is small"
    assert sheet.getpixel((5, 100)) == (255, 255, 255) and sheet.getpixel((4, 100)) == (205, 205, 205), "a is fine: a thin frame"


def test_what_is_told_leads_to_what_must_be_decided(folder):
    """What goes and what to look at come under headings of their own; captions that are missing take one line, whatever their number."""
    for i in range(6):
        scene(i).save(folder / f"p{i}.png")
    scene(0).save(folder / "copy.png")
    scene(7, 320, 100).save(folder / "small.png")
    (folder / "art.psb").write_bytes(b"8BPS")
    (folder / "paint.KRA").write_bytes(b"")
    lines = call(folder, "--trigger", "my style").splitlines()
    gone, look = lines.index("Left out:"), lines.index("To look at:")
    assert lines[1].strip() == "2 files are of a kind that is not read; save them as PNG or JPEG: art.psb, paint.KRA"
    assert lines[gone + 1] == "  p0.png: the same picture as copy.png" and lines[look + 1].startswith("  small.png: small: 320x100")
    assert [line for line in lines if "no caption" in line] == [
        "7 pictures have no caption: copy.png, p1.png, p2.png, ... (the trigger word stands for it)"
    ]
    assert "--set 'trigger_word=my style'" in lines[-1]
    assert rows(folder / "metadata.csv")["p0.png"]["why"] == "the same picture as copy.png", "a picture that goes needs no caption"
    sheet = Image.open(folder / "contact-sheet.png").convert("RGB")
    assert sheet.getpixel((4, 100)) == (205, 205, 205), "with a trigger word, a missing caption is no flaw"


def test_captions_are_decoded_as_the_loader_decodes_them(folder):
    """The two bytes of one Chinese character are valid UTF-8 too: the other captions of the folder decide."""
    for i, text in enumerate(("一只猫坐在竹林里", "水墨画，山水", "一只")):
        (folder / f"{i}.txt").write_bytes(text.encode("gb18030"))
        scene(i).save(folder / f"{i}.png")
    output = call(folder)
    assert [row["text"] for row in rows(folder / "metadata.csv").values()] == ["一只猫坐在竹林里", "水墨画，山水", "一只"]
    assert "GB18030" in output


def test_only_pictures_of_other_kinds(folder):
    (folder / "a.psb").write_bytes(b"8BPS")
    assert "a.psb" in call(folder, fails=DataError)


def test_json_says_everything_and_nothing_else(folder):
    scene(1).save(folder / "a.png")
    scene(1).save(folder / "b.png")
    told = json.loads(call(folder, "--json"))
    assert (told["pictures"], told["keep"], told["left_out"]) == (2, 1, 1)
    assert {(f["file"], f["kind"], f["keep"]) for f in told["findings"]} >= {("b.png", "duplicate", False), ("a.png", "no_caption", True)}
    assert told["written"] == [str(folder / name) for name in ("metadata.csv", "contact-sheet.png", "findings.csv")]
    assert told["next"].startswith("loraforge check image") and str(folder) in told["next"]


def test_what_is_wrong_with_the_folder_is_said(tmp_path):
    assert "no such folder" in call(tmp_path / "none", fails=DataError)
    assert "no pictures" in call(tmp_path, fails=DataError)


def test_the_loader_honours_the_proposal(tmp_path, gallery, host):
    from loraforge.data.dataset import load_data
    from loraforge.plan import make_plan

    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a", "b"):
        scene(1).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"caption {name}", encoding="utf-8")
    (folder / "broken.png").write_bytes(b"")
    for arguments, data, metadata in (
        (["--out", tmp_path / "out1"], folder, tmp_path / "out1"),
        (["--copy-to", tmp_path / "out2"], tmp_path / "out2", None),
    ):
        call(folder, *arguments)
        settings = {"metadata_path": str(metadata / "metadata.csv")} if metadata else {}
        loaded = load_data(make_plan(host, "image", gallery(train_data_dir=str(data), eval_ratio=0, **settings)))
        assert [record.caption for record in loaded.records] == ["caption a"]


def test_what_people_said_of_a_picture_is_kept_when_called_again(folder):
    for name in ("a.png", "b.png"):
        scene(ord(name[0])).save(folder / name)
    call(folder, "--trigger", "mks")
    file = folder / "metadata.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([f"{lines[0]},审核人,是否通过", f"{lines[1]},李,通过", f"{lines[2]},,"]) + "\n", encoding="utf-8")
    call(folder, "--trigger", "mks", "--overwrite")
    table = rows(file)
    assert (table["a.png"]["reviewer"], table["a.png"]["approved"]) == ("李", "通过") and table["b.png"]["reviewer"] == ""
