# SPDX-License-Identifier: Apache-2.0
"""Masks as painters keep them, and the transparency of pictures of every kind."""

from __future__ import annotations

import pytest
from loraforge_image.data.masks import has_alpha, read_alpha, read_mask
from PIL import Image

from loraforge import DataError


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "RGBA"])
def test_a_mask_is_read_whatever_its_kind(mode, tmp_path):
    mask = Image.new("L", (8, 4), 0)
    mask.paste(255, (4, 0, 8, 4))
    mask.convert(mode).save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png", (8, 4))
    assert (found.mode, found.getpixel((0, 0)), found.getpixel((7, 3))) == ("L", 0, 255)
    small = read_mask(tmp_path / "m.png", (80, 40))
    assert small.size == (80, 40) and (small.getpixel((39, 0)), small.getpixel((40, 0))) == (0, 255)


@pytest.mark.parametrize("size", [(4, 8), (8, 5), (100, 40)])
def test_a_mask_of_another_shape_is_named(size, tmp_path):
    Image.new("L", size).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=f"its mask m.png has another shape than the picture: {size[0]}x{size[1]} and 8x4"):
        read_mask(tmp_path / "m.png", (8, 4))
    assert read_mask(tmp_path / "m.png", size).size == size


def test_a_mask_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"its mask m\.png cannot be used: it is no picture"):
        read_mask(tmp_path / "m.png", (8, 4))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "tRNS", "turned"])
def test_transparency_is_read_the_right_way_up(kind, tmp_path):
    image = Image.new("RGBA", (6, 4), (10, 20, 30, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    file, more = tmp_path / "a.png", {}
    if kind == "LA":
        image = image.convert("LA")
    elif kind == "P":
        image = Image.new("P", (6, 4), 1)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.putpixel((0, 0), 0)
        more = {"transparency": 0}
    elif kind == "tRNS":
        image = Image.new("RGB", (6, 4), (9, 9, 9))
        image.putpixel((0, 0), (0, 0, 0))
        more = {"transparency": (0, 0, 0)}
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        more = {"exif": exif}
    image.save(file, **more)
    found = read_alpha(file)
    assert has_alpha(file) and found.mode == "L"
    if kind == "turned":
        assert found.size == (4, 6) and found.getpixel((3, 0)) == 0 and found.getpixel((0, 0)) == 255
    else:
        assert found.size == (6, 4) and found.getpixel((0, 0)) == 0 and found.getpixel((1, 0)) == 255


def test_a_picture_without_transparency_has_no_mask(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    assert read_alpha(tmp_path / "a.png") is None and not has_alpha(tmp_path / "a.png") and not has_alpha(tmp_path / "b.png")
    with pytest.raises(DataError):
        read_alpha(tmp_path / "b.png")


def test_what_a_targa_file_leaves_empty_is_no_transparency(tmp_path):
    Image.new("RGBA", (6, 4), (255, 0, 0, 0)).save(tmp_path / "a.tga")
    assert read_alpha(tmp_path / "a.tga") is None and not has_alpha(tmp_path / "a.tga")


def test_a_16_bit_grey_that_means_transparent_is(tmp_path):
    image = Image.new("I;16", (6, 4), 5000)
    image.putpixel((0, 0), 1000)
    image.save(tmp_path / "a.png", transparency=1000)
    found = read_alpha(tmp_path / "a.png")
    assert (found.getpixel((0, 0)), found.getpixel((1, 0))) == (0, 255)
