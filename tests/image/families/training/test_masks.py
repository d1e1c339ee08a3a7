# SPDX-License-Identifier: Apache-2.0
"""How much each place counts: numpy's own averages of the mask's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from loraforge_image.data.buckets import Bucket
from loraforge_image.families.training.masks import mask_of, weight_map
from loraforge_image.records import ImageKeys, Picture
from PIL import Image


def pattern(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("place", "left"), [(0.0, 0), (0.5, 16), (1.0, 32)])
@pytest.mark.parametrize("outside", [0.0, 0.1, 1.0])
def test_a_mask_is_averaged_over_each_latent_in_the_view_of_its_picture(place, left, mirrored, outside):
    pixels = pattern(96, 64)
    found = weight_map(Image.fromarray(pixels), Bucket(64, 64), (place, 0.5, mirrored), (4, 8, 8), outside)
    part = pixels[:, left : left + 64].astype(np.float64) / 255
    part = part[:, ::-1] if mirrored else part
    right = np.maximum(part.reshape(8, 8, 8, 8).mean(axis=(1, 3)), outside)
    assert found.shape == (1, 8, 8)
    np.testing.assert_allclose(found[0].numpy(), right, rtol=1e-5, atol=1e-6)


def test_values_between_count_in_proportion_and_video_has_one_more_axis():
    for value, weight in ((0, 0.1), (51, 0.2), (128, 128 / 255), (255, 1.0)):
        mask = Image.new("L", (40, 40), value)
        found = weight_map(mask, Bucket(32, 32), (0.5, 0.5, False), (16, 3, 4, 4), 0.1)
        assert found.shape == (1, 1, 4, 4)
        np.testing.assert_allclose(found.numpy(), weight, rtol=1e-6)


def test_where_a_mask_comes_from(tmp_path):
    picture = Image.new("RGBA", (20, 10), (255, 0, 0, 255))
    picture.putpixel((3, 2), (0, 0, 0, 0))
    picture.save(tmp_path / "a.png")
    Image.new("L", (20, 10), 77).save(tmp_path / "mask.png")
    row = Picture(where="a", path=str(tmp_path / "a.png"), mask=str(tmp_path / "mask.png"))
    bare = Picture(where="a", path=str(tmp_path / "a.png"))
    for mode in ("auto", "folder"):
        assert mask_of(row, ImageKeys(mask=mode), (20, 10)).getpixel((3, 2)) == 77
        assert mask_of(bare, ImageKeys(mask=mode), (20, 10)) is None
    assert mask_of(row, ImageKeys(mask="off"), (20, 10)) is None
    own = mask_of(row, ImageKeys(mask="alpha"), (20, 10))
    assert own.getpixel((3, 2)) == 0 and own.getpixel((4, 2)) == 255
