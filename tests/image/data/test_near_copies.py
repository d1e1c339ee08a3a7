# SPDX-License-Identifier: Apache-2.0
"""What is nearly a copy, and what only looks a little like it: made from drawings, night scenes, line art and noise."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from builders.drawings import BLUE, ORANGE, PURPLE, cat, cropped, other_hue, saved_again, strokes
from builders.image_checks import CYBERPUNK
from loraforge_image.data.near_copies import look, near_copies
from PIL import Image


def blocks(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 10, 3), dtype=np.uint8)).resize(
        (320, 288), Image.Resampling.NEAREST
    )


@functools.cache
def picture(name: str) -> Image.Image:
    makers = {
        "cat": cat,
        "small cat": lambda: cat(size=(480, 320), share=0.6, ground=(200, 220, 180)),
        "dark": lambda: cat(colour=(14, 18, 40), ground=(6, 6, 9)),
        "strokes": lambda: strokes(1),
        "blocks": lambda: blocks(3),
    }
    return makers[name]() if name in makers else Image.open(CYBERPUNK / f"{name}.png").convert("RGB")


PICTURES = ["cat", "small cat", "dark", "strokes", "blocks", "neon-01", "neon-05", "neon-09"]
COPIES = {
    "jpeg": saved_again,
    "webp": lambda image: saved_again(image, "WEBP", 40),
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "third": lambda image: image.resize((image.width // 3, image.height // 3), Image.Resampling.BICUBIC),
    "double": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BILINEAR),
    "border": lambda image: cropped(image, 0.05, 0.05, 0.05, 0.05),
    "left": lambda image: cropped(image, left=0.1),
    "corner": lambda image: cropped(image, left=0.08, top=0.08),
    "other shape": lambda image: cropped(image, left=0.055, right=0.055),
    "bottom": lambda image: saved_again(cropped(image, bottom=0.13), quality=70),
    "brighter": lambda image: image.point(lambda value: min(255, round(value * 1.06 + 3))),
}
OTHERS = {
    "hue": lambda image: other_hue(image, 90),
    "opposite hue": lambda image: other_hue(image, 180),
    "squeezed": lambda image: image.resize((image.width, round(image.height * 0.8))),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def alike(*images: Image.Image) -> list[list[int]]:
    return list(near_copies([look(image, image.size) for image in images]))


@pytest.mark.parametrize("name", PICTURES)
def test_copies_are_found_and_other_colours_and_proportions_are_none(name):
    image = picture(name)
    for change, make in COPIES.items():
        assert alike(image, make(image))[1] == [0] and alike(make(image), image)[1] == [0], change
    for change, make in OTHERS.items():
        if (name, change) in {("strokes", "hue"), ("strokes", "opposite hue")} or (name, "hue" in change) == ("dark", True):
            continue  # black and white, and nearly black, have no hue that could be seen
        if name in ("cat", "small cat", "dark") and change == "mirrored":
            continue  # but for its tail it is its own mirror image
        assert alike(image, make(image))[1] == [], change


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (cat(BLUE), cat(ORANGE)),
        (cat(BLUE), cat(PURPLE)),
        (cat(BLUE), cat(ORANGE, size=(320, 420))),
        (cat(BLUE), cat(PURPLE, size=(420, 320))),
        (cat(BLUE), cat(BLUE).resize((320, 400))),
        (cat(BLUE), cat(BLUE, pose="lies")),
        (cat(BLUE), cat(BLUE, at=(0.6, 0.5))),
        (cat(BLUE), cat(BLUE, share=0.7)),
        (cat(BLUE), cat(BLUE, ground=(250, 220, 180))),
        (cat(BLUE, size=(480, 320), share=0.5), cat(ORANGE, size=(480, 320), share=0.5)),
        (cat((90, 90, 90), (10, 10, 10)), cat((90, 90, 90), (10, 10, 10), pose="lies")),
        (strokes(1), strokes(2)),
        (blocks(1), blocks(2)),
        (Image.new("RGB", (300, 300), (200, 30, 30)), Image.new("RGB", (300, 300), (30, 30, 200))),
    ],
    ids=[
        "orange",
        "purple",
        "orange, high",
        "purple, wide",
        "stretched",
        "lies",
        "moved",
        "smaller",
        "ground",
        "small",
        "dark",
        "strokes",
        "blocks",
        "plain",
    ],
)
def test_what_shares_a_layout_is_no_copy(one, other):
    assert alike(one, other) == [[], []] and alike(other, one) == [[], []]


def test_the_shipped_pictures_are_none_of_each_other():
    images = [Image.open(path).convert("RGB") for path in sorted(CYBERPUNK.glob("neon-*.png"))]
    assert len(images) == 64 and alike(*images) == [[]] * 64


def test_the_most_alike_comes_first_and_mirror_images_are_looked_for_on_request():
    image = picture("neon-05")
    found = alike(image, blocks(1), cropped(image, left=0.1), saved_again(image, quality=90))
    assert found == [[], [], [0], [0, 2]]
    seen = [look(each, each.size) for each in (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), blocks(1))]
    assert list(near_copies(seen)) == [[], [], []]
    assert list(near_copies(seen, [one.mirror() for one in seen])) == [[], [0], []]
    assert list(near_copies([seen[0], None, seen[0]])) == [[], [], [0]] and list(near_copies([])) == []


def test_the_hash_is_that_of_imagehash():
    import imagehash

    image = picture("neon-09")
    assert f"{look(image, image.size).phash:016x}" == str(imagehash.phash(image))
    assert look(image, image.size).mirror().phash == look(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.size).phash


def test_hundreds_of_plain_pictures_take_no_time():
    """All have one hash, so that each is a candidate of each."""
    import time

    images = [Image.new("RGB", (64, 64), tuple(np.random.default_rng(seed).integers(0, 256, 3).tolist())) for seed in range(100)]
    seen = [look(image, image.size) for image in images] * 4
    started = time.process_time()
    found = list(near_copies(seen))
    assert time.process_time() - started < 5 and all(row - 100 in near for row, near in enumerate(found) if row >= 100)
