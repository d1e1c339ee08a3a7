# SPDX-License-Identifier: Apache-2.0
"""Colours as they are meant: profiles, transparency, depths. The right values are computed here, from the primaries and the curves."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from builders.icc import DISPLAY_P3, SRGB, cmyk_profile, grey_profile, png, psd, rgb_profile, tiff, to_xyz
from loraforge_image.data.pictures import read_picture
from PIL import Image

from loraforge import DataError

COLOUR = (200, 50, 50)


def seen(tmp_path, data: bytes, name: str = "a.png") -> np.ndarray:
    (tmp_path / name).write_bytes(data)
    return np.asarray(read_picture(tmp_path / name)).reshape(-1, 3).astype(int)


def curve(linear):
    """sRGB's curve (IEC 61966-2-1), from linear 0..1 to 0..255."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def from_p3(colour) -> np.ndarray:
    """A colour of Display P3 in sRGB, by the primaries."""
    value = np.array(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return curve(np.linalg.solve(np.array(to_xyz(SRGB)), np.array(to_xyz(DISPLAY_P3)) @ linear))


def on_white(colour, alpha: int) -> np.ndarray:
    return np.asarray(colour) * alpha / 255 + 255 - alpha


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def p3(mode: str, kind: str) -> tuple[bytes, np.ndarray]:
    """A picture of one Display P3 colour, half transparent where it can be, and what is to be seen."""
    image = Image.new("RGBA", (8, 8), (*COLOUR, 128)) if mode == "RGBA" else Image.new("RGB", (8, 8), COLOUR)
    image = image.quantize(4) if mode == "P" else image
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": "4:4:4"} if kind == "AVIF" else {}
    right = from_p3(COLOUR)
    return saved(image, kind, icc_profile=rgb_profile(), **lossless), on_white(right, 128) if mode == "RGBA" else right


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("RGBA", "TIFF"), ("P", "TIFF"), ("RGB", "WEBP"), ("RGBA", "WEBP"), ("RGBA", "AVIF")],
)
def test_a_drawing_in_display_p3_keeps_its_colours_however_it_is_kept(tmp_path, mode, kind):
    data, right = p3(mode, kind)
    assert np.abs(seen(tmp_path, data)[0] - right).max() <= (4 if kind == "AVIF" else 1.5)
    plain = on_white(COLOUR, 128) if mode == "RGBA" else np.array(COLOUR)
    assert np.abs(right - plain).max() > 8, "else nothing was asked"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "PA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_profile_with_red_and_blue_exchanged_exchanges_them(tmp_path, mode, kind):
    if (mode, kind) == ("PA", "PNG"):
        return
    image = Image.new("RGB", (2, 2), "red").convert(mode) if mode != "PA" else Image.new("RGB", (2, 2), "red").convert("P").convert("PA")
    options = {"icc_profile": rgb_profile(SRGB, order="bgr")}
    assert (abs(seen(tmp_path, saved(image, kind, **options)) - (0, 0, 255)) <= 1).all()


@pytest.mark.parametrize(
    ("data", "linear", "alpha"),
    [
        (png(1, 1, 8, 0, b"\0\x40", icc=grey_profile(1.0)), 64 / 255, 255),
        (png(1, 1, 8, 4, b"\0\x40\x80", icc=grey_profile(1.0)), 64 / 255, 128),
        (png(1, 1, 8, 0, b"\0\x40", icc=grey_profile(2.2)), (64 / 255) ** (563 / 256), 255),
        (png(1, 1, 16, 0, b"\0" + struct.pack(">H", 655), icc=grey_profile(1.0)), 655 / 65535, 255),
        (png(1, 1, 1, 0, b"\0\xff", icc=grey_profile(1.8)), 1.0, 255),
        (tiff(1, 1, 32, 1, struct.pack("<f", 0.01), kind=3, icc=grey_profile(1.0)), 0.01, 255),
    ],
    ids=["L", "LA", "gamma 2.2", "16 bits", "1 bit", "float"],
)
def test_greys_follow_their_profile_too(tmp_path, data, linear, alpha):
    """Of 16 bits and floats the profile sees all: rounded to 8 bits first, linear light of 0.01 would be 28 instead of 25."""
    assert np.abs(seen(tmp_path, data)[0] - on_white(curve(linear), alpha)).max() <= 1.5


def test_a_grey_picture_with_a_profile_for_colours(tmp_path):
    assert np.abs(seen(tmp_path, png(1, 1, 8, 0, b"\0\x40", icc=rgb_profile(gamma=1.0)))[0] - curve(64 / 255)).max() <= 1.5


def test_cmyk_follows_its_profile(tmp_path):
    """Full magenta and yellow are what the profile's table says: L 60, a 40, b 20."""
    profile = cmyk_profile(lambda c, m, y, k: (60, 40, 20) if (c, m, y, k) == (0, 1, 1, 0) else (100 - 90 * k, 0, 0))
    found = seen(tmp_path, saved(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF", icc_profile=profile), "a.tif")[0]
    fy = (60 + 16) / 116
    xyz = np.array([0.9642, 1.0, 0.8249]) * np.array([fy + 40 / 500, fy, fy - 20 / 200]) ** 3
    assert np.abs(found - curve(np.linalg.solve(np.array(to_xyz(SRGB)), xyz))).max() <= 2


KEY = struct.pack(">3H", 10, 20, 30)


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize(
    ("depth", "kind", "rows", "chunks", "grey"),
    [
        (8, 2, bytes([0, *COLOUR, 10, 20, 30]), {"tRNS": KEY}, False),
        (8, 3, bytes([0, 0, 1]), {"PLTE": bytes([*COLOUR, 10, 20, 30]), "tRNS": bytes([255, 0])}, False),
        (8, 3, bytes([0, 0, 1]), {"PLTE": bytes([*COLOUR, 10, 20, 30]), "tRNS": bytes([128, 0])}, False),
        (16, 2, b"\0" + struct.pack(">6H", *(257 * v for v in COLOUR), 10, 20, 30), {"tRNS": KEY}, False),
        (8, 0, bytes([0, 200, 10]), {"tRNS": struct.pack(">H", 10)}, True),
        (16, 0, b"\0" + struct.pack(">2H", 257 * 200, 300), {"tRNS": struct.pack(">H", 300)}, True),
        (2, 0, bytes([0, 0b10010000]), {"tRNS": struct.pack(">H", 1)}, True),
        (1, 0, bytes([0, 0b10000000]), {"tRNS": struct.pack(">H", 0)}, True),
    ],
    ids=["RGB", "P", "P half", "RGB16", "L", "I;16", "2 bits", "1 bit"],
)
def test_what_is_transparent_is_white_with_a_profile_and_without(tmp_path, depth, kind, rows, chunks, grey, profile):
    icc = {"icc": grey_profile(2.2) if grey else rgb_profile()} if profile else {}
    first, second = seen(tmp_path, png(2, 1, depth, kind, rows, **chunks, **icc))[:2]
    assert second.tolist() == [255, 255, 255]
    if not grey:
        right = from_p3(COLOUR) if profile else np.array(COLOUR)
        assert np.abs(first - on_white(right, 128 if b"\x80" in chunks["tRNS"] else 255)).max() <= 1.5


@pytest.mark.parametrize(
    ("name", "data", "right"),
    [
        ("a.tif", tiff(3, 1, 32, 1, struct.pack("<3f", 0, 0.25, 1), kind=3), (0, 64, 255)),
        ("a.tif", tiff(3, 1, 32, 0, struct.pack("<3f", 0, 0.25, 1), kind=3), (255, 191, 0)),
        ("a.png", png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0, 99, 255)), (0, 0, 1)),
        ("a.png", png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0, 257, 65535)), (0, 1, 255)),
        ("a.tif", tiff(3, 1, 16, 1, struct.pack("<3H", 0, 99, 65535)), (0, 0, 255)),
        ("a.tif", tiff(3, 1, 16, 0, struct.pack("<3H", 0, 99, 65535)), (255, 255, 0)),
        ("a.tif", tiff(2, 1, 12, 1, bytes([0xFF, 0xF8, 0x00])), (255, 128)),
        ("a.tif", tiff(3, 1, 32, 1, struct.pack("<3I", 0, 2**31, 2**32 - 1)), (0, 128, 255)),
        ("a.tif", tiff(3, 1, 32, 1, struct.pack("<3i", 0, 2**30, 2**31 - 1), kind=2), (0, 128, 255)),
        ("a.tif", tiff(3, 1, 16, 1, struct.pack("<3h", 0, 2**14, 2**15 - 1), kind=2), (0, 128, 255)),
        ("a.png", png(8, 1, 1, 0, b"\0\xa0"), (255, 0, 255)),
    ],
    ids=["float", "float, white is zero", "dark", "16", "16 tiff", "16 white is zero", "12", "u32", "s32", "s16", "1"],
)
def test_the_depth_says_what_is_white_and_not_the_brightest_pixel(tmp_path, name, data, right):
    assert seen(tmp_path, data, name)[: len(right), 0].tolist() == list(right)


def test_sixteen_bits_of_colour_and_lab(tmp_path):
    data = png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 65535, 32768, 0, 90, 90, 90))
    assert np.abs(seen(tmp_path, data) - [[255, 128, 0], [0, 0, 0]]).max() <= 1
    # sRGB's red under D50 is L 54.29, a 80.81, b 69.89 (Lindbloom).
    red = tiff(1, 1, 8, 8, bytes([round(54.29 * 2.55), 81, 70]), channels=3)
    assert np.abs(seen(tmp_path, red, "a.tif")[0] - (255, 0, 0)).max() <= 6


def floats(values) -> bytes:
    return tiff(10, 20, 32, 1, np.asarray(values, dtype="<f4").tobytes(), kind=3)


@pytest.mark.parametrize(("share", "fits"), [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize("value", [1.7, -0.4, np.inf, np.nan])
def test_a_few_highlights_are_cut_and_other_scales_are_refused(tmp_path, share, fits, value):
    """Of 200 pixels, two are 1 %."""
    values = np.full(200, 0.5)
    values[:share] = value
    if fits:
        found = seen(tmp_path, floats(values), "a.tif")
        assert found[0, 0] == (255 if value > 1 else 0) and (found[share:, 0] == 128).all()
    else:
        with pytest.raises(DataError, match="where 0 is black and 1 is white"):
            seen(tmp_path, floats(values), "a.tif")


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.tif", floats(np.linspace(0, 255, 200)), "numbers 0 - 255"),
        ("a.tif", floats(np.full(200, np.nan)), "NaN"),
        ("a.tif", tiff(2, 1, 16, 1, struct.pack("<2h", -5, 9), kind=2), "below 0"),
        ("a.tif", tiff(1, 1, 32, 2, struct.pack("<3f", 0, 0.5, 1), channels=3, kind=3), "TIFF file of a sort"),
        ("a.psd", psd([b"\xff\0" * 2] * 3, 2, 1, bits=16), "Photoshop file of a sort"),
        ("a.psd", psd([b"\xff\0"] * 3, 2, 1, merged=False), "maximized compatibility"),
    ],
)
def test_what_has_no_known_brightness_is_refused_with_its_numbers(tmp_path, name, data, told):
    with pytest.raises(DataError, match=told):
        seen(tmp_path, data, name)


def test_a_photoshop_file_shows_what_its_layers_make(tmp_path):
    plain = psd([b"\xc8\0", b"\x32\xff", b"\x32\0"], 2, 1)
    assert seen(tmp_path, plain, "a.psd").tolist() == [[200, 50, 50], [0, 255, 0]]
    assert np.abs(seen(tmp_path, psd([b"\xc8", b"\x32", b"\x32"], 1, 1, icc=rgb_profile()), "a.psd")[0] - from_p3(COLOUR)).max() <= 1.5
    # Photoshop puts the colours on white before it saves them; other programs leave them as they are.
    matted = psd([b"\xe3\xff", b"\x98\xff", b"\x98\xff", b"\x80\0"], 2, 1)
    assert seen(tmp_path, matted, "a.psd").tolist() == [[0xE3, 0x98, 0x98], [255, 255, 255]]
    bare = psd([b"\xc8\0", b"\x32\0", b"\x32\0", b"\x80\0"], 2, 1)
    assert np.abs(seen(tmp_path, bare, "a.psd") - [on_white(COLOUR, 128), (255, 255, 255)]).max() <= 1


@pytest.mark.parametrize("profile", [b"nonsense" * 30, grey_profile(1.0), rgb_profile()[:200]], ids=["nonsense", "of greys", "cut"])
def test_a_profile_that_cannot_be_used_is_as_good_as_none_and_is_known(tmp_path, profile):
    from loraforge_image.data.perceptual_hash import picture_info

    assert seen(tmp_path, png(1, 1, 8, 2, bytes([0, *COLOUR]), icc=profile)).tolist() == [list(COLOUR)]
    Image.new("RGB", (64, 64), COLOUR).save(tmp_path / "b.png", icc_profile=profile)
    assert picture_info(str(tmp_path / "b.png")).unprofiled
    Image.new("RGB", (64, 64), COLOUR).save(tmp_path / "c.png", icc_profile=rgb_profile())
    assert not picture_info(str(tmp_path / "c.png")).unprofiled


def test_what_was_read_can_be_saved_and_read_again(tmp_path):
    """A copy with the old profile beside converted colours would be converted once more."""
    data, right = p3("RGBA", "PNG")
    (tmp_path / "a.png").write_bytes(data)
    read_picture(tmp_path / "a.png").save(tmp_path / "b.png")
    assert np.abs(np.asarray(read_picture(tmp_path / "b.png"))[0, 0] - right).max() <= 1.5
