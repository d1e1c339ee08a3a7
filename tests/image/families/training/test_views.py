# SPDX-License-Identifier: Apache-2.0
"""Which part of a picture is shown, and what SDXL is told of it: against coordinates that are read off the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loraforge_image.data.buckets import Bucket, fit
from loraforge_image.families.training.views import framing, views
from loraforge_image.records import ImageKeys, Picture
from PIL import Image


def test_the_places_that_are_drawn_from():
    """The middle first: it is what is measured."""
    keys = ImageKeys(flip=True, crop="random")
    found = views(Picture(where="", path="", sha256="a"), keys)
    places = [view[:2] for view in found[:4]]
    assert found == [(*place, mirrored) for mirrored in (False, True) for place in places]
    assert places[0] == (0.5, 0.5) and len(set(places)) == 4 and all(0 <= side < 1 for place in places for side in place)
    assert views(Picture(where="", path="", sha256="b"), keys)[1] not in found
    assert views(Picture(where="", path=""), ImageKeys()) == [(0.5, 0.5, False)]


def test_where_a_picture_comes_from_in_its_bucket():
    """100 x 50 pixels for 32 x 32: twice as wide as high, so that 32 of 64 columns are cut off, where the view says."""
    for place, left in ((0.0, 0), (0.25, 8), (0.5, 16), (1.0, 32)):
        found = framing((100, 50), Bucket(32, 32), (place, 0.5, False))
        assert (found.original, found.crop, found.target) == ((100, 50), (left, 0), (32, 32))
    assert framing((50, 100), Bucket(32, 48), (0.5, 0.75, True)).crop == (0, 12)


def test_the_published_example_of_a_mirrored_crop():
    """400 x 200 for 128 x 128 with nearly all that is cut off at the left: 126 columns; mirrored they are at the right, and 2 at the left."""
    assert framing((400, 200), Bucket(128, 128), (0.984, 0.5, False)).crop == (126, 0)
    assert framing((400, 200), Bucket(128, 128), (0.984, 0.5, True)).crop == (2, 0)


@given(
    st.integers(8, 40).map(lambda n: 8 * n),
    st.integers(8, 40).map(lambda n: 8 * n),
    st.floats(0, 1, exclude_max=True),
    st.booleans(),
)
def test_the_crop_of_a_mirrored_view_is_where_it_lies_in_the_mirrored_picture(width, height, place, tall):
    """Every column of the picture has its own number. Cropping and then mirroring is mirroring and then cropping at what is said."""
    bucket = Bucket(64, 64)
    size = (width, height)
    factor = max(64 / width, 64 / height)
    resized = (max(64, round(width * factor)), max(64, round(height * factor)))
    columns = np.tile(np.arange(resized[0], dtype=np.int32), (resized[1], 1))
    shown = fit(Image.fromarray(columns, "I"), bucket, (place, 0.5))  # of that size already: nothing is resized
    mirrored = np.asarray(shown)[:, ::-1]
    left, top = framing(size, bucket, (place, 0.5, True)).crop
    assert (mirrored == columns[:, ::-1][top : top + 64, left : left + 64]).all()
    left, top = framing(size, bucket, (place, 0.5, False)).crop
    assert (np.asarray(shown) == columns[top : top + 64, left : left + 64]).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_is_cut_off_at_the_top_stays_there(mirrored):
    assert framing((64, 200), Bucket(64, 64), (0.5, 0.25, mirrored)).crop == (0, 34)
